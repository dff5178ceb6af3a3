"""One request on a connection, and its answer: uvicorn's cycle, with ways past its messages.

An ASGI server takes an answer's head and body as two messages, checks every header's name, and
wakes the application for each piece of a body.  Most requests of ours arrive whole and are
answered whole: those need neither.  Streams, and the pages for people, go uvicorn's way.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from forebay.gateway.exchange import Act, Header

_CLOSE: Final = (b"connection", b"close")


class Cork:
    """A transport that gathers what is written in one turn of the loop.

    The only mutable state is what waits for the turn's end.  It is bounded by what a task
    writes without waiting: flow control acts when the turn ends.
    """

    __slots__ = ("_loop", "_pieces", "_transport", "_unsent_s_max")

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        *,
        unsent_s_max: float = 30.0,
    ) -> None:
        """Write to `transport`; once it is closed, what is unsent is dropped after that time."""
        self._transport = transport
        self._loop = loop
        self._unsent_s_max = unsent_s_max
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Gather a piece."""
        if not self._pieces:
            self._loop.call_soon(self.flush)
        self._pieces.append(data)

    def write_through(self, data: bytes) -> None:
        """Write what waits and this, now."""
        self._pieces.append(data)
        self.flush()

    def close(self) -> None:
        """Write what waits, and close once it is sent."""
        self.flush()
        if not self._transport.is_closing():
            unsent = self._transport.get_write_buffer_size()
            self._transport.close()
            if unsent:  # its reader may be slow for ever
                self._loop.call_later(self._unsent_s_max, self._transport.abort)

    def flush(self) -> None:
        """Write what waits."""
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the transport's own attributes
        return getattr(self._transport, name)


class Cycle(RequestResponseCycle):
    """A request and its answer; `Connected` to whoever serves it."""

    transport: Cork  # type: ignore[assignment]  # uvicorn knows no corks
    when_gone: Callable[[Act | None], None]
    """The connection's."""
    came: float = 0.0
    """When its head arrived, monotonic seconds."""
    opening: bytes = b""
    """The first lines of the head, already encoded: the server's own headers."""

    def is_clogged(self) -> bool:
        """Whether the client reads so slowly that a write would wait."""
        return self.flow.write_paused

    def arrived(self) -> bytes | None:
        """Take the body if all of it is here; otherwise it is to be received."""
        if self.more_body or self.disconnected or self.waiting_for_100_continue:
            return None
        body, self.body = bytes(self.body), bytearray()
        self.message_event.clear()
        self.flow.resume_reading()
        return body

    async def answer(
        self, status: int, headers: Iterable[Header], body: bytes, *, close: bool
    ) -> None:
        """Write a whole answer in one piece; `headers` say how long it is."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        self.response_started = True
        self.waiting_for_100_continue = False
        self.keep_alive = self.keep_alive and not close
        pieces = [STATUS_LINE[status], self.opening]
        for name, value in headers if self.keep_alive else (*headers, _CLOSE):
            if HEADER_VALUE_RE.search(value):
                raise ValueError("a header's value holds control characters")
            pieces += (name, b": ", value, b"\r\n")
        pieces += (b"\r\n", body)
        self.transport.write_through(b"".join(pieces))
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
