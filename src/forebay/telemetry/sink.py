"""Where log lines go: a bounded buffer, and a thread that writes it out in batches.

Whoever logs only appends to a deque.  A reader that is slow or gone costs lines, which are
counted, and never a request.
"""

import os
import threading
from collections import deque
from typing import Final

BATCH_LINES_MAX: Final = 1_000
"""Lines per write: at 400 bytes each 400 kB, so that a batch is copied within a millisecond."""

FLUSH_S: Final = 0.1
"""How long a line may lie in the buffer.  The thread wakes ten times a second and no oftener:
waking it per line would cost each request a lock and a switch of threads."""


class LineSink:
    """Takes lines without blocking; a thread of its own writes them."""

    def __init__(self, destination: str, lines_max: int) -> None:
        """Open `destination` (`stdout`, `stderr` or a file to append to); raises OSError."""
        self._fd, self._owned = _open(destination)
        self._lines_max = lines_max
        # The whole mutable state: what is to be written, how many lines were lost on each
        # side, and whether it is over.
        self._lines: deque[bytes] = deque()
        self._refused = 0
        self._unwritten = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    @property
    def terminal(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(self._fd)

    @property
    def dropped(self) -> int:
        """Lines lost since the start: the buffer was full, or they could not be written."""
        return self._refused + self._unwritten

    def put(self, line: bytes) -> None:
        """Take a line that ends with a newline, or drop it if the buffer is full."""
        if len(self._lines) >= self._lines_max:
            self._refused += 1
        else:
            self._lines.append(line)

    def stop(self, wait_s_max: float) -> None:
        """Write what is left, for at most `wait_s_max`; a reader that is stuck gets no more."""
        self._over.set()
        self._thread.join(wait_s_max)
        if self._owned and not self._thread.is_alive():
            os.close(self._fd)
            self._owned = False

    def _work(self) -> None:
        while not self._over.wait(FLUSH_S):
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while self._lines:
            size = min(len(self._lines), BATCH_LINES_MAX)
            lines = [self._lines.popleft() for _ in range(size)]
            try:
                _write(self._fd, b"".join(lines))
            except OSError:  # the pipe's reader has gone, or the disk is full
                self._unwritten += size


_STANDARD: Final = {"stdout": 1, "stderr": 2}


def _open(destination: str) -> tuple[int, bool]:
    if destination in _STANDARD:
        return _STANDARD[destination], False
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    return os.open(destination, flags, 0o640), True


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
