"""One HTTP/1.1 connection to an upstream: strict, bounded, and closed rather than guessed at.

Theory of operation
-------------------
llhttp (httptools) parses, in its strict mode: it refuses both a length and chunks, two lengths,
bare line feeds, folded headers, sizes that overflow.  Here is what it leaves open: how long a head
may be, which codings there are (chunks and nothing else), what no client of ours asked for
(bytes between answers, a second answer, another protocol).  Any of it ends the connection.

One request at a time:

    IDLE     nothing was asked; a byte that comes closes the connection
    HEAD     asked; nothing of the answer, or part of its head, is there
    BODY     the head is there
    WHOLE    so is the body; it may be asked again if the server keeps it open
    BROKEN   for good; `fault` says why

A reader that is slower than the server leaves bytes unread; from `unread_bytes_max` on the
socket is not read either, so the server feels it.
"""

import asyncio
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import httptools

from forebay.engines.upstream_fault import Fault, Reason

_FINAL: Final = 200
"""Statuses below it announce another answer."""


class State(enum.Enum):
    """How far the answer is."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    WHOLE = enum.auto()
    BROKEN = enum.auto()


@dataclass(slots=True)
class Head:
    """What is known of an answer before its body."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """Lower-case names; of several with one name the last, but lengths and codings are unique."""

    def text(self, name: bytes) -> str:
        """Return a header's value, or an empty text."""
        return self.headers.get(name, b"").decode("latin-1")


class Connection(asyncio.Protocol):
    """One connection.  Mutable state: the answer that is under way, and who waits for it."""

    def __init__(self, *, head_bytes_max: int, unread_bytes_max: int) -> None:
        """Bound the heads of answers, and what waits to be read."""
        self._head_bytes_max = head_bytes_max
        self._unread_bytes_max = unread_bytes_max
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._state = State.IDLE
        self.fault: Fault | None = None
        self._head = Head()
        self._head_bytes = self._header_bytes = 0
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._paused = False
        self._until_closed = False
        """The body has neither length nor chunks: it ends with the connection."""
        self._keeps = False
        self._settled: Settled | None = None
        self.answers = 0
        """Answers that were read whole: a used connection may be stale."""
        self.since = 0.0
        """When it was last given back, for whoever keeps it."""

    def __repr__(self) -> str:
        return f"<Connection {self._state.name} answers={self.answers} fault={self.fault}>"

    @property
    def whole(self) -> bool:
        """Whether all of the answer has come."""
        return self._state is State.WHOLE

    @property
    def reusable(self) -> bool:
        """Whether it may be asked again: nothing is owed in either direction."""
        transport = self._transport
        return (
            self._state in (State.IDLE, State.WHOLE)
            and self._keeps
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    # For whoever asks.

    def ask(self, *parts: bytes) -> None:
        """Send a request; then await `head` and `read`.  Raises Fault if it cannot be sent."""
        assert self._transport is not None
        if self._state is State.BROKEN or self._transport.is_closing():
            raise self.fault or Fault(Reason.STALE)
        assert self._state in (State.IDLE, State.WHOLE), "one request at a time"
        self._state = State.HEAD
        self._head, self._head_bytes, self._header_bytes = Head(), 0, 0
        self._unread, self._unread_bytes = [], 0
        self._until_closed = self._keeps = False
        self._transport.write(b"".join(parts))

    async def head(self) -> Head:
        """Return status and headers; raises Fault."""
        while self._state is State.HEAD:
            await self._wait()
        if self._state is State.BROKEN and not self._head.status:
            raise self.fault or Fault(Reason.CLOSED)
        return self._head

    async def read(self) -> bytes:
        """Return what has come of the body since, at least a byte; nothing at its end.

        Raises Fault where it breaks off, after what came before.
        """
        while not self._unread:
            if self._state is State.WHOLE:
                return b""
            if self._state is State.BROKEN:
                raise self.fault or Fault(Reason.CLOSED)
            await self._wait()
        unread = self._unread
        data = unread[0] if len(unread) == 1 else b"".join(unread)
        self._unread, self._unread_bytes = [], 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def settle(self, then: "Settled") -> None:
        """Read the end of an answer that holds nothing more; `then` is called when it is there.

        Anything but blank lines closes the connection.
        """
        self._settled = then
        if b"".join(self._unread).strip():
            self.abort(Fault(Reason.UNASKED, "text after the end"))
        else:
            self._wake()

    async def _wait(self) -> None:
        assert self._waiter is None, "one reader at a time"
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def abort(self, fault: Fault | None = None) -> None:
        """Close at once; whoever waits gets the fault."""
        if self._state is not State.BROKEN:
            self._state = State.BROKEN
            self.fault = fault or Fault(Reason.CLOSED)
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # For the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from neither
        self._keeps = True

    def data_received(self, data: bytes) -> None:
        """Read on."""
        state = self._state
        if state not in (State.HEAD, State.BODY):
            self.abort(Fault(Reason.UNASKED))
            return
        if state is State.HEAD:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort(Fault(Reason.NOT_HTTP, str(error)))
            return
        if self._state is State.HEAD and self._head_bytes > self._head_bytes_max:
            self._fail_long()
            return
        if self._unread_bytes > self._unread_bytes_max and not self._paused:
            self._pause()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end; a body that has no other end is whole now."""
        if self._state is State.BODY and self._until_closed and exc is None:
            self._state, self._keeps = State.WHOLE, False
        elif self._state is not State.BROKEN:
            stale = self._state in (State.IDLE, State.WHOLE) or (
                self._state is State.HEAD and self.answers > 0 and not self._head_bytes
            )
            self._keeps = False
            if self._state is not State.WHOLE:
                self._state = State.BROKEN
            self.fault = Fault(Reason.STALE if stale else Reason.CLOSED)
        self._transport = None
        self._wake()

    def _fail_long(self) -> None:
        self.abort(Fault(Reason.TOO_LONG, f"a head of over {self._head_bytes_max} bytes"))

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _wake(self) -> None:
        waiter, settled = self._waiter, self._settled
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if settled is not None and self._state in (State.WHOLE, State.BROKEN):
            self._settled = None
            settled(self)

    # For the parser.

    def on_message_begin(self) -> None:
        """Begin an answer: the one that was asked for, or the one after an announcement."""
        if self._state is not State.HEAD:
            self.abort(Fault(Reason.UNASKED))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are nobody's."""
        if self._state is not State.HEAD:
            return
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > self._head_bytes_max:
            self._fail_long()
            return
        name = name.lower()
        if name in _UNIQUE and name in self._head.headers:
            self.abort(Fault(Reason.NOT_HTTP, f"two headers {name.decode()}"))
            return
        self._head.headers[name] = value

    def on_headers_complete(self) -> None:
        """Judge the head."""
        status = self._parser.get_status_code()
        if self._state is not State.HEAD or status < _FINAL:
            return
        headers = self._head.headers
        coding = headers.get(b"transfer-encoding", b"").lower()
        if self._parser.get_http_version() not in ("1.1", "1.0"):
            self.abort(Fault(Reason.NOT_HTTP, "neither HTTP/1.1 nor HTTP/1.0"))
        elif coding not in (b"", b"chunked"):
            self.abort(Fault(Reason.NOT_HTTP, "a transfer coding that nobody asked for"))
        elif headers.get(b"content-encoding", b"identity").lower() != b"identity":
            self.abort(Fault(Reason.NOT_HTTP, "a content coding that nobody asked for"))
        else:
            self._until_closed = not coding and b"content-length" not in headers
            self._head.status = status
            self._state = State.BODY

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._settled is not None and body.strip():
            self.abort(Fault(Reason.UNASKED, "text after the end"))
        elif self._state is State.BODY:
            self._unread.append(body)
            self._unread_bytes += len(body)

    def on_message_complete(self) -> None:
        """End the answer, or what announced it."""
        if self._state is State.HEAD:
            self._head.headers.clear()  # 100 or 103: the real one follows, within the same bounds
        elif self._state is State.BODY:
            self._state = State.WHOLE
            self._keeps = self._parser.should_keep_alive()
            self.answers += 1


Settled = Callable[[Connection], None]

_UNIQUE: Final = frozenset({b"transfer-encoding", b"content-length", b"content-type"})
