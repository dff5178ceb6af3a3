"""Drill: the worker dies, stands still or spins under load, and what becomes of the requests.

Each fault has a server of its own, so that no wait between restarts is left from another.
"""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import uvloop

from forebay.drill import faults
from forebay.drill.client import Seen, ask, chat
from forebay.drill.faults import Fault
from forebay.drill.findings import DrillFailed, Findings, Gate, at_most, exactly
from forebay.drill.rest import until_rest
from forebay.drill.server import Server
from forebay.drill.stage import Drill, Stage

NOT_READY_S: Final = 5.0
RECOVERED_S: Final = 2.0
"""Beyond what loading the model takes."""
_CLIENTS: Final = 24
_TOKENS: Final = 48
_BEFORE_S: Final = 2.0
_AFTER_S: Final = 2.0
_BACK_S_MAX: Final = 60.0
_CALM_S: Final = 3.0
"""A server that was ready for so long after a fault has recovered from it."""
_POLL_S: Final = 0.01
_REST_S_MAX: Final = 10.0
_MODEL: Final = "smollm2-135m-instruct"


@dataclass(slots=True, kw_only=True)
class Readiness:
    """What `/readyz` said, read all the time by a thread.  Moments are monotonic seconds."""

    changes: list[tuple[float, bool]] = field(default_factory=list)

    def absences(self, since: float) -> list[tuple[float, float | None]]:
        """Return when it was not ready, and when it was again, from a moment on."""
        found: list[tuple[float, float | None]] = []
        for at, ready in self.changes:
            if at < since:
                continue
            if not ready:
                found.append((at, None))
            elif found:
                found[-1] = (found[-1][0], at)
        return found


@contextmanager
def watching(server: Server) -> Iterator[Readiness]:
    """Read `/readyz` until the body ends."""
    readiness, over = Readiness(), threading.Event()

    def watch() -> None:
        was = True
        while not over.wait(_POLL_S):
            if (ready := server.ready()) != was:
                readiness.changes.append((time.monotonic(), ready))
                was = ready

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield readiness
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request of the load and its answer."""

    prompt: str
    stream: bool
    seen: Seen


class Load:
    """Clients who ask again until they are stopped: half of them whole, half of them streams."""

    def __init__(self, server: Server, model: str) -> None:
        """Ask a model of a server."""
        self._server = server
        self._model = model
        self._numbers = itertools.count()
        self.over = False
        self.asked: list[Asked] = []

    async def client(self, stream: bool) -> None:  # noqa: FBT001 - which kind of client
        """Ask again and again."""
        while not self.over:
            prompt = f"request {next(self._numbers)} counts slowly upwards"
            body = chat(
                self._model,
                prompt,
                max_tokens=_TOKENS,
                ignore_eos=True,
                temperature=0,
                stream=stream,
            )
            seen = await ask(self._server.target, body)
            self.asked.append(Asked(prompt=prompt, stream=stream, seen=seen))
            if seen.status != HTTPStatus.OK:
                await asyncio.sleep(0.1)


def run(stage: Stage) -> Findings:
    """Break the worker in each manner."""
    gates: list[Gate] = []
    figures: dict[str, Any] = {}
    kinds = ["killed", "stopped"] + (["spinning"] if stage.engine == "scripted" else [])
    for kind in kinds:
        found = _one(stage, kind)
        figures[kind] = found
        gates += _gates(kind, found)
    return Findings(gates=tuple(gates), figures=figures)


def _gates(kind: str, found: dict[str, Any]) -> list[Gate]:
    fates = found["fates"]
    return [
        exactly(f"{kind}: whole requests lost", fates.get("whole: lost", 0), 0),
        exactly(f"{kind}: streams that ended in silence", fates.get("stream: silent", 0), 0),
        exactly(f"{kind}: answers with a wrong text", found["wrong"], 0),
        at_most(f"{kind}: not ready after", found["not_ready_s"], NOT_READY_S, "s"),
        at_most(
            f"{kind}: ready again, beyond loading, after", found["beyond_load_s"], RECOVERED_S, "s"
        ),
        exactly(f"{kind}: held at rest", found["held"], 0),
    ]


def _one(stage: Stage, kind: str) -> dict[str, Any]:
    scripted = stage.engine == "scripted"
    settings = ("scripted.decode_s=0.02", "scripted.prefill_s=0.05") if scripted else ()
    model = "scripted" if scripted else _MODEL
    with stage.serving(*settings) as server, watching(server) as readiness:
        load = Load(server, model)
        broken_at = uvloop.run(_under_load(stage, server, load, kind))
        rest = until_rest(server, _REST_S_MAX)
    absences = readiness.absences(broken_at)
    away = [back - gone for gone, back in absences if back is not None]
    loads = _replacements_s(server)
    fates = Counter(_fate(asked) for asked in load.asked)
    return {
        "fates": dict(fates),
        "wrong": sum(scripted and _wrong(asked) for asked in load.asked),
        "not_ready_s": absences[0][0] - broken_at if absences else None,
        "away_s": away,
        "loads_s": loads,
        "beyond_load_s": _beyond(away, loads) if len(away) == len(absences) else None,
        "held": sum(rest.held.values()),
        "workers_lost": int(server_losses(server)),
    }


async def _under_load(stage: Stage, server: Server, load: Load, kind: str) -> float:  # noqa: PLR0917 - one step of `_one`
    """Load the server, break its worker, wait until it is well; return when it was broken."""
    clients = [asyncio.create_task(load.client(number % 2 == 0)) for number in range(_CLIENTS)]
    stage.say(f"worker {kind}: before")
    await asyncio.sleep(_BEFORE_S)
    spinning: asyncio.Task[Seen] | None = None
    if kind == "spinning":
        body = chat("scripted", "some words !stall", max_tokens=_TOKENS)
        spinning = asyncio.create_task(ask(server.target, body))
        fault = Fault(name="worker in a busy loop (!stall)", inject=lambda: None)
    else:
        pids = server.workers()
        if not pids:
            raise DrillFailed("there is no worker to break")
        fault = (faults.killed if kind == "killed" else faults.stopped)(pids[0])
    broken_at = time.monotonic()
    stage.say(f"worker {kind}: broken")
    with stage.broken(fault):
        await _until_well(server)
    stage.say(f"worker {kind}: after")
    await asyncio.sleep(_AFTER_S)
    load.over = True
    await asyncio.gather(*clients, *([spinning] if spinning else []))
    return broken_at


async def _until_well(server: Server) -> None:
    """Wait until it was not ready, and then ready for a while."""
    began = time.monotonic()
    gone, calm_since = False, began
    while time.monotonic() - began < _BACK_S_MAX:
        ready = await asyncio.to_thread(server.ready)
        now = time.monotonic()
        if not ready:
            gone, calm_since = True, now
        elif now - calm_since > (_CALM_S if gone else 2 * NOT_READY_S):
            return
        await asyncio.sleep(_POLL_S)


def _fate(asked: Asked) -> str:
    seen, kind = asked.seen, "stream" if asked.stream else "whole"
    if seen.ok:
        return f"{kind}: answered"
    if seen.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        return f"{kind}: refused"
    if not asked.stream:
        return "whole: lost"
    return "stream: ended with an error" if seen.failed or seen.status >= 500 else "stream: silent"  # noqa: PLR2004 - an answer in words, too


def _wrong(asked: Asked) -> bool:
    """Return whether an answer is not what this engine says: its prompt, round and round."""
    said = f"{asked.prompt} " * _TOKENS
    return asked.seen.ok and not said.startswith(asked.seen.text)


def _replacements_s(server: Server) -> list[float]:
    """Return what loading each worker after the first took, by the log."""
    ready = [line for line in server.log_lines() if line.get("message") == "worker.ready"]
    return [line["forebay.after_s"] for line in ready[1:]]


def _beyond(away: Sequence[float], loads: Sequence[float]) -> float | None:
    """Return the longest absence beyond its own loading; beyond the shortest, where unclear."""
    if not away or not loads:
        return None
    if len(away) == len(loads):
        return max(gone - load for gone, load in zip(away, loads, strict=True))
    return max(away) - min(loads)


def server_losses(server: Server) -> int:
    """Return how many workers were lost, by the log."""
    return sum(line.get("message") == "worker.lost" for line in server.log_lines())


WORKER: Final = Drill(
    name="worker",
    about="the worker is killed, stopped, spinning under load: nothing is lost, it is replaced",
    run=run,
    engines=("scripted", "auto"),
)
