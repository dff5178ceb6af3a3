"""How late the event loop wakes: the sign that it lacks CPU, or that something computes in it.

A ring that comes late tells of a *stall*: from the moment at which it was due to the moment at
which it came, the loop did not turn.  What began before the ring was due is not seen of it: each
stall is told up to `PERIOD_S` too short, and one that falls between two rings not at all.
"""

import asyncio
from collections import deque
from typing import Final

from forebay.core.clock import Clock

PERIOD_S: Final = 0.02
"""Between two measurements: the error of a stall's length.  Each costs 28 us on an idle server,
whose loop it wakes: 0.14 % of a core.  A busy one turns anyway."""
STALL_S_MIN: Final = 0.005
"""A ring that is later tells of a stall; timers are exact to 1 ms, and a turn full of requests
takes 3."""
_STALLS_MAX: Final = 512
"""Stalls that are remembered: 10 s of a loop that does nothing else."""


class LoopLag:
    """Rings at a set pace, notes the latest ring, and remembers the latest stalls."""

    def __init__(self, now: Clock) -> None:
        """Measure on the clock `now`; nothing happens before `start`."""
        self._now = now
        # The whole mutable state: the worst since it was last taken, the next ring and when it is
        # due, and recent stalls, each with its beginning and its end.
        self._worst_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        self._stalls: deque[tuple[float, float]] = deque(maxlen=_STALLS_MAX)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to ring in `loop`."""
        self._arm(loop)

    def stop(self) -> None:
        """Ring no more."""
        self._due = float("inf")
        if self._timer is not None:
            self._timer.cancel()

    def take(self) -> float:
        """Return the worst lag since the last call, in seconds."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    def before_s(self, now: float) -> float:
        """Return how long ago the stall began that is going on or has just ended; 0: there is none.

        What is read right after a stall may have come during it.
        """
        if now - self._due > STALL_S_MIN:
            return now - self._due
        if self._stalls and now - self._stalls[-1][1] < PERIOD_S:
            return now - self._stalls[-1][0]
        return 0.0

    def overdue_s(self, now: float) -> float:
        """Return for how long the next ring has been due, seconds."""
        return max(0.0, now - self._due)

    def stalled_s(self, since: float, until: float) -> float:
        """Return how much of that time the loop did not turn, seconds; see above."""
        total_s = 0.0
        if until - self._due > STALL_S_MIN:
            total_s = until - max(since, self._due)
        for began, ended in reversed(self._stalls):
            if ended <= since:
                break
            total_s += max(0.0, min(ended, until) - max(began, since))
        return total_s

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = self._now() + PERIOD_S
        self._timer = loop.call_later(PERIOD_S, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._now()
        late_s = now - self._due
        self._worst_s = max(self._worst_s, late_s)
        if late_s > STALL_S_MIN:
            self._stalls.append((self._due, now))
        self._arm(loop)
