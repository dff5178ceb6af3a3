"""A sequence that grows token by token, where the batch is ours and not a library's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from forebay.core.request import FinishReason, Sampling, TokenId
from forebay.engine.protocol import SequenceId, StepOutput


@dataclass(slots=True, eq=False, kw_only=True)
class GrowingSequence:
    """One sequence.  Mutable state: its tokens."""

    id: SequenceId
    tokens: list[TokenId]
    """Prompt and answer."""
    prompt_tokens: int
    """Where the answer begins in `tokens`; what another engine made is part of the answer."""
    end_least: int
    """Length before which it does not end by itself."""
    end_most: int
    """Length at which it ends."""
    sampling: Sampling

    @classmethod
    def begun(
        cls,
        id: SequenceId,
        prompt: Sequence[TokenId],
        sampling: Sampling,
        *,
        made: Sequence[TokenId] = (),
    ) -> Self:
        """Return a sequence as a worker submits it."""
        assert sampling.tokens_max is not None, "set by the worker"
        tokens = [*prompt, *made]
        return cls(
            id=id,
            tokens=tokens,
            prompt_tokens=len(prompt),
            end_least=len(tokens) + sampling.tokens_min,
            end_most=len(tokens) + sampling.tokens_max,
            sampling=sampling,
        )

    @property
    def made(self) -> Sequence[TokenId]:
        """Return the answer so far."""
        return self.tokens[self.prompt_tokens :]

    def banned(self, ends: frozenset[TokenId]) -> Sequence[TokenId]:
        """Return which of the tokens that end an answer must not come next: it is too short."""
        early = len(self.tokens) < self.end_least and not self.sampling.ignore_eos
        return sorted(ends) if early else ()

    def grow(
        self, token: TokenId, logprob: float | None, *, ends: frozenset[TokenId]
    ) -> StepOutput:
        """Add a token, and return what a worker is told of it; None: its odds were not wished."""
        self.tokens.append(token)
        if token in ends and not self.sampling.ignore_eos:
            return StepOutput(
                id=self.id, token_ids=(), finish_reason=FinishReason.STOP, tokens_hidden=1
            )
        ended = len(self.tokens) >= self.end_most
        return StepOutput(
            id=self.id,
            token_ids=(token,),
            finish_reason=FinishReason.LENGTH if ended else None,
            logprobs=() if logprob is None else (logprob,),
        )
