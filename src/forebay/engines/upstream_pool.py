"""One upstream: where it is, the connections to it, and whether it is worth asking."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

from forebay.core.clock import Clock
from forebay.engines.upstream_config import Address, UpstreamConfig
from forebay.engines.upstream_fault import Fault, Reason
from forebay.engines.upstream_http import Connection
from forebay.policy.breaker import Breaker

_SETTLING_S_MAX: Final = 1.0
"""How long the end of an answer may take that has said everything."""


class Upstream:
    """One server.  Mutable state: connections that are idle or settling, requests under way."""

    def __init__(
        self, address: Address, config: UpstreamConfig, *, trust: ssl.SSLContext | None, now: Clock
    ) -> None:
        """Know where it is; nothing is connected yet.  `trust` is for https only."""
        self.address = address
        self.name: Final = address.name
        self._config = config
        self._trust = trust
        self._now = now
        self.breaker = Breaker(failures_max=config.failures_max, rest_s=config.rest_s)
        self.well = False
        """Its last beat was answered."""
        self.load = 0
        """Requests that it has."""
        self.lied: Callable[[Fault], None] | None = None
        """Told of what came after the end of an answer; set once, before the first request."""
        self._idle: deque[Connection] = deque()
        self._settling: dict[Connection, float] = {}
        key = f"authorization: Bearer {config.api_key}\r\n" if config.api_key else ""
        self._common = (
            f" HTTP/1.1\r\nhost: {address.authority}\r\naccept-encoding: identity\r\n"
            f"user-agent: forebay\r\n{key}"
        ).encode()
        self._posts: dict[str, bytes] = {}

    def __repr__(self) -> str:
        state = self.breaker.state.value
        return f"<Upstream {self.name} {state} load={self.load} idle={len(self._idle)}>"

    @property
    def connections(self) -> int:
        """Connections that are kept, but have no request."""
        return len(self._idle) + len(self._settling)

    @property
    def kept(self) -> int:
        """Connections that the next requests may have."""
        return len(self._idle)

    @property
    def able(self) -> bool:
        """Whether it may be asked, and has room."""
        return self.breaker.closed and self.load < self._config.connections_max

    def post(self, path: str, body: bytes, lines: bytes = b"") -> bytes:
        """Return a request as bytes; `lines` stand at the end of its head."""
        head = self._posts.get(path)
        if head is None:
            target = f"POST {self.address.path}{path}".encode()
            kinds = b"content-type: application/json\r\naccept: application/json, "
            head = target + self._common + kinds + b"text/event-stream\r\ncontent-length: "
            self._posts[path] = head  # there are two paths
        return b"%b%d\r\n%b\r\n%b" % (head, len(body), lines, body)

    def get(self, path: str) -> bytes:
        """Return a request without a body as bytes."""
        target = f"GET {self.address.path}{path}".encode()
        return target + self._common + b"accept: application/json\r\n\r\n"

    def idle(self) -> Connection | None:
        """Return the connection that was used last, if one is open."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
            connection.abort()
        return None

    async def connect(self) -> Connection:
        """Return a new connection; raises Fault."""
        config, secure = self._config, self._trust is not None
        try:
            async with asyncio.timeout(config.connect_s_max):
                _, connection = await asyncio.get_running_loop().create_connection(
                    self._connection,
                    self.address.host,
                    self.address.port,
                    ssl=self._trust,
                    server_hostname=self.address.host if secure else None,
                )
        except TimeoutError:
            raise Fault(Reason.UNREACHABLE, "no connection in time") from None
        except (OSError, UnicodeError) as error:  # certificates that do not fit are among them
            raise Fault(Reason.UNREACHABLE, str(error)[:200]) from None
        return connection

    def _connection(self) -> Connection:
        return Connection(
            head_bytes_max=self._config.head_bytes_max,
            unread_bytes_max=self._config.unread_bytes_max,
        )

    def give_back(self, connection: Connection, *, said_all: bool) -> None:
        """Keep a connection for the next request, or close it.

        `said_all`: nothing more may come of its answer but the end, which may still be on its way.
        """
        if connection.whole:
            self._keep(connection)
        elif said_all and len(self._settling) < self._config.connections_max:
            self._settling[connection] = self._now()
            connection.settle(self._settled)
        else:
            connection.abort()

    def _settled(self, connection: Connection) -> None:
        self._settling.pop(connection, None)
        fault = connection.fault
        if fault is not None and fault.reason is Reason.UNASKED and self.lied is not None:
            self.lied(fault)
        self._keep(connection)

    def _keep(self, connection: Connection) -> None:
        if connection.reusable and len(self._idle) < self._config.connections_max:
            connection.since = self._now()
            self._idle.append(connection)
        else:
            connection.abort()

    def sweep(self) -> None:
        """Close what has been idle, or at its end, for too long."""
        now = self._now()
        while self._idle and now - self._idle[0].since > self._config.idle_s:
            self._idle.popleft().abort()
        late = [c for c, since in self._settling.items() if now - since > _SETTLING_S_MAX]
        for connection in late:
            connection.abort()

    def close(self) -> None:
        """Close every connection that has no request."""
        for connection in (*self._idle, *self._settling):
            connection.abort()
        self._idle.clear()
