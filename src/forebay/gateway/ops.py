"""What operators and orchestrators ask: is it alive, is it ready, how is it doing."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec
from msgspec import Struct

from forebay import __version__
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.problems import JSON
from forebay.serve.lanes import Lanes
from forebay.serve.lifecycle import Lifecycle


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer, made without waiting."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()


class Probe(Struct, kw_only=True):
    """What a probe says."""

    status: str


class ModelLoad(Struct, kw_only=True):
    """How full a model's lane is."""

    id: str
    running: int
    waiting: int


class Health(Struct, kw_only=True):
    """The server at a glance."""

    status: str
    """`ok`, or why new requests should not come here."""
    timestamp: float
    """Unix seconds."""
    version: str
    present: int
    """Requests between the door and their record."""
    models: list[ModelLoad]


class Exposition(Protocol):
    """What writes the metrics out."""

    def pieces(self, accept: str) -> tuple[str, Iterator[bytes]]:
        """Return content type and body; each piece is written when it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Answers probes."""

    lifecycle: Lifecycle
    lanes: Lanes

    def live(self, _: Exchange) -> Reply:
        """Say that the event loop turns, or nobody would answer; true while draining too."""
        return _probe(well=True, status="live")

    def ready(self, _: Exchange) -> Reply:
        """Whether new requests should come here, and why not."""
        well, reason = self.lifecycle.readiness()
        return _probe(well=well, status=reason)

    def started(self, _: Exchange) -> Reply:
        """Whether the first real token has been made."""
        well = self.lifecycle.started()
        return _probe(well=well, status="started" if well else "starting")

    def health(self, _: Exchange) -> Reply:
        """Readiness, with the load of every model."""
        well, reason = self.lifecycle.readiness()
        health = Health(
            status="ok" if well else reason,
            timestamp=time.time(),
            version=__version__,
            present=self.lifecycle.present,
            models=[
                ModelLoad(id=lane.name, running=load.running, waiting=load.waiting)
                for lane in self.lanes
                for load in (lane.admission.load,)
            ],
        )
        return Reply(status=200 if well else 503, body=msgspec.json.encode(health))


@dataclass(frozen=True, slots=True)
class Scrapes:
    """Answers whoever collects metrics."""

    metrics: Exposition

    async def scrape(self, exchange: Exchange) -> None:
        """Answer with every metric, as text or as OpenMetrics.

        Thousands of series take a while to write: between pieces others have their turn.
        """
        accept = exchange.headers.get(b"accept", b"").decode("latin-1")
        content_type, pieces = self.metrics.pieces(accept)
        body: list[bytes] = []
        for piece in pieces:
            body.append(piece)
            await asyncio.sleep(0)
        await exchange.answer(200, b"".join(body), content_type.encode("latin-1"))


def _probe(*, well: bool, status: str) -> Reply:
    return Reply(status=200 if well else 503, body=msgspec.json.encode(Probe(status=status)))
