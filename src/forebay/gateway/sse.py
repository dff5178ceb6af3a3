"""A completion's events over HTTP: as a stream of server-sent events, or as one JSON body.

Two things that obvious code gets wrong are done here.  The first Delta or Finished is
awaited before the status line, so that an overload is a 503 and never a 200 with an error
inside.  And the events are closed however the exchange ends: what is not read is not made.
"""

from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from forebay.core.request import Delta, Events, Finished, Usage
from forebay.gateway.encoding import Encoder, Frames, Gathered
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.problems import DONE, JSON

_STREAM_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold the events back
)


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
        async with aclosing(self.events):
            with exchange.watching():
                if self.stream:
                    await self._stream(exchange)
                else:
                    await self._whole(exchange)

    async def _stream(self, exchange: Exchange) -> None:
        frames = self.encoder.frames()
        usage: Usage | None = None
        async for event in self.events:
            if isinstance(event, Delta):
                if not exchange.started:
                    await self._begin(exchange, frames)
                await exchange.push(frames.chunk(event), hold=event.more)
            elif isinstance(event, Finished):
                usage = event.usage
        assert usage is not None, "the pipeline does not end without Finished"
        if not exchange.started:
            await self._begin(exchange, frames)
        await exchange.finish(frames.closing(usage) + DONE)

    async def _begin(self, exchange: Exchange, frames: Frames) -> None:
        await exchange.start(200, _STREAM_HEADERS + self.headers)
        await exchange.push(frames.opening(), hold=True)

    async def _whole(self, exchange: Exchange) -> None:
        choices = [Gathered() for _ in range(self.choices)]
        usage: Usage | None = None
        async for event in self.events:
            if isinstance(event, Delta):
                choices[event.choice].add(event)
            elif isinstance(event, Finished):
                usage = event.usage
        assert usage is not None, "the pipeline does not end without Finished"
        body = self.encoder.whole(choices, usage)
        await exchange.answer(200, body, JSON, headers=self.headers)
