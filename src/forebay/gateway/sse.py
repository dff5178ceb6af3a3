"""A completion's events over HTTP: as a stream of server-sent events, or as one JSON body.

Two things that obvious code gets wrong are done here.  The first Delta or Finished is
awaited before the status line, so that an overload is a 503 and never a 200 with an error
inside.  And the events are closed however the exchange ends: what is not read is not made.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from forebay.core.errors import ServingError
from forebay.core.request import Delta, Events, Finished, Usage
from forebay.gateway.encoding import Encoder, Frames, Gathered
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.problems import DONE, JSON

_STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the events back
)

_INLINE_TOKENS_MAX: Final = 4_096
"""Tokens whose encoding, log-probabilities included, takes a few milliseconds at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """Serves the events of one request."""

    events: Events
    encoder: Encoder
    choices: int
    stream: bool
    headers: tuple[Header, ...] = ()

    async def serve(self, exchange: Exchange) -> None:
        """Answer `exchange`; raises what the events raise, and ClientGone."""
        exchange.piped = True
        async with _Reading(self.events):
            with exchange.watching():
                if self.stream:
                    await self._stream(exchange)
                else:
                    await self._whole(exchange)

    async def _stream(self, exchange: Exchange) -> None:
        frames = self.encoder.frames()
        last: bytes | None = None
        async for event in self.events:
            if isinstance(event, Delta):
                if not exchange.started:
                    await self._begin(exchange, frames)
                await exchange.push(frames.chunk(event), hold=event.more)
            elif isinstance(event, Finished):
                last = frames.closing(event.usage) + DONE
        assert last is not None, "the pipeline does not end without Finished"
        if not exchange.started:
            await self._begin(exchange, frames)
        await exchange.finish(last)

    async def _begin(self, exchange: Exchange, frames: Frames) -> None:
        await exchange.start(200, _STREAM_HEADERS + self.headers)
        await exchange.push(frames.opening(), hold=True)

    async def _whole(self, exchange: Exchange) -> None:
        choices = [Gathered() for _ in range(self.choices)]
        body: bytes | None = None
        async for event in self.events:
            if isinstance(event, Delta):
                choices[event.choice].add(event)
            elif isinstance(event, Finished):
                # Not after the last event: the record is written then, and would say "ok".
                body = await self._encoded(choices, event.usage)
        assert body is not None, "the pipeline does not end without Finished"
        await exchange.answer(200, body, JSON, headers=self.headers)

    async def _encoded(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Encode a whole answer; one of many tokens in a thread, for the loop has others."""
        if usage.completion_tokens <= _INLINE_TOKENS_MAX:
            return self.encoder.whole(choices, usage)
        return await asyncio.to_thread(self.encoder.whole, choices, usage)


class _Reading:
    """Closes events however their reading ends, and tells them of a defect in the reader.

    `aclosing` alone would have a completion that we failed to encode recorded as one that its
    client gave up.
    """

    __slots__ = ("_events",)

    def __init__(self, events: Events) -> None:
        self._events = events

    async def __aenter__(self) -> None:
        """Enter; the events are started by whoever reads them."""

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, ServingError):
            # Events that raised it themselves have ended, and say so instead of taking it.
            with suppress(type(error), StopAsyncIteration):
                await self._events.athrow(error)
        await self._events.aclose()
