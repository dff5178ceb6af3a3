"""Log lines on their way out: a bounded buffer, and a thread that writes it in batches.

Whoever logs only appends to a deque.  A reader that is slow, full or gone costs lines, which are
counted, and never a request.

*Theory of operation.*  Lines are in one of three places: the buffer, the batch at hand, or
written.  The batch at hand stays at hand until all of it went: what a full disk or a peer that
has left did not take is offered again, from the byte where it stopped, or, on another file or
connection, from the beginning of the line in which it stopped.  So no line is torn where another
follows it.  The only place where lines are lost is the door of the buffer, when it is full, and
the end of the program.
"""

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from forebay.telemetry.outlet import File, OpenStream, Outlet, opened

BATCH_LINES_MAX: Final = 1_000
"""Lines per write: at 900 bytes each 900 kB, so that a batch is copied within a millisecond."""

FLUSH_S: Final = 0.1
"""How long a line may lie in the buffer.  The thread wakes ten times a second and no oftener:
waking it per line would cost each request a lock and a switch of threads."""


class LineSink:
    """Takes lines without blocking; a thread of its own writes them."""

    def __init__(
        self, destination: str, lines_max: int, *, beat: Callable[[], object] = lambda: None
    ) -> None:
        """Open `destination`: `stdout`, `stderr`, `tcp://host:port` or a file to append to.

        `beat` is called by the thread each time it wakes.  Raises OSError, or ValueError for an
        address that is none.
        """
        self._outlet: Outlet = opened(destination)
        self._lines_max = lines_max
        self._beat = beat
        # The whole mutable state: what is to be written; the batch at hand, how many of its
        # bytes went, and on which stream; lines counted; and whether it is over.
        self._lines: deque[bytes] = deque()
        self._batch: list[bytes] = []
        self._went = 0
        self._stream = self._outlet.stream
        self._refused = 0
        self._left = 0
        self.sent = 0
        """Lines that went out whole since the start."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    @property
    def terminal(self) -> bool:
        """Whether a person reads it."""
        outlet = self._outlet
        return isinstance(outlet, OpenStream | File) and os.isatty(outlet.descriptor)

    @property
    def dropped(self) -> int:
        """Lines lost since the start: the buffer was full, or the program ended before."""
        return self._refused + self._left

    def put(self, line: bytes) -> None:
        """Take a line that ends with a newline, or drop it if the buffer is full."""
        if len(self._lines) >= self._lines_max:
            self._refused += 1
        else:
            self._lines.append(line)

    def stop(self, wait_s_max: float) -> None:
        """Write what is left, for at most `wait_s_max`; a reader that is stuck gets no more."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join(wait_s_max)
        self._left = len(self._lines) + len(self._batch)
        if not self._thread.is_alive():
            self._outlet.close()

    def _work(self) -> None:
        while not self._over.wait(FLUSH_S):
            self._beat()
            self._flush()
        self._flush()

    def _flush(self) -> None:
        while self._batch or self._lines:
            if not self._outlet.ready():
                return
            if self._stream != self._outlet.stream:
                self._begin_anew()
            if not self._batch:
                size = min(len(self._lines), BATCH_LINES_MAX)
                self._batch = [self._lines.popleft() for _ in range(size)]
            try:
                self._write()
            except OSError:  # its reader has gone, or the disk is full: offered again, later
                return

    def _write(self) -> None:
        data = memoryview(b"".join(self._batch))
        while self._went < len(data):
            self._went += self._outlet.write(data[self._went :])
        self.sent += len(self._batch)
        self._batch, self._went = [], 0

    def _begin_anew(self) -> None:
        """Keep of the batch at hand what did not go whole: another stream begins with a line."""
        self._stream = self._outlet.stream
        whole = 0
        while self._batch and self._went >= len(self._batch[0]):
            self._went -= len(self._batch.pop(0))
            whole += 1
        self._went = 0
        self.sent += whole
