"""Drill: the gateway is killed while many clients ask under keys, and starts again.

Every key is asked for by several clients at once, and by one more only after the restart; half
of the keys are streams.  Clients try again until they have an answer; of each stream's clients
one goes on with `Last-Event-ID` from where it was cut.  What everybody saw is held against a
small model (`history.py`).
"""

import asyncio
import dataclasses
import random
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import uvloop

from forebay.bench.client import Target
from forebay.drill import faults
from forebay.drill.client import Seen, ask, chat
from forebay.drill.findings import Findings, at_most, exactly
from forebay.drill.history import Op, violations
from forebay.drill.rest import until_rest
from forebay.drill.server import started
from forebay.drill.stage import Drill, Stage

DUPLICATES: Final = 5
"""Clients who ask for one key at once.  One more asks after the restart."""
_ANSWERED_BEFORE: Final = 0.3
"""The gateway dies when this share of the clients has an answer."""
_TRY_S_MAX: Final = 90.0
_REST_S_MAX: Final = 45.0
_SETTINGS: Final = (
    *("scripted.decode_s=0.01", "scripted.prefill_s=0.02", "scripted.running_max=64"),
    *("admission.waiting_max=10000", "admission.interactive_ttft_s=120", "admission.wait_s_max=90"),
    "replay.linger_s=2",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one client asks for, again and again."""

    key: str
    client: int
    stream: bool

    @property
    def late(self) -> bool:
        """Whether it asks only once the gateway has been killed."""
        return self.client == DUPLICATES

    @property
    def resumes(self) -> bool:
        """Whether it goes on where it was cut."""
        return self.stream and self.client == 0

    def body(self) -> bytes:
        """Return the request, the same for all clients of a key."""
        return chat(
            "scripted",
            f"the words of key {self.key}",
            max_tokens=20,
            ignore_eos=True,
            stream=self.stream,
        )


class Clients:
    """All clients.  Mutable state: what they saw, and how many are done."""

    def __init__(self, target: Target, wishes: list[Wish]) -> None:
        """Ask a server for all wishes at once."""
        self._target = target
        self._wishes = wishes
        self._dice = random.Random(len(wishes))  # noqa: S311 - waits, not secrets
        self.history: list[Op] = []
        self.statuses: dict[int, int] = {}
        self.enough = asyncio.Event()
        self.killed = asyncio.Event()

    async def run(self) -> None:
        """Ask until everybody has an answer."""
        async with asyncio.TaskGroup() as group:
            for wish in self._wishes:
                group.create_task(self._client(wish))

    async def _client(self, wish: Wish) -> None:
        if wish.late:
            await self.killed.wait()
        asked = time.monotonic()
        had, tries, resumed = b"", 0, False
        while time.monotonic() - asked < _TRY_S_MAX:
            tries += 1
            headers = {"idempotency-key": wish.key}
            if had:
                headers["last-event-id"] = last_id(had)
            seen = await ask(self._target, wish.body(), headers)
            self.statuses[seen.status] = self.statuses.get(seen.status, 0) + 1
            if seen.ok:
                resumed = bool(had)
                body = had + seen.body
                self._note(wish, asked, seen, body=body, tries=tries, resumed=resumed)
                return
            had = self._kept(wish, had, seen)
            await asyncio.sleep(self._dice.uniform(0.05, 0.3))
        self.history.append(
            Op(
                key=wish.key,
                client=wish.client,
                asked=asked,
                ended=time.monotonic(),
                body=None,
                tries=tries,
            )
        )

    def _kept(self, wish: Wish, had: bytes, seen: Seen) -> bytes:
        """Return the whole events that a client keeps, to go on from; none when they are gone."""
        if not wish.resumes or seen.status == HTTPStatus.GONE:
            return b""
        if seen.status != HTTPStatus.OK or seen.failed:
            return had
        kept = seen.body[: seen.body.rfind(b"\n\n") + 2]
        return had + kept if b"\nid: " in b"\n" + kept else had

    def _note(  # noqa: PLR0913 - the facts of one answer
        self, wish: Wish, asked: float, seen: Seen, *, body: bytes, tries: int, resumed: bool
    ) -> None:
        self.history.append(
            Op(
                key=wish.key,
                client=wish.client,
                asked=asked,
                ended=seen.ended,
                body=body,
                tries=tries,
                replayed=seen.headers.get("idempotent-replayed") == "true",
                degraded="x-forebay-degraded" in seen.headers,
                resumed=resumed,
            )
        )
        if len(self.history) >= _ANSWERED_BEFORE * len(self._wishes):
            self.enough.set()


def last_id(events: bytes) -> str:
    """Return the id of the last event."""
    return events.rpartition(b"id: ")[2].partition(b"\n")[0].decode()


def run(stage: Stage) -> Findings:
    """Kill the gateway in the middle, start it again, and read what the clients saw."""
    keys = 100 if stage.quick else 1_000
    wishes = [
        Wish(key=f"drill-{number}", client=client, stream=number % 2 == 0)
        for number in range(keys)
        for client in range(DUPLICATES + 1)
    ]
    return uvloop.run(_drill(stage, wishes))


async def _drill(stage: Stage, wishes: list[Wish]) -> Findings:
    wish = stage.wish(*_SETTINGS)
    server = await asyncio.to_thread(started, wish)
    try:
        await asyncio.to_thread(server.until_ready)
        clients = Clients(server.target, wishes)
        stage.say(f"{len(wishes)} clients ask")
        asking = asyncio.create_task(clients.run())
        await clients.enough.wait()
        answered_before = len(clients.history)
        with stage.broken(faults.killed(server.process.pid, "gateway killed (SIGKILL)")):
            await asyncio.to_thread(server.process.wait)
        clients.killed.set()
        stage.say("the gateway was killed")
        again = dataclasses.replace(wish, port=server.target.port)
        server = await asyncio.to_thread(started, again)
        back_s = await asyncio.to_thread(server.until_ready)
        stage.say("the gateway is back")
        await asking
        rest = await asyncio.to_thread(until_rest, server, _REST_S_MAX)
        made = await asyncio.to_thread(server.metric, "llm_answers_total", source="engine")
    finally:
        await asyncio.to_thread(server.stop)
    history = clients.history
    broken = violations(history)
    finished = [op for op in history if op.body is not None]
    before = {op.key for op in sorted(finished, key=lambda op: op.ended)[:answered_before]}
    keys = len({wish.key for wish in wishes})
    gates = (
        exactly("clients answered", len(finished), len(wishes)),
        exactly("answers that the model does not allow", len(broken), 0),
        at_most("answers made after the restart, for keys not answered", made, keys - len(before)),
        *rest.gates(),
    )
    figures: dict[str, Any] = {
        "keys": keys,
        "clients": len(wishes),
        "answered_before_the_kill": answered_before,
        "keys_answered_before_the_kill": len(before),
        "answers_made_after": made,
        "replayed": sum(op.replayed for op in finished),
        "degraded": sum(op.degraded for op in finished),
        "resumed": sum(op.resumed for op in finished),
        "tries_max": max(op.tries for op in history),
        "statuses": {str(status): count for status, count in clients.statuses.items()},
        "back_s": back_s,
        "violations": broken[:10],
    }
    return Findings(gates=gates, figures=figures)


GATEWAY: Final = Drill(
    name="gateway",
    about="the gateway is killed while clients ask under keys: each answer is made once",
    run=run,
)
