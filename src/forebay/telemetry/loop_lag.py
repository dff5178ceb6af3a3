"""How late the event loop wakes: the sign that it lacks CPU, or that something computes in it."""

import asyncio
from typing import Final

from forebay.core.clock import Clock

PERIOD_S: Final = 0.25
"""Between two measurements: rare enough to cost nothing, often enough to meet a stall."""


class LoopLag:
    """Rings at a set pace and notes the latest ring."""

    def __init__(self, now: Clock) -> None:
        """Measure on the clock `now`; nothing happens before `start`."""
        self._now = now
        # The whole mutable state: the worst since it was last taken, and the next ring.
        self._worst_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to ring in `loop`."""
        self._arm(loop)

    def stop(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()

    def take(self) -> float:
        """Return the worst lag since the last call, in seconds."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(PERIOD_S, self._ring, loop, self._now() + PERIOD_S)

    def _ring(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._worst_s = max(self._worst_s, self._now() - due)
        self._arm(loop)
