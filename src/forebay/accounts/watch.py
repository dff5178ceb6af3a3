"""Ends the wait for a server that holds a connection and says nothing.

A server that is stopped, or that waits for its disk, still acknowledges every packet: no timeout
of its own or of TCP's passes, and who asked would wait in a system call for ever.  A thread cuts
such a connection, and the driver then says that it was lost.
"""

import contextlib
import itertools
import os
import socket
import threading
import time
from typing import Final

_LOOKS: Final = 8
"""How often it looks within the limit: what hangs is cut an eighth late at most."""


class Watch:
    """Cuts connections that are used for longer than `limit_s`; safe to use from many threads."""

    def __init__(self, limit_s: float) -> None:
        """No thread runs before the first connection is watched."""
        self._limit_s = limit_s
        # The whole mutable state, under the lock: by number of the watch, a descriptor of our own
        # and since when it is used.  The driver may close its own descriptor at any time, and the
        # system give the same number to somebody else's connection.
        self._lock = threading.Lock()
        self._used: dict[int, tuple[int, float]] = {}
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def enter(self, descriptor: int) -> int:
        """Watch a connection from now on; return what `leave` takes."""
        ours = os.dup(descriptor)
        with self._lock:
            number = next(self._numbers)
            self._used[number] = (ours, time.monotonic())
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._look, name="forebay-accounts-watch", daemon=True
                )
                self._thread.start()
        return number

    def leave(self, number: int) -> None:
        """Watch it no more; it may have been cut meanwhile."""
        with self._lock:
            ours, _ = self._used.pop(number, (None, None))
        if ours is not None:
            os.close(ours)

    def close(self) -> None:
        """End the thread."""
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(self._limit_s / _LOOKS):
            with self._lock:
                limit = time.monotonic() - self._limit_s
                hung = [number for number, (_, since) in self._used.items() if since < limit]
                descriptors = [self._used.pop(number)[0] for number in hung]
            for ours in descriptors:
                _cut(ours)


def _cut(ours: int) -> None:
    """Shut a connection down under whoever waits on it, and close our descriptor of it."""
    with socket.socket(fileno=ours) as connection, contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
