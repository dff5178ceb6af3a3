"""Upstreams on loopback that say what a test tells them to: mostly lies."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from forebay.core.clock import MONOTONIC
from forebay.core.request import (
    Chat,
    Event,
    Message,
    Prompt,
    Request,
    RequestId,
    Role,
    Route,
    Sampling,
)
from forebay.engines.upstream import UpstreamEngine
from forebay.engines.upstream_config import UpstreamConfig
from tests.support.events import EventList

MODELS = b'{"object":"list","data":[{"id":"m","object":"model","owned_by":"vllm"}]}'
USAGE = b'"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'


@dataclass(slots=True)
class Upstream:
    """A server that answers POSTs as it is told, and everything else well."""

    answer: "Answer"
    well: bool = True
    """What it says when it is asked how it is."""
    starting: bool = True
    """The engine is being started: it gets its first token, whatever else is answered."""
    port: int = 0
    posts: list[bytes] = field(default_factory=list)
    """The bodies it was sent."""
    heads: list[bytes] = field(default_factory=list)
    open: int = 0
    """Connections that are open."""
    opened: int = 0
    """Connections that were ever opened."""
    readers: dict[asyncio.StreamWriter, asyncio.StreamReader] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def gone(self, writer: asyncio.StreamWriter) -> None:
        """Return when the client has closed the connection."""
        await self.readers[writer].read()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.opened += 1
        self.readers[writer] = reader
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    await writer.drain()
        finally:
            self.open -= 1
            del self.readers[writer]
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(whole(MODELS) if self.well else whole(b"{}", status=b"500 No"))
            return True
        self.heads.append(head)
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        self.posts.append(await reader.readexactly(length))
        if self.starting:
            writer.write(whole(completion(b"hello")))
            return True
        return await self.answer(self, writer)


Answer = Callable[[Upstream, asyncio.StreamWriter], Awaitable[bool]]
"""Writes an answer; returns whether the connection stays open."""


def whole(body: bytes, *, status: bytes = b"200 OK", kind: bytes = b"application/json") -> bytes:
    """Return an answer with a length."""
    head = b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    return head % (status, kind, len(body)) + body


def completion(text: bytes) -> bytes:
    """Return the body of a whole chat completion."""
    choice = b'{"index":0,"message":{"role":"assistant","content":"%b"},"finish_reason":"stop"}'
    return b'{"choices":[' + choice % text + b"]," + USAGE + b"}"


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return a piece of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: bytes, *, index: int = 0, reason: bytes = b"null") -> bytes:
    """Return one event of a chat stream."""
    form = b'{"choices":[{"index":%d,"delta":{"content":"%b"},"finish_reason":%b}]}'
    return b"data: " + form % (index, text, reason) + b"\n\n"


LAST = event(b"", reason=b'"stop"') + b'data: {"choices":[],' + USAGE + b"}\n\n" + DONE


def written(*pieces: bytes, stays: bool = True) -> Answer:
    """Return an answer that writes these pieces, and then closes or not."""

    async def answer(_: Upstream, writer: asyncio.StreamWriter) -> bool:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return stays

    return answer


@contextlib.asynccontextmanager
async def upstream(answer: Answer) -> AsyncIterator[Upstream]:
    """Run an upstream on loopback."""
    found = Upstream(answer)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        async with asyncio.timeout(5.0):
            while found.open:
                await asyncio.sleep(0.01)


@dataclass(slots=True)
class Fronted:
    """An engine and what it logged."""

    engine: UpstreamEngine
    log: EventList

    def faults(self) -> list[object]:
        """Return why each call at an upstream failed."""
        return [fields["reason"] for fields in self.log.named("upstream.fault")]


@contextlib.asynccontextmanager
async def fronted(*upstreams: Upstream, **knobs: object) -> AsyncIterator[Fronted]:
    """Start an engine over these upstreams; afterwards nothing of it may be left."""
    log = EventList()
    urls = ",".join(found.url for found in upstreams)
    config = UpstreamConfig(urls=urls, **knobs)  # type: ignore[arg-type]  # tests name real knobs
    engine = UpstreamEngine(config, now=MONOTONIC, log=log, dice=lambda: 0.0)
    await engine.start()
    for found in upstreams:
        found.starting = False
    try:
        yield Fronted(engine, log)
    finally:
        await engine.stop()
        gauges = engine.gauges()
        assert (gauges.running, gauges.waiting) == (0, 0)
        assert not list(engine.holdings())
        assert not any(found.load or found.connections for found in engine.upstreams)


def wish(
    text: str = "one two", *, stream: bool = True, prompt: Prompt | None = None, **how: object
) -> Request:
    """Return a request that is valid for a minute."""
    now = time.monotonic()
    turn = Message(role=Role.USER, content=text)
    return Request(
        id=RequestId("lie"),
        route=Route.CHAT_COMPLETIONS,
        model="m",
        prompt=prompt or Chat(messages=(turn,)),
        sampling=Sampling(**({"tokens_max": 8} | how)),  # type: ignore[arg-type]  # real fields
        received=now,
        deadline=now + 60.0,
        stream=stream,
    )


async def said(engine: UpstreamEngine, request: Request) -> list[Event]:
    """Return every event of an answer."""
    async with asyncio.timeout(10.0), contextlib.aclosing(engine.generate(request)) as events:
        return [event async for event in events]
