"""One request at one upstream: ask, read, and pass on what it says; or a named fault."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import ServingError
from forebay.core.request import Delta, EngineTiming, Events, Finished, Request, Usage
from forebay.engines import upstream_embedding
from forebay.engines.upstream_answer import Reader
from forebay.engines.upstream_config import UpstreamConfig
from forebay.engines.upstream_fault import Fault, Reason
from forebay.engines.upstream_http import Connection, Head
from forebay.engines.upstream_pool import Upstream
from forebay.engines.upstream_refusals import refusal

_REFUSAL_BYTES_MAX: Final = 65_536
_REFUSAL_S_MAX: Final = 2.0
_STREAM: Final = "text/event-stream"
_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, and how it is said to any upstream."""

    request: Request
    path: str
    body: bytes
    chat: bool


class Call:
    """A request at an upstream.  Mutable state: its connection, and when it last said anything."""

    __slots__ = (
        "_asked",
        "_asked_at",
        "_config",
        "_connection",
        "_now",
        "_upstream",
        "counted",
        "heard",
    )

    def __init__(
        self, asked: Asked, upstream: Upstream, config: UpstreamConfig, *, now: Clock
    ) -> None:
        """Ask this one, within these bounds; nothing is sent yet."""
        self._asked = asked
        self._upstream = upstream
        self._config = config
        self._now = now
        self._connection: Connection | None = None
        self.counted = 0
        """Tokens passed on."""
        self._asked_at = self.heard = now()

    def look(self, now: float) -> None:
        """End a stream that has been silent for too long.  A whole answer may take its time."""
        if self._asked.request.stream and now - self.heard > self._config.silence_s_max:
            self.fail(Fault(Reason.SILENT, f"for {self._config.silence_s_max:g} s"))

    def fail(self, fault: Fault) -> None:
        """End it with a fault."""
        if self._connection is not None:
            self._connection.abort(fault)

    def events(self) -> Events:
        """Yield deltas and the end; raises Fault, or a ServingError that ends the request."""
        return self._stream() if self._asked.request.stream else self._whole()

    async def _whole(self) -> Events:
        connection = await self._begin(_JSON)
        try:
            body = await _all(connection, self._config.answer_bytes_max)
        finally:
            self._end(connection, said_all=False)
        if self._asked.request.sampling.embed:
            yield upstream_embedding.finished(body)
            return
        reader = self._reader()
        deltas, usage = reader.whole(body)
        self.counted = reader.counted
        for delta in deltas:
            yield delta
        yield _finished(usage, reader.counted, EngineTiming())

    async def _stream(self) -> Events:
        connection, reader = await self._begin(_STREAM), self._reader()
        first: float | None = None
        said_all = False
        try:
            async for deltas in self._read(connection, reader):
                last = deltas[-1]
                for delta in deltas:
                    delta.more = first is not None and delta is not last
                    yield delta
                    if first is None:
                        # The first token is not held for others that came with it: the client's
                        # connection writes once per turn of the loop, and this ends the turn.
                        first = self.heard
                        await asyncio.sleep(0)
            deltas, usage = reader.end()
            said_all = reader.done
            self.counted = reader.counted
            for delta in deltas:
                delta.more = True
                yield delta
        finally:
            self._end(connection, said_all=said_all)
        first = first or self.heard
        timing = EngineTiming(first_token_s=first - self._asked_at, decode_s=self.heard - first)
        yield _finished(usage, reader.counted, timing)

    def _reader(self) -> Reader:
        asked = self._asked
        return Reader(asked.request, chat=asked.chat, line_bytes_max=self._config.line_bytes_max)

    def _end(self, connection: Connection, *, said_all: bool) -> None:
        self._connection = None
        self._upstream.give_back(connection, said_all=said_all)

    async def _begin(self, wanted: str) -> Connection:
        """Send the request, and return when the answer begins, which is of the type `wanted`."""
        connection, head = await self._ask()
        begun = False
        try:
            if head.status != HTTPStatus.OK:
                raise await _refused(connection, head)
            kind = head.text(b"content-type").partition(";")[0].strip().lower()
            if kind != wanted:
                raise Fault(Reason.WRONG_TYPE, f"'{kind[:60]}' where {wanted} was asked for")
            begun = True
        finally:
            if not begun:
                self._end(connection, said_all=False)
        return connection

    async def _ask(self) -> tuple[Connection, Head]:
        """Send the request; a connection that went stale meanwhile is replaced by a new one."""
        visit = self._asked.request.visit
        trace = visit.trace.onward() if visit is not None and visit.trace is not None else b""
        data = self._upstream.post(self._asked.path, self._asked.body, trace)
        connection = self._upstream.idle()
        if connection is not None:
            try:
                return connection, await self._sent(connection, data)
            except Fault as fault:
                if fault.reason is not Reason.STALE:
                    raise
        connection = await self._upstream.connect()
        return connection, await self._sent(connection, data)

    async def _sent(self, connection: Connection, data: bytes) -> Head:
        self._connection = connection
        head = None
        try:
            connection.ask(data)
            head = await connection.head()
        finally:
            if head is None:
                self._connection = None
                connection.abort()
        self.heard = self._now()
        return head

    async def _read(
        self, connection: Connection, reader: Reader
    ) -> AsyncGenerator[list[Delta], None]:
        left = self._config.stream_bytes_max
        while not reader.done:
            data = await connection.read()
            if not data:
                return  # some never say [DONE]
            left -= len(data)
            if left < 0:
                raise Fault(Reason.TOO_LONG, f"over {self._config.stream_bytes_max} bytes")
            lines = reader.lines
            deltas = reader.feed(data)
            if reader.lines > lines:
                self.heard = self._now()
            if deltas:
                self.counted = reader.counted
                yield deltas


def _finished(usage: Usage | None, counted: int, timing: EngineTiming) -> Finished:
    return Finished(usage or Usage(0, counted), timing)


async def _all(connection: Connection, bytes_max: int) -> bytes:
    """Return a whole body; raises Fault beyond the bound."""
    body = await connection.read()
    if connection.whole and len(body) <= bytes_max:
        return body
    pieces = bytearray(body)
    while body:
        if len(pieces) > bytes_max:
            raise Fault(Reason.TOO_LONG, f"over {bytes_max} bytes")
        body = await connection.read()
        pieces += body
    return bytes(pieces)


async def _refused(connection: Connection, head: Head) -> ServingError | Fault:
    """Return what a status other than 200 means, with as much of its body as comes soon."""
    body = b""
    try:
        async with asyncio.timeout(_REFUSAL_S_MAX):
            body = await _all(connection, _REFUSAL_BYTES_MAX)
    except (Fault, TimeoutError):
        pass  # the status alone says enough
    return refusal(head.status, body, head.text(b"retry-after"))
