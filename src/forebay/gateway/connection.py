"""One client's connection: uvicorn's HTTP protocol, writing once per turn of the loop.

uvicorn writes an answer's head and its body apart, and uvloop hands each write to the kernel at
once.  Joined, they cost one system call and one packet.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from forebay.core.errors import Invalid, Overloaded, ServingError
from forebay.gateway import problems
from forebay.gateway.cycle import Cork, Cycle
from forebay.gateway.exchange import CONNECTED
from forebay.gateway.heads import (
    LINE_BYTES,
    NOT_HTTP,
    check_coding,
    check_host,
    check_size,
    head_too_large,
    refusal,
    split,
    without_offer,
)
from forebay.gateway.terms import Terms, encoded

PIPELINED_MAX: Final = 32
"""Requests that may wait behind another on one connection; a client with more is cut."""

_TIMER_S: Final = 0.001
"""What the loop's timers are exact to."""
_CROWDED_S: Final = 1.0
"""Retry-After of a connection too many; nothing is known of when one ends."""

_LEFT: Final = (
    "You closed your sending side before the answer; this server takes that as leaving. "
    "Keep the connection open until the answer has arrived."
)
_CUT_SHORT: Final = (
    "You closed your sending side before the request was complete. "
    "Send all of it, and keep the connection open until the answer has arrived."
)

_NOTED: Final = frozenset({b"expect", b"host", b"origin", b"transfer-encoding"})
"""Headers that are looked at here."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol over a corked transport.

    It tells the request that is served when the client has gone, so that none needs a task to
    listen for that; what is not HTTP is refused in our shape, and so is a client that closes
    its sending side too early; connections are counted, heads are bounded in bytes and in time
    and read in one way only.  uvicorn and its parser do none of these.  When many requests come
    at once, a few begin per turn of the loop.
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
    place: str | None = None
    """Whose connection it is counted as; None: it is not."""
    _refusal: ServingError | None = None
    """Why nothing more is read; told once what came before is answered."""
    _large = False
    """A head that ends in what is being parsed may be too large."""
    _host: bytes | None = None
    _host_known: bytes | None = None
    """The last host that was answered to."""
    _origin = b""
    _chunked = False
    """The body that comes is in chunks; of these, `_chunks` have come."""
    _chunks = 0
    _framing = 0
    """Bytes of a chunked body that are not in its chunks."""
    _discarded = 0
    """Bytes of a body whose request was answered without it."""

    def __init__(self, *given: Any, terms: Terms | None = None, **named: Any) -> None:  # noqa: ANN401 - they are uvicorn's
        """Take what uvicorn gives; connections of one server share `terms`."""
        super().__init__(*given, **named)
        self._terms = terms or Terms()

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
        if self.place is not None:
            self._terms.crowd.leave(self.place)
            self.place = None

    def eof_received(self) -> None:
        """Tell a client that closes its sending side why there is no answer; free everything.

        That end looks the same whether the client has gone or still reads.  One that has gone
        does not mind the answer; one that reads learns what became of it.
        """
        served = self._served
        if served is None or served.response_complete:
            if self._in_head and not self.transport.is_closing():
                self._tell(Invalid(_CUT_SHORT))
        elif not served.response_started:
            self._tell(Invalid(_CUT_SHORT if served.more_body else _LEFT))
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
        self._terms.turns.begin(partial(super()._start_asgi_task, cycle, app))

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._host = None
        self._origin = b""
        self._chunked = False
        self._chunks = self._framing = self._discarded = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; those that come behind a body are bounded, and left out."""
        if not self._in_head:
            self._unparsed += len(name) + len(value) + LINE_BYTES
            if self._unparsed > self._terms.config.head_bytes_max:
                raise head_too_large(self._terms.config.head_bytes_max)
            return
        name = name.lower()
        self.headers.append((name, value))
        if name in _NOTED:
            self._note(name, value)

    def _note(self, name: bytes, value: bytes) -> None:
        match name:
            case b"host":
                if self._host is not None:
                    raise Invalid("A request has one header Host.")
                self._host = value
            case b"transfer-encoding":
                check_coding(value, self.parser.get_http_version())
                self._chunked = True
            case b"origin":
                self._origin = value
            case _:
                self.expect_100_continue = value.lower() == b"100-continue"

    def data_received(self, data: bytes) -> None:
        """Bound a head that does not end, and what is beside a body in its chunks."""
        if self._refusal is not None:
            return
        if (self._between or self._in_head) and (b"pgrade:" in data or b"PGRADE:" in data):
            data = without_offer(data)
        self._between = False
        self._idle_since = None
        size, size_max = len(data), self._terms.config.head_bytes_max
        self._unparsed += size
        self._large = self._unparsed > size_max
        if self._chunked:
            self._framing = max(self._framing, 0) + size
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            found = error.__context__
            self._refuse(found if isinstance(found, Invalid) else NOT_HTTP)
            return
        if self._unparsed > size_max:
            self._refuse(head_too_large(size_max))
        elif self._framing > size_max:
            self._refuse(Invalid("The body's chunks are too small, or say too much of themselves."))
        elif self._unparsed and self._late is None and not self._gone:
            self._late = self.loop.call_later(self._terms.config.head_s_max, self.transport.abort)

    def on_response_complete(self) -> None:
        """Let a whole answer go, and serve what waits behind it, or wait for more."""
        self.transport.flush()  # type: ignore[attr-defined]  # it is our cork
        self.server_state.total_requests += 1
        if self._served is not None:
            # They would hold each other until the collector comes by: ten objects per request.
            self._served.scope["extensions"] = {}
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.flow.resume_reading()
            self._start_asgi_task(*self.pipeline.pop())
            return
        if self._refusal is not None:
            self._tell(self._refusal)
            return
        self.flow.resume_reading()
        if self.cycle.more_body:  # the rest of a body that nobody wants
            self._late = self._late or self.loop.call_later(
                self._terms.config.body_s_max, self.transport.abort
            )
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
        if self._chunked:
            self._framing -= len(body)
        if self.cycle.response_complete:
            self._unparsed = 0
            self._discarded += len(body)
            if self._discarded > self._terms.config.discard_bytes_max:
                self.transport.abort()
            return
        self._head_ended()
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """Bound the chunks of a body: each costs as much as a large one."""
        self._chunks += 1
        if self._chunks > self._terms.config.chunks_max:
            raise Invalid(f"The body has more than {self._terms.config.chunks_max} chunks.")

    def on_message_complete(self) -> None:
        """Note the end, also of a body's trailers."""
        self._between = True
        self._chunked = False
        self._head_ended()
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        """Serve the request, or let it wait behind the one that is served.

        What a client may send ahead is bounded, and its end is listened for all the time.
        """
        self._head_ended()
        before, cycle = self.cycle, self._opened()
        self._in_head = False
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
        """Make the cycle of the request whose head has come; raises Invalid."""
        terms, version = self._terms, self.parser.get_http_version()
        if self.parser.should_upgrade():
            raise Invalid("This server offers no other protocol: send no Upgrade and no CONNECT.")
        if self._large or len(self.headers) > terms.config.headers_max:
            check_size(self.url, self.headers, terms.config)
        if self._host is None or self._host != self._host_known or version != "1.1":
            check_host(self._host, version, terms.hosts)
            self._host_known = self._host
        raw, query = split(self.url, self._host, terms.config.url_bytes_max)
        path = raw.decode("ascii")
        if "%" in path and path.startswith(terms.named):
            path = unquote(path)
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": self.parser.get_method().decode("ascii"),
            "root_path": "",
            "path": path,
            "raw_path": raw,
            "query_string": query,
            "headers": self.headers,
            "state": self.app_state.copy(),
            "extensions": {},
        }
        headers = self.server_state.default_headers
        opening = terms.opening(headers)
        if terms.cors:
            more = terms.cors.headers(self._origin)
            headers, opening = [*headers, *more], opening + encoded(more)
        cycle = Cycle(
            self.scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            False,  # noqa: FBT003 - uvicorn's own log of requests; ours writes them
            headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )
        cycle.came = terms.arrivals.of(self.transport)
        cycle.when_gone, cycle.opening = self.when_gone, opening
        self.scope["extensions"] = {CONNECTED: cycle}  # type: ignore[dict-item]  # an object
        return cycle

    def _head_ended(self) -> None:
        self._unparsed = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Put the cork in, and wait for the first head; or turn away one too many."""
        config = self._terms.config
        cork = Cork(transport, self.loop, unsent_s_max=config.send_s_max)
        super().connection_made(cast("asyncio.Transport", cork))
        self.place = self.place or self._terms.crowd.enter(self.client)
        if self.place is None:
            error = "There are too many connections, to this server or from your address."
            self._refuse(Overloaded(error, retry_after_s=_CROWDED_S))
            return
        self._late = self.loop.call_later(config.head_s_max, self.transport.abort)

    def _refuse(self, error: ServingError) -> None:
        """Read no more, and say why once what came before is answered."""
        self._refusal = error
        self._head_ended()
        served, newest = self._served, self.cycle
        in_body = newest is not None and newest.more_body and not self._in_head
        if in_body and newest is not served:
            self.pipeline.popleft()  # its body is what is wrong
        elif in_body and newest.response_started:
            self.transport.close()  # it has its answer, or some of it
            self._leave()
            return
        elif in_body:
            served = None
        if served is not None and not served.response_complete:
            self.flow.pause_reading()
            return
        self._tell(error)
        self._leave()

    def _tell(self, error: ServingError) -> None:
        self.transport.write(refusal(error))
        self.transport.close()
