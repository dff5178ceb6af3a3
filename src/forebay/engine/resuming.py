"""What was handed out of an answer, so that another worker can go on where one was lost."""

from collections.abc import Sequence

from forebay.core.request import Delta, Made, Request, Sampling, TokenId
from forebay.engine.protocol import EngineInfo, Feature


class Passed:
    """Everything that was passed on of one answer.  Mutable state: a tally per choice."""

    __slots__ = ("_logprobs", "_tallies")

    def __init__(self, sampling: Sampling) -> None:
        """Start with nothing."""
        self._logprobs = sampling.logprobs
        self._tallies = [_Tally() for _ in range(sampling.choices)]

    @property
    def tokens(self) -> int:
        """Tokens counted, of all choices together."""
        return sum([tally.tokens for tally in self._tallies])

    def note(self, delta: Delta) -> None:
        """Add what one delta holds."""
        tally = self._tallies[delta.choice]
        tally.token_ids += delta.token_ids
        tally.characters += len(delta.text)
        tally.tokens += delta.tokens
        if delta.finish_reason is not None:
            tally.finished = True

    def keep(self, choice: int, token_ids: Sequence[TokenId]) -> None:
        """Add tokens that were made, and of which nothing was passed on."""
        self._tallies[choice].token_ids += token_ids

    def forget(self) -> int:
        """Forget what was made, as nothing was passed on; return how many tokens these are."""
        assert not self.tokens, "what was passed on cannot be taken back"
        forgotten = max([len(tally.token_ids) for tally in self._tallies])
        for tally in self._tallies:
            tally.token_ids.clear()
        return forgotten

    def made(self) -> tuple[Made, ...]:
        """Return where each choice stands; nothing, if nothing was made."""
        if self._logprobs:
            # Those of tokens that were not passed on are lost, so these are made again.
            for tally in self._tallies:
                del tally.token_ids[tally.tokens :]
        if not any(tally.token_ids or tally.finished for tally in self._tallies):
            return ()
        return tuple([tally.frozen() for tally in self._tallies])


class _Tally:
    """One choice.  Mutable state: what `Made` holds."""

    __slots__ = ("characters", "finished", "token_ids", "tokens")

    def __init__(self) -> None:
        self.token_ids: list[TokenId] = []
        self.characters = 0
        self.tokens = 0
        self.finished = False

    def frozen(self) -> Made:
        return Made(
            token_ids=tuple(self.token_ids),
            characters=self.characters,
            tokens=self.tokens,
            finished=self.finished,
        )


def can_resume(request: Request, info: EngineInfo) -> bool:
    """Whether an answer to this can be gone on with in its middle."""
    return bool(info.resumable) and uses(request.sampling) <= info.resumable


def uses(sampling: Sampling) -> frozenset[Feature]:
    """Return the features of sampling that an engine may be unable to take up again."""
    asked = {
        Feature.JSON_SCHEMA: sampling.grammar is not None,
        Feature.PRESENCE_PENALTY: sampling.presence_penalty != 0.0,
        Feature.FREQUENCY_PENALTY: sampling.frequency_penalty != 0.0,
        Feature.LOGPROBS: sampling.logprobs,
        Feature.STOP: bool(sampling.stop),
        Feature.CHOICES: sampling.choices > 1,
        Feature.TOKENS_MIN: sampling.tokens_min > 0,
    }
    return frozenset([feature for feature, is_asked in asked.items() if is_asked])
