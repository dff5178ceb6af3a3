"""Drill: thousands of requests, left, timed out and struck by dying workers, and the books after.

Each client draws its fate from a seed: it reads to the end, leaves at a random moment, or sets a
deadline that may pass.  Meanwhile workers are killed.
"""

import asyncio
import dataclasses
import random
from collections import Counter
from dataclasses import dataclass
from typing import Final

import uvloop

from forebay.drill import faults
from forebay.drill.client import Leave, Seen, Visit, chat
from forebay.drill.findings import Findings, at_least, exactly
from forebay.drill.rest import until_rest
from forebay.drill.server import Server
from forebay.drill.stage import Drill, Stage

_CLIENTS: Final = 96
_REST_S_MAX: Final = 20.0
_LEAVE_S_MAX: Final = 0.4
_STREAMED: Final = 0.6
_WITHOUT_KEY: Final = 0.8
_HURRIED: Final = 0.15
"""The share of requests with a deadline that may pass; they are among those that stay."""
_STAYED: Final = 0.6
_SETTINGS: Final = (
    *("scripted.decode_s=0.004", "scripted.prefill_s=0.01", "scripted.running_max=48"),
    # Kills follow each other faster than crashes would: no waits between restarts.
    "supervisor.restart_wait_s_max=0.1",
    # A keyed flight outlives its readers on purpose; here it has to end before we look.
    "replay.linger_s=1",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much happens."""

    requests: int
    losses: int
    """Workers that are killed."""


FULL: Final = Scale(requests=10_000, losses=20)
QUICK: Final = Scale(requests=1_500, losses=4)


class Crowd:
    """Clients who share the requests that are left.  Mutable state: those, and what they saw."""

    def __init__(self, stage: Stage, server: Server, scale: Scale) -> None:
        """Send `scale.requests` requests to a server."""
        self._stage = stage
        self._server = server
        self._scale = scale
        self._dice = random.Random(scale.requests)  # noqa: S311 - fates, not secrets
        self.sent = 0
        self.fates: Counter[str] = Counter()

    async def run(self) -> None:
        """Send them all, while workers are killed."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_CLIENTS):
                group.create_task(self._client())

    async def _client(self) -> None:
        apart = self._scale.requests // (self._scale.losses + 1)
        while self.sent < self._scale.requests:
            self.sent += 1
            self._stage.say("requests with random fates", self.sent, self._scale.requests)
            if self.sent % apart == 0 and len(self._stage.faults) < self._scale.losses:
                await self._kill()
            self.fates[await self._request(self.sent)] += 1

    async def _request(self, number: int) -> str:
        dice = self._dice
        body = chat(
            "scripted",
            f"request {number} of many",
            max_tokens=dice.randrange(1, 60),
            ignore_eos=True,
            stream=dice.random() < _STREAMED,
            temperature=dice.choice((0.0, 1.0)),
        )
        headers = {} if dice.random() < _WITHOUT_KEY else {"idempotency-key": f"{number}"}
        draw = dice.random()
        if draw < _HURRIED:
            headers["x-request-timeout"] = f"{dice.uniform(0.02, 0.4):.3f}"
        visit = await Visit.begun(self._server.target, body, headers)
        if draw < _STAYED:
            seen = await visit.read()
            visit.leave()
            return fate(seen)
        reading = asyncio.create_task(visit.read())
        await asyncio.wait({reading}, timeout=dice.uniform(0.0, _LEAVE_S_MAX))
        visit.leave(dice.choice((Leave.FIN, Leave.RST)))
        seen = await reading
        return f"left, then {fate(seen)}" if seen.whole else "left"

    async def _kill(self) -> None:
        pids = await asyncio.to_thread(self._server.workers)
        if pids:
            with self._stage.broken(faults.killed(self._dice.choice(pids))):
                pass  # the supervisor undoes it


def fate(seen: Seen) -> str:
    """Return what became of a request, in words that count."""
    if not seen.whole:
        return "no whole answer"
    if seen.ok:
        return "answered"
    return "a stream that ended with an error" if seen.stream else f"status {seen.status}"


def run(stage: Stage) -> Findings:
    """Send requests with random fates and read the books."""
    scale = QUICK if stage.quick else FULL
    with stage.serving(*_SETTINGS) as server:
        crowd = Crowd(stage, server, scale)
        uvloop.run(crowd.run())
        stage.say("waiting until nothing is held")
        rest = until_rest(server, _REST_S_MAX)
    answered = crowd.fates["answered"] + crowd.fates["left, then answered"]
    gates = (
        *rest.gates(),
        exactly("clients who stayed and got no whole answer", crowd.fates["no whole answer"], 0),
        at_least("answered by the books less seen by clients", rest.outcomes["ok"] - answered, 0),
        exactly("workers killed", len(stage.faults), scale.losses),
    )
    figures = {
        "requests": crowd.sent,
        "fates": dict(crowd.fates),
        "rest": dataclasses.asdict(rest),
    }
    return Findings(gates=gates, figures=figures)


CANCELS: Final = Drill(
    name="cancels",
    about="requests left, timed out and struck by dying workers: the books balance, nothing leaks",
    run=run,
)
