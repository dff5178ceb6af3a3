"""Drill: a hundred thousand hostile requests, direct and through nginx, and nobody is hurt.

Bytes of sound requests are changed, bodies are drawn from our own OpenAPI document, credentials
are made up, and second requests are hidden in first ones.  What must hold is said by the gates.
"""

import asyncio
import contextlib
import dataclasses
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from forebay.bench.client import Target
from forebay.drill import nginx
from forebay.drill.findings import DrillFailed, Findings, Gate, Skipped, at_least, at_most, exactly
from forebay.drill.hostile_accounts import a_key
from forebay.drill.hostile_cases import Cases
from forebay.drill.hostile_schema import Bodies
from forebay.drill.hostile_sender import Fault, Sender
from forebay.drill.hostile_smuggling import MARK
from forebay.drill.rest import Rest, until_rest
from forebay.drill.server import Server, serving
from forebay.drill.stage import Drill, Stage

REQUESTS: Final = 100_000
"""As many as the release is held to; `--quick` sends a tenth."""
WARM: Final = 20_000
"""Sent before: after so many, what the gateway keeps of requests has reached its bounds."""
SEED: Final = 5
GROWTH_MAX: Final = 5.0
"""How much larger the gateway may be at the end than once it was warm, in %."""

_PROXIED: Final = 0.2
_CONNECTIONS: Final = 32
_PROXIED_CONNECTIONS: Final = 8
_REST_S_MAX: Final = 30.0
_CLOSED: Final = (
    "access.mode=closed",
    # So that requests come as far as they can.
    *("limits.requests=100000000/minute", "limits.health=", "limits.probes="),
)
_POLL_S: Final = 0.1
_SECOND: Final = re.compile(rb'"GET /%b(\d+) ' % MARK.encode())
_SERVED: Final = re.compile(rb'"%b(\d+)"' % MARK.encode())
SETTINGS: Final = (
    *("scripted.decode_s=0", "scripted.prefill_s=0", "gateway.request_s_max=10"),
    "replay.linger_s=1",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assault:
    """How many requests are sent, from which seed, and by which way."""

    requests: int = REQUESTS
    warm: int = WARM
    """Sent before these, and held to the same but for memory."""
    seed: int = SEED
    closed: bool = False
    """The server asks for credentials."""
    proxied: bool = True
    """A part of them through nginx, if there is one."""

    @property
    def total(self) -> int:
        """All that are sent."""
        return self.warm + self.requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an assault."""

    direct: Sender
    through: Sender
    took_s: float
    growth: float | None
    """Of the gateway's memory once it was warm, in %."""
    workers_lost: int
    smuggled: int
    """Second requests that were served, though nobody before the server had read them so."""
    defects: int
    ready: bool
    rest: Rest

    @property
    def kept(self) -> list[Fault]:
        """The first faults."""
        return [*self.direct.kept, *self.through.kept]

    def gates(self, wanted: Assault) -> Iterator[Gate]:
        """Yield what must hold."""
        mode = "closed" if wanted.closed else "open"
        wrong = self.direct.wrong + self.through.wrong
        sent = self.direct.count + self.through.count
        failures = sum(count for what, count in wrong.items() if "undeliberate" in what)
        yield at_least(f"hostile requests, {mode} mode", sent, wanted.total)
        yield exactly("answers 5xx that are not deliberate", failures, 0)
        yield exactly("other faults of answers", wrong.total() - failures, 0)
        yield exactly("second requests served out of first ones", self.smuggled, 0)
        yield exactly("workers lost", self.workers_lost, 0)
        yield exactly("defects in the log", self.defects, 0)
        yield at_most("growth of the gateway's memory once warm", self.growth, GROWTH_MAX, "%")
        yield exactly("ready at the end", int(self.ready), 1)
        yield from self.rest.gates()

    def figures(self, wanted: Assault) -> dict[str, Any]:
        """Return the raw numbers."""
        return {
            "seed": wanted.seed,
            "requests_per_s": (self.direct.count + self.through.count) / self.took_s,
            **{
                name: {
                    "sent": dict(sender.sent),
                    "answers": dict(sender.statuses),
                    "wrong": dict(sender.wrong),
                }
                for name, sender in (("direct", self.direct), ("through_nginx", self.through))
            },
            "faults": [dataclasses.asdict(fault) for fault in self.kept],
            "rest": dataclasses.asdict(self.rest),
        }


def run(stage: Stage) -> Findings:
    """Send them all to a server in closed mode, and a fifth to one in open mode."""
    requests = REQUESTS // 10 if stage.quick else REQUESTS
    gates: list[Gate] = []
    figures: dict[str, Any] = {}
    for wanted in (
        Assault(requests=requests, closed=True),
        Assault(requests=requests // 5, closed=False),
    ):
        outcome = assault(stage, wanted)
        gates += outcome.gates(wanted)
        figures["closed" if wanted.closed else "open"] = outcome.figures(wanted)
    return Findings(gates=tuple(gates), figures=figures)


def assault(stage: Stage, wanted: Assault) -> Outcome:
    """Start a server, send it hostile requests, and return what became of them."""
    wish = stage.wish(*SETTINGS, engine="scripted")
    if wanted.closed:
        key = a_key(wish.folder / wish.name / "forebay")
        settings = (*wish.settings, *_CLOSED)
        wish = dataclasses.replace(wish, settings=settings, key=key)
    stage.say("starting a server")
    with serving(wish) as server:
        return _assaulted(stage, server, wanted)


def _assaulted(stage: Stage, server: Server, wanted: Assault) -> Outcome:
    credential = (("Authorization", f"Bearer {server.key}"),) if server.key else ()
    cases = Cases(wanted.seed, Bodies(_document(server)), credential=credential)
    workers, began = set(server.workers()), time.monotonic()
    with contextlib.ExitStack() as stack:
        proxy = _proxy(stage, stack, server) if wanted.proxied else None
        direct, through = (
            Sender(server.target, closed=wanted.closed),
            Sender(proxy or server.target, proxied=proxy is not None, closed=wanted.closed),
        )
        warm_bytes = uvloop.run(_send(stage, server, wanted, cases, (direct, through)))
        took_s = time.monotonic() - began
        stage.say("waiting for rest")
        rest = until_rest(server, _REST_S_MAX)
    grown_bytes = server.own_usage().rss_bytes
    return Outcome(
        direct=direct,
        through=through,
        took_s=took_s,
        growth=None if not warm_bytes else 100 * (grown_bytes / warm_bytes - 1),
        workers_lost=len(workers - set(server.workers())),
        smuggled=len(_smuggled(server, stage.folder)),
        defects=_defects(server),
        ready=server.ready(),
        rest=rest,
    )


async def _send(  # noqa: PLR0917 - each is one of the parties
    stage: Stage,
    server: Server,
    wanted: Assault,
    cases: Cases,
    senders: tuple[Sender, Sender],
) -> int:
    """Send everything; return the gateway's bytes of memory once it was warm."""
    direct, through = senders
    proxied = int(wanted.total * _PROXIED)
    lots = (
        (direct, cases.each(range(proxied, wanted.total)), _CONNECTIONS),
        (through, cases.each(range(proxied)), _PROXIED_CONNECTIONS),
    )
    warm_bytes = 0
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(sender.work(lot))
            for sender, lot, connections in lots
            for _ in range(connections)
        ]
        while not all(task.done() for task in tasks):
            sent = direct.count + through.count
            stage.say("hostile requests", sent, wanted.total)
            if not warm_bytes and sent >= wanted.warm:
                warm_bytes = server.own_usage().rss_bytes
            await asyncio.sleep(_POLL_S)
    return warm_bytes


def _document(server: Server) -> dict[str, Any]:
    status, text = server.get("/openapi.json")
    if not text:
        raise DrillFailed(f"/openapi.json answers {status}")
    found: dict[str, Any] = json.loads(text)
    return found


def _proxy(stage: Stage, stack: contextlib.ExitStack, server: Server) -> Target | None:
    """Return an nginx before the server, or None where there is none."""
    port = server.target.port
    try:
        return stack.enter_context(nginx.balancing([port, port, port], stage.folder, logged=True))
    except Skipped:
        return None


def _defects(server: Server) -> int:
    with server.log.open("rb") as log:
        return sum(b'"gateway.defect"' in line for line in log)


def _smuggled(server: Server, folder: Path) -> set[bytes]:
    """Return the second requests that the server served without a proxy that had read them so.

    nginx reads some chunk sizes that we refuse, and then hands two sound requests on: those are
    two to us as they are to nginx.  What must not be is that we see one where it saw none.
    """
    read = folder / nginx.ACCESS_LOG
    told = set(_SECOND.findall(read.read_bytes())) if read.exists() else set()
    return set(_SERVED.findall(server.log.read_bytes())) - told


HOSTILE: Final = Drill(
    name="hostile",
    about="100,000 hostile requests, direct and through nginx: answered clearly, nobody hurt",
    run=run,
)
