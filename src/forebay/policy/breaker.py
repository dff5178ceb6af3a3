"""Whether a part that others run is worth asking, so that its failure costs little and once.

Theory of operation
-------------------
CLOSED: everything is asked.  Each failure weighs one, each success takes a little of that
weight away; at `failures_max` the breaker opens.  A part that is gone opens it after so many
failures in a row; one that fails every tenth time opens it too, after a while.

OPEN: nothing is asked, so nobody waits for what does not answer.  After `rest_s` one probe
may go out, which is the keeper's own question and never a client's: HALF_OPEN.  Its answer
closes the breaker, its failure opens it for another `rest_s`.  Questions that were under way
when it opened change nothing when they end; only a probe can close it.
"""

import enum
from typing import Final

_FORGIVEN: Final = 0.1
"""Weight that one success takes away: fewer than one failure in eleven never opens."""


class BreakerState(enum.StrEnum):
    """Whether the part is asked: always, never, or by one probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Counts failures, opens, lets probes through, closes."""

    def __init__(self, *, failures_max: int, rest_s: float) -> None:
        """Open after so many failures in a row; probe each `rest_s` seconds while open."""
        assert failures_max >= 1
        assert rest_s > 0.0
        self._failures_max = failures_max
        self._rest_s = rest_s
        # The whole mutable state: where it is, the failures' weight, and two moments.
        self._state = BreakerState.CLOSED
        self._weight = 0.0
        self._opened: float | None = None
        self._rested = 0.0

    @property
    def state(self) -> BreakerState:
        """Where it is."""
        return self._state

    @property
    def closed(self) -> bool:
        """Whether clients' questions may be asked."""
        return self._state is BreakerState.CLOSED

    @property
    def opened(self) -> float | None:
        """When it last left CLOSED, monotonic seconds; None while it is closed."""
        return self._opened

    def succeeded(self) -> None:
        """Note that a client's question was answered."""
        if self._state is BreakerState.CLOSED:
            self._weight = max(0.0, self._weight - _FORGIVEN)

    def failed(self, now: float) -> bool:
        """Note that a client's question failed; return whether that opened the breaker."""
        if self._state is not BreakerState.CLOSED:
            return False
        self._weight += 1.0
        # Ten successes forgive one failure, up to the last bit of the sums of tenths.
        if self._weight < self._failures_max - _FORGIVEN / 2:
            return False
        self._state = BreakerState.OPEN
        self._opened = now
        self._rested = now + self._rest_s
        return True

    def probe_in_s(self, now: float) -> float:
        """Return the seconds until a probe may go out; 0 or less means now."""
        return self._rested - now

    def probe(self, now: float) -> bool:
        """Take leave to send the one probe; False if it is not its time."""
        if self._state is not BreakerState.OPEN or now < self._rested:
            return False
        self._state = BreakerState.HALF_OPEN
        return True

    def probed(self, now: float, *, answered: bool) -> None:
        """Settle what the probe found: asked again, or left alone for another rest."""
        assert self._state is BreakerState.HALF_OPEN, "there was no leave for a probe"
        if answered:
            self._state = BreakerState.CLOSED
            self._weight = 0.0
            self._opened = None
        else:
            self._state = BreakerState.OPEN
            self._rested = now + self._rest_s
