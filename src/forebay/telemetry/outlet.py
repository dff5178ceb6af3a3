"""The ways out of the log: a stream that is open, a file that may be rotated, a TCP peer.

An outlet is told to write bytes, and says how many went.  It belongs to one thread, and that
thread may wait in it.  When an outlet begins anew (another file, another connection), whoever
writes begins with a whole line: `stream` is another number then.
"""

import contextlib
import errno
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

TCP: Final = "tcp://"
CONNECT_S_MAX: Final = 2.0
SEND_S_MAX: Final = 5.0
"""How long a peer may take nothing before the connection counts as dead."""

CLOSE_S_MAX: Final = 0.5
"""How long a peer may take to hang up after we did."""

WAIT_S: Final = (0.1, 5.0)
"""First and longest wait between attempts to connect; each is twice the one before."""

UNSENT_BYTES: Final = 262_144
"""What the kernel may hold for a TCP peer: about 400 lines, lost without a word if it resets."""


class Outlet(Protocol):
    """Where bytes go.

    1. `write` may take a part; it returns how many bytes went, and raises OSError if none can now.
    2. `stream` changes whenever what is written next has nothing before it.
    """

    stream: int

    def ready(self) -> bool:
        """See to it that something can be written; False: not now.  Must not raise."""

    def write(self, data: memoryview) -> int:
        """Write some of it."""

    def close(self) -> None:
        """Let go of it."""


class OpenStream:
    """Standard output or error: somebody else opened it and closes it."""

    stream = 0

    def __init__(self, descriptor: int) -> None:
        """Take a descriptor that is open."""
        self.descriptor = descriptor

    def ready(self) -> bool:
        """Nothing can be done for it."""
        return True

    def write(self, data: memoryview) -> int:
        """Write some of it."""
        return os.write(self.descriptor, data)

    def close(self) -> None:
        """Leave it open."""


class File:
    """A file that is appended to.  Whoever rotates it renames it: no signal is needed."""

    def __init__(self, path: str) -> None:
        """Open or make it; raises OSError."""
        self._path = path
        self.stream = 0
        self.descriptor = _opened(path)

    def ready(self) -> bool:
        """Go to the file that now has this name, if it is another; stay if that cannot be."""
        with contextlib.suppress(OSError):
            if self._moved():
                found = _opened(self._path)
                os.close(self.descriptor)
                self.descriptor, self.stream = found, self.stream + 1
        return True

    def _moved(self) -> bool:
        held = os.fstat(self.descriptor)
        if not stat.S_ISREG(held.st_mode):
            return False  # to open a pipe is to wait for its reader
        try:
            named = Path(self._path).stat()
        except FileNotFoundError:
            return True
        return (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino)

    def write(self, data: memoryview) -> int:
        """Write some of it; what a full disk refuses is offered again."""
        return os.write(self.descriptor, data)

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)


class Peer:
    """A TCP peer that takes JSON lines and says nothing: Logstash, rsyslog, Vector, Fluent Bit.

    It is connected to when there is something to write, and again after a wait that doubles.
    """

    def __init__(self, url: str, *, now: Callable[[], float] = time.monotonic) -> None:
        """Take `tcp://host:port`; raises ValueError.  Nothing is connected yet."""
        self._address = tcp_address(url)
        self._now = now
        # The whole mutable state: the connection, how many there were, and when to try again.
        self._socket: socket.socket | None = None
        self.stream = 0
        self._wait_s = WAIT_S[0]
        self._not_before = 0.0

    def ready(self) -> bool:
        """Connect if need be and if it is time; a peer that has hung up is left."""
        if self._socket is not None and self._left():
            self._part()
        if self._socket is None and self._now() >= self._not_before:
            with contextlib.suppress(OSError):
                self._connect()
            if self._socket is None:
                self._put_off()
        return self._socket is not None

    def _connect(self) -> None:
        found = socket.create_connection(self._address, CONNECT_S_MAX)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT_BYTES)
        found.settimeout(SEND_S_MAX)
        self._socket = found
        self.stream += 1

    def _left(self) -> bool:
        """Whether the peer has closed its side, by which it says that it reads no more."""
        assert self._socket is not None
        if not select.select([self._socket], [], [], 0)[0]:
            return False
        try:
            return not self._socket.recv(4096)  # what it says is nothing to us
        except OSError:
            return True

    def write(self, data: memoryview) -> int:
        """Send some of it; a peer that takes nothing for too long is left."""
        assert self._socket is not None
        try:
            sent = self._socket.send(data)
        except OSError:
            self._part()
            self._put_off()
            raise
        self._wait_s = WAIT_S[0]
        return sent

    def _put_off(self) -> None:
        self._not_before = self._now() + self._wait_s
        self._wait_s = min(2 * self._wait_s, WAIT_S[1])

    def _part(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Hang up.  What the kernel holds it still sends, if nothing that came lies unread."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            self._socket.settimeout(CLOSE_S_MAX)
            self._socket.shutdown(socket.SHUT_WR)
            while self._socket.recv(4096):
                pass
        self._part()


def opened(destination: str) -> OpenStream | File | Peer:
    """Return the way to `stdout`, `stderr`, `tcp://host:port` or a file.

    Raises OSError, or ValueError for an address that is none.
    """
    if destination in _STANDARD:
        return OpenStream(_STANDARD[destination])
    return Peer(destination) if destination.startswith(TCP) else File(destination)


_STANDARD: Final = {"stdout": 1, "stderr": 2}


def tcp_address(url: str) -> tuple[str, int]:
    """Return host and port of `tcp://host:port`; raises ValueError."""
    parts, port = urlsplit(url), None
    with contextlib.suppress(ValueError):
        port = parts.port
    if not parts.hostname or not port or parts.path or parts.query or parts.username:
        raise ValueError("It is not tcp://host:port.")
    return parts.hostname, port


def _opened(path: str) -> int:
    flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | flags, 0o640)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        # A pipe that nobody reads yet, for whom a start would wait without a word.  With its other
        # end in our own hand, lines wait in it instead.
        descriptor = os.open(path, os.O_RDWR | flags, 0o640)
    os.set_blocking(descriptor, True)
    return descriptor
