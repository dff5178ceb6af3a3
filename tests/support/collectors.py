"""Collectors that misbehave: each accepts connections and then does its one wrong thing."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.server import free_port

Misdeed = Callable[[socket.socket], None]


def _asked(connection: socket.socket) -> None:
    """Read what there is of a request, so that the misdeed is an answer to it."""
    connection.settimeout(5.0)
    connection.recv(65_536)


def silent(connection: socket.socket) -> None:
    """Read everything, and never answer."""
    connection.settimeout(None)
    while connection.recv(65_536):
        pass


def answering(status: str) -> Misdeed:
    """Answer with this status."""

    def misdeed(connection: socket.socket) -> None:
        _asked(connection)
        head = f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode())

    return misdeed


def babbling(connection: socket.socket) -> None:
    """Answer what is no protocol."""
    _asked(connection)
    connection.sendall(b"\x00\xffGARBAGE\r\n\r\n" * 100)


def endless(connection: socket.socket) -> None:
    """Answer 200 with a body that has no end."""
    _asked(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65_536)


def dripping(connection: socket.socket) -> None:
    """Answer a byte at a time."""
    _asked(connection)
    for byte in b"HTTP/1.1 200 OK\r\n" + b"x-filler: y\r\n" * 1_000:
        connection.sendall(bytes([byte]))
        threading.Event().wait(0.05)


def closing(connection: socket.socket) -> None:
    """Close without a word."""
    _asked(connection)


class Fault:
    """A misdeed that is replaced by another while the collector runs."""

    def __init__(self, misdeed: Misdeed) -> None:
        self.misdeed = misdeed

    def __call__(self, connection: socket.socket) -> None:
        self.misdeed(connection)


@contextmanager
def misbehaving(misdeed: Misdeed) -> Iterator[str]:
    """Listen, and do this to everybody who connects; yield the address."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            misdeed(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        thread.join(5.0)


@contextmanager
def refusing() -> Iterator[str]:
    """Yield an address at which nobody listens."""
    yield f"http://127.0.0.1:{free_port()}"


@contextmanager
def black_hole() -> Iterator[str]:
    """Listen with a full backlog: connections are neither accepted nor refused."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = listener.getsockname()
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            filler.connect(address)
        fillers.append(filler)
    try:
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        for filler in fillers:
            filler.close()
        listener.close()
