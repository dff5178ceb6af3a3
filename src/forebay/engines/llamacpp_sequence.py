"""One sequence: what is asked of llama.cpp for it, and what its lines mean."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from forebay.core.request import FinishReason, Sampling, TokenId
from forebay.engine.protocol import SequenceId, StepOutput
from forebay.engines.llamacpp_characters import SplitCharacters
from forebay.engines.llamacpp_completion import Asked, Told
from forebay.engines.llamacpp_server import Call


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What the tokens of a vocabulary are, beside text."""

    ends: frozenset[TokenId]
    """They end an answer."""
    silent: frozenset[TokenId]
    """They make no text; the library may end an answer with others of them than we do."""
    characters: SplitCharacters


@dataclass(slots=True, kw_only=True, eq=False)
class Generation:
    """A sequence at work.  Mutable state: its answer so far, and the call that goes on with it."""

    id: SequenceId
    prompt: Sequence[TokenId]
    sampling: Sampling
    schema: str | None
    made: list[TokenId]
    """Those that were made elsewhere included."""
    tokens_max: int
    tokens_min: int
    """Both counted as `made` is."""
    call: Call | None = None
    asked_endless: bool = False
    """The call was told that no token may end the answer."""
    told: int = 0
    """Tokens that the call has told of."""
    held: list[TokenId] = field(default_factory=list)
    """A token without text: whether it ends the answer is told in the next line."""

    @property
    def endless(self) -> bool:
        """Whether no token may end it yet."""
        return self.sampling.ignore_eos or len(self.made) < self.tokens_min

    @property
    def tokens_reserved(self) -> int:
        """How much of the KV cache it may use."""
        return len(self.prompt) + self.tokens_max

    def go_on(self) -> Asked:
        """Return what is to be asked now."""
        self.told = 0
        self.asked_endless = self.endless
        return Asked(
            prompt=self.prompt,
            made=self.made,
            tokens_max=self.tokens_max - len(self.made),
            endless=self.endless,
            schema=self.schema,
        )

    @property
    def may_end_now(self) -> bool:
        """Whether it has its least length, and was asked for without an end: ask anew."""
        return self.asked_endless and not self.endless and not self.held

    def hear(self, told: Told, marks: Marks) -> StepOutput | None:
        """Return what a line tells of it; None if nothing."""
        tokens = self._tokens(told, marks.characters)
        reason, hidden = self._reason(told, tokens, marks)
        self.made += tokens
        if not tokens and reason is None:
            return None
        return StepOutput(self.id, tokens, reason, tokens_hidden=hidden)

    def _tokens(self, told: Told, characters: SplitCharacters) -> list[TokenId]:
        """Return the tokens that are new, those that were kept silent of included."""
        lost = max(0, told.made - self.told - len(told.token_ids))
        self.told = max(self.told, told.made)
        tokens, self.held = self.held, []
        if lost and told.token_ids:
            tokens += characters.between(told.text, told.token_ids[0], lost)
        elif lost:
            tokens += characters.unknown(lost)
        return [*tokens, *told.token_ids]

    def _reason(
        self, told: Told, tokens: list[TokenId], marks: Marks
    ) -> tuple[FinishReason | None, int]:
        """Return why the answer ends, and how many tokens are hidden: they are taken off."""
        if told.stop_type is not None:
            if told.stop_type != "eos":
                return FinishReason.LENGTH, 0
            return FinishReason.STOP, _hide(tokens)
        if tokens and not told.text and tokens[-1] in marks.silent:
            if tokens[-1] in marks.ends and not self.endless:
                return FinishReason.STOP, _hide(tokens)
            self.held = [tokens.pop()]
        return None, 0


def _hide(tokens: list[TokenId]) -> int:
    """Take the token off that ended an answer; return how many that were."""
    return len([tokens.pop()]) if tokens else 0
