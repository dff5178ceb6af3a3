"""Drill: clients vanish while they are read to, and how soon nothing is held for them.

They go in groups, so that the time from a group's going to the moment at which the server holds
that many requests less is an upper bound for each of them.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import uvloop

from forebay.drill.client import Leave, Visit, chat
from forebay.drill.findings import Findings, Gate, at_most, exactly
from forebay.drill.generator import percentiles_ms
from forebay.drill.rest import until_rest
from forebay.drill.server import Server
from forebay.drill.stage import Drill, Stage

FREED_MS: Final = 250.0
_GROUP: Final = 10
_POLL_S: Final = 0.005
_FREED_S_MAX: Final = 5.0
_SEND_S: Final = 2.0
"""How long the server of this drill waits for a client that takes nothing."""
_SILENT_S_MAX: Final = 60.0
"""Within this the buffers between the two are full, the server's patience is over, and all is
freed."""
_SETTINGS: Final = (
    *("scripted.decode_s=0.01", "scripted.running_max=2000", "admission.waiting_max=2000"),
    f"gateway.send_s_max={_SEND_S}",
)
_RECEIVE_BYTES: Final = 4_096
_WORD: Final = "vanishing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """How soon the clients of one manner of leaving were freed."""

    how: Leave
    clients: int
    freed_s: tuple[float, ...]
    """Of each group, from its going to nothing held for it."""
    late: int
    """Groups that were not freed while we watched."""


def run(stage: Stage) -> Findings:
    """Let clients vanish in three manners."""
    clients = 40 if stage.quick else 340
    with stage.serving(*_SETTINGS) as server:
        gone = [
            uvloop.run(_vanish(stage, server, how, clients=clients))
            for how in (Leave.FIN, Leave.RST)
        ]
        silent_s = uvloop.run(_fall_silent(stage, server, clients=clients))
        rest = until_rest(server, _FREED_S_MAX)
        propagation_s = server.quantile("llm_cancel_propagation_seconds", 0.99)
        cancelled = server.metric("llm_requests_total", outcome="cancelled")
    gates: list[Gate] = []
    for each in gone:
        found = percentiles_ms(list(each.freed_s)).get("p99")
        gates += [
            at_most(f"freed after {each.how}, p99", found, FREED_MS, "ms"),
            exactly(f"groups not freed after {each.how}", each.late, 0),
        ]
    own_ms = None if propagation_s is None else 1000 * propagation_s
    gates += [
        at_most("freed once the server knew, by its own clock, p99", own_ms, FREED_MS, "ms"),
        at_most("all who fell silent freed after", silent_s, _SILENT_S_MAX, "s"),
        exactly("clients gone less cancelled in the books", 3 * clients - cancelled, 0),
        *rest.gates(),
    ]
    figures: dict[str, Any] = {
        "clients": 3 * clients,
        "freed_ms": {each.how: percentiles_ms(list(each.freed_s)) for each in gone},
        "silent_freed_s": silent_s,
        "own_p99_s": propagation_s,
        "rest": dataclasses.asdict(rest),
    }
    return Findings(gates=tuple(gates), figures=figures)


async def _vanish(stage: Stage, server: Server, how: Leave, *, clients: int) -> Gone:
    """Connect clients group by group, let each group go, and time the server."""
    freed: list[float] = []
    groups = clients // _GROUP
    for group in range(groups):
        stage.say(f"clients vanish by {how}", group, groups)
        visits = await asyncio.gather(*(_reading(server, n) for n in range(_GROUP)))
        left = time.monotonic()
        for visit in visits:
            visit.leave(how)
        freed_s = await _until_freed(server, left, _FREED_S_MAX)
        freed += [] if freed_s is None else [freed_s]
    return Gone(how=how, clients=clients, freed_s=tuple(freed), late=groups - len(freed))


async def _fall_silent(stage: Stage, server: Server, *, clients: int) -> float | None:
    """Let all clients read no more at once; return how long the server holds anything for them."""
    stage.say("clients fall silent", 0, _SILENT_S_MAX)
    visits = [await _reading(server, n, receive_bytes=_RECEIVE_BYTES) for n in range(clients)]
    left = time.monotonic()
    for visit in visits:
        visit.leave(Leave.SILENT)
    freed_s = await _until_freed(
        server, left, _SILENT_S_MAX, say=lambda: stage.say("silence", time.monotonic() - left, 60)
    )
    for visit in visits:
        visit.leave(Leave.RST)
    return freed_s


async def _reading(server: Server, number: int, *, receive_bytes: int = 0) -> Visit:
    """Return a client that has begun to read a stream without an end."""
    body = chat(
        "scripted",
        f"{_WORD} {number} " * 20,
        max_tokens=30_000,
        ignore_eos=True,
        stream=True,
    )
    visit = await Visit.begun(server.target, body, receive_bytes=receive_bytes)
    await visit.read(bytes_min=400)
    return visit


async def _until_freed(
    server: Server, left: float, wait_s_max: float, *, say: Callable[[], None] = lambda: None
) -> float | None:
    """Return the seconds since `left` until nothing runs, or None if something always did."""
    while (passed_s := time.monotonic() - left) < wait_s_max:
        if not await asyncio.to_thread(server.metric, "llm_engine_sequences_running"):
            return passed_s
        say()
        await asyncio.sleep(_POLL_S)
    return None


VANISH: Final = Drill(
    name="vanish",
    about="clients vanish by FIN, RST and silence: how soon nothing is held for them",
    run=run,
)
