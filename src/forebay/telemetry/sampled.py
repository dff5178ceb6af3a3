"""Readings that may take long, made in a thread: nobody who wants one waits for it.

A file system or a driver that hangs keeps its own thread, and no other; what was read before
counts for a while, then there is no reading.
"""

import threading
from collections.abc import Callable
from typing import Final, Generic, Self, TypeVar

from forebay.core.clock import Clock

Reading = TypeVar("Reading")

_STALE_PERIODS: Final = 3
"""After so many periods without a new reading there is none: two may be late on a busy machine."""
_STOP_S_MAX: Final = 1.0
"""How long the end waits for the thread; one that hangs ends with the process."""


class Sampled(Generic[Reading]):
    """Calls `read` at a set pace, for as long as its scope lasts.

    1. `latest` never waits, and returns None where there is no reading of late.
    2. `read` may take as long as it likes and is never called twice at once.
    3. If it raises OSError or ValueError, that is no reading, and it is called again.
    """

    def __init__(
        self, read: Callable[[], Reading], *, period_s: float, now: Clock, name: str
    ) -> None:
        """Read nothing yet."""
        self._read = read
        self._period_s = period_s
        self._now = now
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        # The whole mutable state, replaced as one: the newest reading, and when it was made.
        self._newest: tuple[Reading, float] | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_STOP_S_MAX)

    def latest(self) -> Reading | None:
        """Return the newest reading; None: there is none, or it is too old."""
        newest = self._newest
        if newest is None or self._now() - newest[1] > _STALE_PERIODS * self._period_s:
            return None
        return newest[0]

    def _work(self) -> None:
        while True:
            self._sample()
            if self._over.wait(self._period_s):
                return

    def _sample(self) -> None:
        try:
            self._newest = self._read(), self._now()
        except (OSError, ValueError):
            return  # what was read before counts for a while; the next one may do
