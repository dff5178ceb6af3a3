"""One client's connection: uvicorn's HTTP protocol, writing once per turn of the loop.

uvicorn writes an answer's head and its body apart, and uvloop hands each write to the kernel at
once.  Joined, they cost one system call and one packet.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from forebay.gateway.exchange import GONE

_NOT_HTTP: Final = (
    b'{"error":{"message":"This is not a valid HTTP request.",'
    b'"type":"invalid_request_error","param":null,"code":"invalid_request"}}'
)


PIPELINED_MAX: Final = 32
"""Requests that may wait behind another on one connection; a client with more is cut."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol over a corked transport.

    It tells the request that is served when the client has gone, so that none needs a task to
    listen for that; and what is not HTTP is refused in our shape.
    """

    _act: Callable[[], None] | None = None
    _gone = False

    def when_gone(self, act: Callable[[], None] | None) -> None:
        """Call `act` once the client has gone, or at once if it has; None: call nothing."""
        self._act = act
        if act is not None:
            self.flow.resume_reading()  # a socket that is not read does not tell its end
            if self._gone:
                act()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is served."""
        super().connection_lost(exc)
        self._gone = True
        if self._act is not None:
            self._act()

    def on_message_begin(self) -> None:
        """Let the next request find this connection."""
        super().on_message_begin()
        self.scope["extensions"] = {GONE: self}  # type: ignore[dict-item]  # ours is an object

    def on_headers_complete(self) -> None:
        """Bound what a client may send ahead."""
        super().on_headers_complete()
        if len(self.pipeline) > PIPELINED_MAX:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the cork in."""
        super().connection_made(cast("asyncio.Transport", _Cork(transport, self.loop)))

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is replaced
        """Refuse what cannot be parsed, and close."""
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_NOT_HTTP), _NOT_HTTP)
        )
        self.transport.close()


class _Cork:
    """A transport that gathers what is written in one turn of the loop.

    The only mutable state is what waits for the turn's end.  It is bounded by what a task
    writes without waiting: flow control acts when the turn ends.
    """

    __slots__ = ("_loop", "_pieces", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Gather a piece."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        """Write what waits, and close once it is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the transport's own attributes
        return getattr(self._transport, name)
