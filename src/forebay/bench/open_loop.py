"""A load client whose requests come when they are due, not when the server is ready for them.

Latencies count from the moment a request was due, not from when it was sent: a client that
waits for a slow server before it asks again hides the slowness (coordinated omission).  Sends
that are late through the client's own fault are counted.
"""

import asyncio
import contextlib
import dataclasses
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from forebay.bench.answer import Answer
from forebay.bench.client import Target
from forebay.bench.connection import Connection, Reply
from forebay.bench.workload import Encoded, Wave, arrivals
from forebay.core.clock import Clock

_LATE_S: Final = 0.01
"""Timers may ring that late; the last ones are waited for."""
_OPENED_S: Final = 0.25
"""Connections that are open at the beginning: for so many seconds of arrivals."""
_SKIPPED_EVENTS: Final = 1
"""Events of a chat stream before the first with text: the one that names the role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of one request; moments are seconds from the load's beginning."""

    wave: str
    due: float
    sent: float
    first: float | None
    ended: float
    status: int
    ok: bool
    """Status 200 and a whole body; for a stream, `[DONE]` and no error event."""
    events: int = 0
    retry_after_ms: int | None = None
    """What a refusal named."""
    retry: bool = False
    """It came back after a refusal, at the moment named."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Asked:
    wave: Wave
    encoded: Encoded
    due: float
    number: int
    sent: float
    retry: bool = False
    ticket: str = ""


class OpenLoop:
    """A load on one server.

    Mutable state: the samples, the idle connections, and what is under way.
    """

    def __init__(
        self,
        target: Target,
        *,
        seed: int,
        connections_max: int = 4_096,
        now: Clock = time.monotonic,
    ) -> None:
        """Draw arrivals from `seed`; a request that finds no connection left waits for one."""
        self.samples: list[Sent] = []
        self._target = target
        self._source = random.Random(seed)  # noqa: S311 - arrivals, not secrets
        # Numbers begin at random, so that no two loads of one server send the same prompt.
        self._first = self._source.randrange(10**9) * 10
        self._connections_left = connections_max
        self._now = now
        self._began = 0.0
        self._ends_s = 0.0
        self._number = 0
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._waiting: deque[_Asked] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._under_way = 0
        self._rest = asyncio.Event()

    async def run(self, waves: Sequence[Wave], *, closing_s: float = 30.0) -> None:
        """Send the waves and wait for the answers.

        Answers that take longer than `closing_s` after the last arrival are given up.
        """
        host = f"{self._target.host}:{self._target.port}"
        encoded = {wave.name: Encoded(wave, host, self._first) for wave in waves}
        plan = sorted(
            ((at, wave) for wave in waves if wave.per_s for at in arrivals(wave, self._source)),
            key=lambda each: each[0],
        )
        per_s = sum(wave.per_s for wave in waves)
        await self._warm(min(self._connections_left, int(per_s * _OPENED_S)))
        self._ends_s = max(wave.begins_s + wave.seconds for wave in waves)
        self._began = self._now()
        loop = asyncio.get_running_loop()
        for wave in waves:
            for _ in range(wave.hands):
                loop.call_later(wave.begins_s, self._hand, wave, encoded[wave.name])
        for at, wave in plan:
            if (wait_s := at - self._passed()) > 0:
                await asyncio.sleep(wait_s)
            self._send(self._asked(wave, encoded[wave.name], at))
        await self._closed(closing_s)

    def _passed(self) -> float:
        return self._now() - self._began

    def _asked(self, wave: Wave, encoded: Encoded, due: float) -> _Asked:
        self._number += 1
        return _Asked(wave, encoded, due, self._number, self._passed())

    def _hand(self, wave: Wave, encoded: Encoded) -> None:
        """Ask once more in a closed loop, if its time is not over."""
        now = self._passed()
        if now < wave.begins_s + wave.seconds:
            self._send(self._asked(wave, encoded, now))

    async def _warm(self, connections: int) -> None:
        """Open connections before the first request: clients have theirs."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, connection = await loop.create_connection(
                partial(Connection, self._now), self._target.host, self._target.port
            )
            self._connections_left -= 1
            connection.closed.add_done_callback(self._connection_closed)
            self._idle.append(connection)

    def _send(self, asked: _Asked) -> None:
        self._under_way += 1
        self._rest.clear()
        self._start(asked)

    def _start(self, asked: _Asked) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                self._ask(connection, asked)
                return
        if not self._connections_left:
            self._waiting.append(asked)
            return
        self._connections_left -= 1
        task = asyncio.get_running_loop().create_task(self._open(asked))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, asked: _Asked) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                partial(Connection, self._now), self._target.host, self._target.port
            )
        except OSError:
            self._note(asked, Answer(), error="it could not connect")
            self._connection_closed()
            return
        connection.closed.add_done_callback(self._connection_closed)
        self._ask(connection, asked)

    def _connection_closed(self, _: object = None) -> None:
        self._connections_left += 1
        if self._waiting:
            self._start(self._waiting.popleft())

    def _ask(self, connection: Connection, asked: _Asked) -> None:
        header = f"\r\nx-forebay-ticket: {asked.ticket}\r\n".encode() if asked.ticket else b""
        self._busy.add(connection)
        connection.ask(
            asked.encoded.request(asked.number, header),
            partial(self._told, asked),
            events_to_skip=_SKIPPED_EVENTS if asked.wave.stream else 0,
        )

    def _told(self, asked: _Asked, reply: Reply) -> None:
        answer = reply.answer
        self._busy.discard(reply.connection)
        if not reply.error and answer.header("connection") != "close":
            self._idle.append(reply.connection)
            if self._waiting:
                self._start(self._waiting.popleft())
        self._note(asked, answer, error=reply.error)
        if asked.wave.hands:
            self._hand(asked.wave, asked.encoded)
        elif not asked.retry and asked.wave.retried_share:
            self._come_back(asked, answer)

    def _come_back(self, asked: _Asked, answer: Answer) -> None:
        """Send a refused request again, exactly when the refusal said, while the load goes on."""
        wait_ms = answer.header("retry-after-ms")
        if wait_ms is None or self._source.random() >= asked.wave.retried_share:
            return
        wait_s = int(wait_ms) / 1000
        due = self._passed() + wait_s
        if due < self._ends_s:
            ticket = answer.header("x-forebay-ticket") or ""
            again = dataclasses.replace(asked, due=due, retry=True, ticket=ticket)
            asyncio.get_running_loop().call_later(wait_s, self._send_again, again)

    def _send_again(self, asked: _Asked) -> None:
        self._send(dataclasses.replace(asked, sent=self._passed()))

    def _note(self, asked: _Asked, answer: Answer, *, error: str) -> None:
        whole = answer.done and not answer.failed if asked.wave.stream else True
        wait_ms = answer.header("retry-after-ms") if answer.head else None
        self.samples.append(
            Sent(
                wave=asked.wave.name,
                due=asked.due,
                sent=asked.sent,
                first=None if answer.first is None else answer.first - self._began,
                ended=self._passed(),
                status=answer.status,
                ok=not error and answer.status == HTTPStatus.OK and whole,
                events=answer.events,
                retry_after_ms=None if wait_ms is None else int(wait_ms),
                retry=asked.retry,
                error=error,
            )
        )
        self._under_way -= 1
        if not self._under_way:
            self._rest.set()

    async def _closed(self, closing_s: float) -> None:
        await asyncio.sleep(max(0.0, self._ends_s - self._passed()) + _LATE_S)
        if self._under_way:
            # Requests may still wait for a connection, or for the server.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(closing_s):
                    await self._rest.wait()
        for connection in (*self._busy, *self._idle):
            connection.abort()
