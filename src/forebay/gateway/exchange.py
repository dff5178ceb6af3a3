"""One HTTP exchange: its headers, its body within bounds, its answer, and its client.

The client may leave or stop reading at any moment.  `watching` notices both and cancels
whoever serves it, so that cancellation is closing the iterator, all the way down.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from types import TracebackType
from typing import Any, Final, Protocol, Self

from forebay.core.caller import NOBODY, Caller
from forebay.core.clock import Clock
from forebay.core.errors import Invalid, Outcome, ServingError
from forebay.core.request import Request, RequestId
from forebay.core.visit import Visit
from forebay.gateway import quota_headers
from forebay.gateway.config import GatewayConfig
from forebay.serve.limits import Standing
from forebay.serve.strike import Strike

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_JSON: Final = re.compile(rb"application/(?:[\w.+-]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


Act = Callable[[], None]

CONNECTED: Final = "forebay.connection"
"""The ASGI extension under which a request finds its connection: a `Connected`."""


def _new_id() -> str:
    # Unique, not secret: it stands in logs.  A system call for each would cost 5 us.
    return f"{random.getrandbits(96):024x}"


def _joined(lines: Iterable[Header]) -> dict[bytes, bytes]:
    """Read a header that comes in several lines as the one list that they are (RFC 9110).

    Were only one of them read, a proxy before us might have read another.  Equal lines count
    once.
    """
    found: dict[bytes, dict[bytes, None]] = {}
    for name, value in lines:
        found.setdefault(name, {})[value] = None
    return {name: b", ".join(values) for name, values in found.items()}


class Connected(Protocol):
    """A request's place on its connection."""

    came: float
    """When its head arrived, monotonic seconds."""

    def when_gone(self, act: Act | None, /) -> None:
        """Call `act` once the client has gone, or at once if it has; None: call nothing."""

    def is_clogged(self) -> bool:
        """Whether the client reads so slowly that a write would wait."""

    def arrived(self) -> bytes | None:
        """Take the body if all of it is here; otherwise it is to be received."""

    async def answer(
        self, status: int, headers: Iterable[Header], body: bytes, *, close: bool
    ) -> None:
        """Send a whole answer; with `close` the connection ends with it."""


class ClientGone(ServingError):
    """The client closed the connection, or stopped reading, before the answer's end."""

    outcome = Outcome.CANCELLED


class Exchange:
    """What one client sent and what it is given."""

    __slots__ = (
        "_connection",
        "_cut",
        "_held",
        "_held_bytes",
        "_receive",
        "_scope",
        "_send",
        "body_bytes",
        "body_sign",
        "caller",
        "client",
        "closing",
        "config",
        "counted",
        "failure",
        "headers",
        "http_version",
        "id",
        "method",
        "model",
        "path",
        "piped",
        "query",
        "received",
        "request",
        "standings",
        "started",
        "via",
        "visit",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, *, config: GatewayConfig, now: Clock
    ) -> None:
        """Take an ASGI call; `now` stamps its receipt."""
        self.received = now()
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.http_version: str = scope["http_version"]
        self.client: tuple[str, int] | None = scope["client"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        if len(self.headers) != len(scope["headers"]):
            self.headers = _joined(scope["headers"])
        given = self.headers.get(b"x-request-id", b"")
        self.id = RequestId(given.decode("ascii") if _REQUEST_ID.fullmatch(given) else _new_id())
        self._connection: Connected = scope["extensions"][CONNECTED]
        self.visit = Visit(
            id=self.id,
            method=self.method,
            path=self.path,
            received=self.received,
            client=self.client[0] if self.client else "",
            wait_s=max(0.0, self.received - self._connection.came),
        )
        self._scope = scope
        self._receive = receive
        self._send = send
        self.config = config
        # The whole mutable state.  `caller`: who asks, once it was let in.  `standings`: how it
        # stands with its limits, which the answer's head tells.  `model`: the served name, once
        # it is known; `via`: the route that led to it.  `body_bytes` and `body_sign`: the body's
        # length, and what tells it from others.  `request`: what was asked by one that is turned
        # away before the pipeline has it.  `piped`: the pipeline has the request and will write
        # its record.  `started`: the status line is sent.  `closing`: the connection ends with
        # this answer.  `counted`: the ledger knows of it.  `_cut`: what ends a write that waits
        # for too long.  `_held`: bytes that go out with the next write.
        self.caller: Caller = NOBODY
        self.standings: tuple[Standing, ...] = ()
        self.model = ""
        self.body_bytes = self.body_sign = 0
        self.via = ""
        self.request: Request | None = None
        self.failure: Callable[[ServingError], bytes] | None = None
        self.piped = False
        self.counted = False
        self.closing = False
        self.started = False
        self._cut: Act | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0

    async def body(self) -> bytes:
        """Return the request's body; raises Invalid with 408, 413 or 415, or ClientGone."""
        body = await self._received()
        self.body_bytes, self.body_sign = len(body), hash((self.path, body))
        self.visit.body_bytes = self.body_bytes
        return body

    async def _received(self) -> bytes:
        self._check_type()
        length = self.headers.get(b"content-length", b"0")
        large = not length.isdigit() or int(length[:20]) > self.config.body_bytes_max
        # On a connection that stays open the server throws away what is not read.
        discard = b"close" in self.headers.get(b"connection", b"").lower()
        if large and not discard:
            raise self._too_large()
        body = self._connection.arrived()
        if body is not None:
            if len(body) > self.config.body_bytes_max:
                raise self._too_large()
            return body
        late = Strike()
        timer = asyncio.get_running_loop().call_later(self.config.body_s_max, late)
        try:
            return await self._read(self.config.discard_bytes_max if discard else 0)
        except asyncio.CancelledError:
            if not late.taken_back():
                raise
            self.closing = True
            message = f"The body did not arrive within {self.config.body_s_max:g} seconds."
            raise Invalid(message, status=408) from None
        finally:
            timer.cancel()

    async def _read(self, discard_bytes_max: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("The client went away before its request was complete.")
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            last = not message.get("more_body", False)
            if size <= self.config.body_bytes_max:
                chunks.append(chunk)
            elif last or size > discard_bytes_max:
                raise self._too_large()
            else:
                # A client that is cut while it sends would never read why: take the rest, and
                # keep none of it.
                chunks.clear()
            if last:
                return b"".join(chunks)

    def _check_type(self) -> None:
        given = self.headers.get(b"content-type", b"")
        if given and not _JSON.fullmatch(given):
            raise Invalid(
                "The body must be JSON: send the header 'Content-Type: application/json'.",
                status=415,
            )
        if self.headers.get(b"content-encoding", b"identity") != b"identity":
            raise Invalid("The body must not be compressed: no Content-Encoding.", status=415)

    def _too_large(self) -> Invalid:
        limit = self.config.body_bytes_max
        return Invalid(f"The body is larger than {limit} bytes, the most taken here.", status=413)

    async def start(self, status: int, headers: Iterable[Header]) -> None:
        """Send the status line and the headers, the request's id among them."""
        self.started = True
        self.visit.status = status
        head = [*headers, (b"x-request-id", self.id.encode())]
        if self.standings:
            head += quota_headers.headers(*self.standings)
        if self.closing:
            head.append((b"connection", b"close"))
        await self._deliver(
            self._send({"type": "http.response.start", "status": status, "headers": head})
        )

    async def push(self, chunk: bytes, *, hold: bool = False) -> None:
        """Write a piece of the body, now or, with `hold`, together with the next piece."""
        self._held.append(chunk)
        self._held_bytes += len(chunk)
        if not hold or self._held_bytes >= self.config.flush_bytes_max:
            await self._flush(more=True)

    async def finish(self, chunk: bytes) -> None:
        """Write the last piece of the body, after whatever is still held."""
        self._held.append(chunk)
        await self._flush(more=False)

    async def answer(
        self, status: int, body: bytes, content_type: bytes, *, headers: Iterable[Header] = ()
    ) -> None:
        """Send a whole answer; of a HEAD request only its head."""
        length = str(len(body)).encode()
        head = (
            *((b"content-type", content_type), (b"content-length", length)),
            *headers,
            (b"x-request-id", self.id.encode()),
            *(quota_headers.headers(*self.standings) if self.standings else ()),
        )
        self.started = True
        kept = b"" if self.method == "HEAD" else body
        self.visit.status, self.visit.answer_bytes = status, len(kept)
        await self._deliver(self._connection.answer(status, head, kept, close=self.closing))

    async def relay(self, app: Application) -> None:
        """Let another application answer."""
        self.started = True
        await app(self._scope, self._receive, self._relayed)

    async def _relayed(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.visit.status = message["status"]
        else:
            self.visit.answer_bytes += len(message.get("body", b""))
        await self._send(message)

    async def _flush(self, *, more: bool) -> None:
        body = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        if more and not body:
            return
        self.visit.answer_bytes += len(body)
        await self._deliver(
            self._send({"type": "http.response.body", "body": body, "more_body": more})
        )

    async def _deliver(self, sending: Awaitable[None]) -> None:
        late: asyncio.TimerHandle | None = None
        if self._cut is not None and self._connection.is_clogged():
            loop = asyncio.get_running_loop()
            late = loop.call_later(self.config.send_s_max, self._cut)
        try:
            await sending
        except OSError:
            raise ClientGone("The client closed the connection.") from None
        finally:
            if late is not None:
                late.cancel()

    @property
    def clogged(self) -> bool:
        """Whether the client reads so slowly that a write would wait."""
        return self._connection.is_clogged()

    def watching(self) -> "Watch":
        """Return the scope in which a client that leaves, or stops reading, ends its service."""
        return Watch(self, self._connection)

    def cut_by(self, cut: Act | None) -> None:
        """Call `cut` when a write waits for too long."""
        self._cut = cut


class Watch:
    """Cancels the task that entered it when the client has left or stopped reading.

    Leaving the scope turns that cancellation into ClientGone.  Mutable state: its aim, set on
    entering.
    """

    __slots__ = ("_connection", "_cut", "_exchange")

    def __init__(self, exchange: Exchange, connection: Connected) -> None:
        """Be told by `connection` that the client has left, by `exchange` that it is stuck."""
        self._exchange = exchange
        self._connection = connection

    def __enter__(self) -> Self:
        self._cut = Strike()
        self._exchange.cut_by(self._cut)
        self._connection.when_gone(self._cut)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.when_gone(None)
        self._exchange.cut_by(None)
        if self._cut.taken_back() and isinstance(error, asyncio.CancelledError):
            raise ClientGone("The client went away before the answer's end.") from None
