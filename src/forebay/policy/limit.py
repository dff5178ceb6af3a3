"""How many sequences run at once: fixed, or found by what the engine can do well.

The engine's own batch is the most that makes sense.  Below it the best number depends on the
model, the machine and its other work: each more sequence makes every token of all later.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from forebay.policy.ticket import Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one finished request says about the engine."""

    admitted: float
    """When it was let in, monotonic seconds."""
    first_token_s: float
    """From the engine's receipt to the first token, seconds."""
    tpot_s: float | None
    """Seconds per token after the first; None below two tokens."""
    running: int
    """Sequences that ran when it ended, itself included."""


def sample_of(ticket: Ticket, running: int) -> Sample | None:
    """Return what a ticket that leaves says of its engine; None where it was not measured."""
    finished = ticket.finished
    if finished is None or finished.timing.first_token_s is None:
        return None
    gaps = finished.usage.completion_tokens / ticket.size - 1
    decode_s = finished.timing.decode_s
    return Sample(
        admitted=ticket.admitted,
        first_token_s=finished.timing.first_token_s,
        tpot_s=None if decode_s is None or gaps < 1 else decode_s / gaps,
        running=running,
    )


class Limit(Protocol):
    """How many sequences may run at once.

    1. `current` is at least 1, and never above the most that the limit was made with.
    2. It changes in `sample` only.
    """

    @property
    def current(self) -> int:
        """How many may run now."""

    def sample(self, sample: Sample, now: float) -> None:
        """Learn from a request that has finished."""


class FixedLimit:
    """A number that somebody chose."""

    __slots__ = ("current",)

    def __init__(self, running_max: int) -> None:
        """Let `running_max` run."""
        assert running_max >= 1
        self.current = running_max

    def sample(self, sample: Sample, now: float) -> None:
        """Learn nothing."""


_FEWER: Final = 0.8
"""What is left after a decrease; 0.9 is usual where a sample is cheap, here it is a request."""


class AimdLimit:
    """Additive increase, multiplicative decrease, as congestion control does.

    Each sample within both targets adds one place per round, where a round is as many samples
    as there are places; one beyond a target takes a fifth away, once: those let in before the
    decrease tell of what was, and are not heard.  It grows only while it is being used.
    """

    def __init__(self, running_max: int, *, first_token_s: float, tpot_s: float) -> None:
        """Stay between 1 and `running_max`; the targets are seconds."""
        assert running_max >= 1
        self._running_max = running_max
        self._first_token_s = first_token_s
        self._tpot_s = tpot_s
        # The whole mutable state: the limit with its fraction, and when it was last lowered.
        self._limit = float(running_max)
        self._lowered: float | None = None

    @property
    def current(self) -> int:
        """How many may run now."""
        return int(self._limit)

    def sample(self, sample: Sample, now: float) -> None:
        """Raise or lower the limit by what one request saw."""
        if self._lowered is not None and sample.admitted < self._lowered:
            return
        late = sample.first_token_s > self._first_token_s
        slow = sample.tpot_s is not None and sample.tpot_s > self._tpot_s
        if late or slow:
            self._limit = max(1.0, self._limit * _FEWER)
            self._lowered = now
        elif sample.running * 2 >= self._limit:
            self._limit = min(float(self._running_max), self._limit + 1.0 / self._limit)
