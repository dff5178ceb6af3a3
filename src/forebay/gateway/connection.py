"""One client's connection: uvicorn's HTTP protocol, writing once per turn of the loop.

uvicorn writes an answer's head and its body apart, and uvloop hands each write to the kernel at
once.  Joined, they cost one system call and one packet.
"""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from forebay.core.errors import Invalid
from forebay.gateway import problems
from forebay.gateway.cycle import Cork, Cycle
from forebay.gateway.exchange import CONNECTED
from forebay.gateway.turns import Turns

PIPELINED_MAX: Final = 32
"""Requests that may wait behind another on one connection; a client with more is cut."""

HEAD_BYTES_MAX: Final = 65_536
"""Most bytes of a request's line and headers; the parser itself has no limit."""

HEAD_S_MAX: Final = 30.0
"""Longest time from a connection's start, or from a head's first byte, to the head's end."""

_TIMER_S: Final = 0.001
"""What the loop's timers are exact to."""

_LEFT: Final = (
    "You closed your sending side before the answer; this server takes that as leaving. "
    "Keep the connection open until the answer has arrived."
)
_CUT_SHORT: Final = (
    "You closed your sending side before the request was complete. "
    "Send all of it, and keep the connection open until the answer has arrived."
)

_OFFER: Final = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class Connection(HttpToolsProtocol):
    """uvicorn's protocol over a corked transport.

    It tells the request that is served when the client has gone, so that none needs a task to
    listen for that; what is not HTTP is refused in our shape, and so is a client that closes
    its sending side too early; and a head is bounded in bytes and in time.  uvicorn and its
    parser do none of these.  When many requests come at once, a few begin per turn of the loop.
    """

    _act: Callable[[], None] | None = None
    _gone = False
    _unparsed = 0
    """Bytes since the parser last had something to say: those of an unfinished head."""
    _late: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    """When the last answer ended; None: bytes have come since."""
    _between = True
    """The next byte begins a request."""
    _in_head = False
    """A head has begun and not ended."""
    _served: RequestResponseCycle | None = None
    """The request that is being answered, or the last that was; `cycle` is the newest."""

    def __init__(self, *given: Any, turns: Turns | None = None, **named: Any) -> None:  # noqa: ANN401 - they are uvicorn's
        """Take what uvicorn gives; requests of connections that share `turns` take turns."""
        super().__init__(*given, **named)
        self._turns = turns or Turns()

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
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        self._leave()

    def eof_received(self) -> None:
        """Tell a client that closes its sending side why there is no answer; free everything.

        That end looks the same whether the client has gone or still reads.  One that has gone
        does not mind the answer; one that reads learns what became of it.
        """
        served = self._served
        if served is None or served.response_complete:
            if self._in_head and not self.transport.is_closing():
                self._refuse(400, _CUT_SHORT)
        elif not served.response_started:
            self._refuse(400, _CUT_SHORT if served.more_body else _LEFT)
        elif served.chunked_encoding:  # a stream of events: all else is written in one turn
            event = problems.frame(Invalid(_LEFT, status=400))
            self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))
        self.transport.close()
        self._leave()

    def _leave(self) -> None:
        """Let whoever serves the client know that it has gone."""
        self._gone = True
        self._head_ended()
        if self._served is not None and not self._served.response_complete:
            self._served.disconnected = True
            self._served.message_event.set()
        if self._act is not None:
            self._act()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._served = cycle
        self._turns.begin(partial(super()._start_asgi_task, cycle, app))

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True

    def data_received(self, data: bytes) -> None:
        """Bound a head that does not end."""
        if self._between and (b"pgrade:" in data or b"PGRADE:" in data):
            data = _without_offer(data)
        self._between = False
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > HEAD_BYTES_MAX:
            self._refuse(431, f"The request's head is larger than {HEAD_BYTES_MAX} bytes.")
        elif self._unparsed and self._late is None and not self._gone:
            self._late = self.loop.call_later(HEAD_S_MAX, self.transport.abort)

    def on_response_complete(self) -> None:
        """Let a whole answer go, and serve what waits behind it, or wait for more."""
        self.transport.flush()  # type: ignore[attr-defined]  # it is our cork
        self.server_state.total_requests += 1
        if self._served is not None:
            # They would hold each other until the collector comes by: ten objects per request.
            self._served.scope["extensions"] = {}
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def _look_again(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            after_s, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that is idle for too long: looked for by one timer, not one each."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return  # the answer's end will set the timer again
        left_s = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > _TIMER_S:
            self._look_again(left_s)
        elif not self.transport.is_closing():
            self.transport.close()

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def on_body(self, body: bytes) -> None:
        """Note that it is no head; how long it takes is the exchange's business."""
        self._head_ended()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end, also of a body's trailers."""
        self._between = True
        self._head_ended()
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Serve the request, or let it wait behind the one that is served.

        What a client may send ahead is bounded, and its end is listened for all the time.
        """
        self._head_ended()
        self._in_head = False
        before, cycle = self.cycle, self._opened()
        self.cycle = cycle
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
            return
        self.pipeline.appendleft((cycle, self.app))
        if len(self.pipeline) > PIPELINED_MAX:
            self.transport.abort()
        elif self._act is None:
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _opened(self) -> Cycle:
        """Make the cycle of the request whose head has come."""
        version = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": self.parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
            "extensions": {},
        }
        cycle = Cycle(
            self.scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,  # noqa: FBT003 - uvicorn's own log of requests; ours writes them
            self.server_state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )
        cycle.when_gone = self.when_gone
        self.scope["extensions"] = {CONNECTED: cycle}  # type: ignore[dict-item]  # an object
        return cycle

    def _head_ended(self) -> None:
        self._unparsed = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the cork in, and wait for the first head."""
        super().connection_made(cast("asyncio.Transport", Cork(transport, self.loop)))
        self._late = self.loop.call_later(HEAD_S_MAX, self.transport.abort)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's text is replaced
        """Refuse what cannot be parsed, and close."""
        self._refuse(400, "This is not a valid HTTP request.")

    def _refuse(self, status: int, message: str) -> None:
        body = problems.openai_body(Invalid(message, status=status))
        self.transport.write(
            b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, HTTPStatus(status).phrase.encode(), len(body), body)
        )
        self.transport.close()


def _without_offer(data: bytes) -> bytes:
    """Hide an offer of another protocol, such as Java's clients make of HTTP/2.

    A server may pass it over; the parser would take the body for the other protocol's bytes.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return _OFFER.sub(b"\r\nx-upgrade:", head) + end + rest
