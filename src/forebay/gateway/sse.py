"""A completion's events over HTTP: as a stream of server-sent events, or as one JSON body.

Two things that obvious code gets wrong are done here.  The first Delta or Finished is
awaited before the status line, so that an overload is a 503 and never a 200 with an error
inside.  And the events are closed however the exchange ends: what is not read is not made.
"""

import asyncio
from dataclasses import dataclass
from typing import Final

from forebay.core.errors import Invalid
from forebay.core.request import Begun, Delta, Events, Finished, Source, Usage, mark
from forebay.gateway.closing import Reading
from forebay.gateway.encoding import Encoder, Frames, Gathered
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.problems import JSON
from forebay.gateway.server_timing import timing

_STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the events back
)

CACHE_HEADER: Final = b"x-forebay-cache"
"""Whether an answer made before served: `hit`, `miss`, or `bypass` where none was looked for."""

_EVENT_END: Final = b"\n\n"

_INLINE_TOKENS_MAX: Final = 4_096
"""Tokens whose encoding, log-probabilities included, takes a few milliseconds at most."""


class Numbering:
    """Numbers a stream's events with `id:` lines, and passes over those that the client has."""

    __slots__ = ("_count", "_mark", "_skip")

    def __init__(self, skip: int, mark: str) -> None:
        """Begin with the event after the first `skip`; `mark` stands for the answer."""
        self._mark = mark.encode()
        # The whole mutable state: events seen, and how many of them the client has.
        self._count = 0
        self._skip = skip

    def __call__(self, events: bytes) -> bytes:
        """Return what is new of these events, numbered."""
        numbered = []
        for event in events.split(_EVENT_END)[:-1]:
            self._count += 1
            if self._count > self._skip:
                numbered.append(b"id: %d-%b\n%b%b" % (self._count, self._mark, event, _EVENT_END))
        return b"".join(numbered)

    def check(self) -> None:
        """At the stream's end, refuse a client that has more events than there are."""
        if self._skip > self._count:
            message = f"Last-Event-ID: {self._skip} is beyond the stream's end, {self._count}."
            raise Invalid(message, param="Last-Event-ID")


class _Script:
    """A stream's bytes, piece by piece: opening, chunks, and what it ends with."""

    __slots__ = ("_frames", "_numbering", "_opening")

    def __init__(self, frames: Frames, numbering: Numbering | None) -> None:
        self._frames = frames
        self._numbering = numbering
        self._opening = frames.opening()

    def chunk(self, delta: Delta) -> bytes:
        """Return what a delta adds; empty if the client has it already."""
        events = self._frames.chunk(delta)
        if self._opening:
            events, self._opening = self._opening + events, b""
        return events if self._numbering is None else self._numbering(events)

    def last(self, usage: Usage) -> bytes:
        """Return the end; raises Invalid for a client that has more than there is."""
        events = self._opening + self._frames.closing(usage)
        if self._numbering is None:
            return events
        events = self._numbering(events)
        self._numbering.check()
        return events


@dataclass(slots=True, kw_only=True)
class EventStream:
    """Serves the events of one request.

    Mutable state: encoder, headers and numbering, until the answer's origin is known.
    """

    events: Events
    encoder: Encoder
    choices: int
    stream: bool
    headers: tuple[Header, ...] = ()
    resume_after: int | None = None
    _numbering: Numbering | None = None

    async def serve(self, exchange: Exchange) -> None:
        """Answer `exchange`; raises what the events raise, and ClientGone."""
        exchange.piped = True
        async with Reading(self.events):
            with exchange.watching():
                if self.stream:
                    await self._stream(exchange)
                else:
                    await self._whole(exchange)

    async def _stream(self, exchange: Exchange) -> None:
        script: _Script | None = None
        async for event in self.events:
            if isinstance(event, Delta):
                script = script or _Script(self.encoder.frames(), self._numbering)
                chunk = script.chunk(event)
                if chunk and not exchange.started:
                    await exchange.start(200, self._stream_head(exchange))
                if exchange.started:
                    await exchange.push(chunk, hold=event.more)
            elif isinstance(event, Finished):
                script = script or _Script(self.encoder.frames(), self._numbering)
                last = script.last(event.usage)
                if not exchange.started:
                    await exchange.start(200, self._stream_head(exchange))
                # Not after the last event: the record is written then, and would say "ok".
                await exchange.finish(last)
            elif isinstance(event, Begun):
                self._begun(event)

    async def _whole(self, exchange: Exchange) -> None:
        choices = [Gathered() for _ in range(self.choices)]
        async for event in self.events:
            if isinstance(event, Delta):
                choices[event.choice].add(event)
            elif isinstance(event, Finished):
                # Not after the last event: the record is written then, and would say "ok".
                body = await self._encoded(choices, event.usage)
                head = self.headers + timing(exchange, stream=False)
                await exchange.answer(200, body, JSON, headers=head)
            elif isinstance(event, Begun):
                self._begun(event)

    def _stream_head(self, exchange: Exchange) -> tuple[Header, ...]:
        return _STREAM_HEADERS + self.headers + timing(exchange, stream=True)

    def _begun(self, event: Begun) -> None:
        """Take the answer's name from whoever began it, and say where it comes from."""
        self.encoder = self.encoder.named(event)
        headers = dict(self.headers)
        if event.source is Source.CACHED:
            headers[CACHE_HEADER] = b"hit"
        if event.resumable:
            self._numbering = Numbering(self.resume_after or 0, mark(event.completion_id))
            headers[b"x-forebay-stream"] = b"/v1/streams/" + event.completion_id.encode()
            if event.source is not Source.ENGINE:
                headers[b"idempotent-replayed"] = b"true"
        if event.degraded:
            headers[b"x-forebay-degraded"] = b"store"
        self.headers = tuple(headers.items())

    async def _encoded(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Encode a whole answer; one of many tokens in a thread, for the loop has others."""
        if usage.completion_tokens <= _INLINE_TOKENS_MAX:
            return self.encoder.whole(choices, usage)
        return await asyncio.to_thread(self.encoder.whole, choices, usage)
