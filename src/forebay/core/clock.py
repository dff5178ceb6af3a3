"""Time as an argument: a clock is a function that returns monotonic seconds."""

import time
from collections.abc import Callable
from typing import Final

Clock = Callable[[], float]
"""Seconds of one process's monotonic clock; readings of two processes are never subtracted."""

MONOTONIC: Final[Clock] = time.monotonic


class ManualClock:
    """A clock that moves when it is told to: for tests and simulations."""

    def __init__(self, now: float = 0.0) -> None:
        """Start at `now` seconds."""
        self._now = now

    def __call__(self) -> float:
        """Return the present moment in seconds."""
        return self._now

    def advance(self, by_s: float) -> float:
        """Move forward by `by_s` seconds and return the new moment."""
        assert by_s >= 0.0, "a monotonic clock does not go back"
        self._now += by_s
        return self._now
