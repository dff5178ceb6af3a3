"""One generation under way, whoever reads it.

Theory of operation
-------------------
CLAIMING -> (AWAITING ->) RUNNING -> ENDING -> ENDED, or from any of them to ENDED by failure.

CLAIMING asks the store whose the key is; a flight without a key passes through.  AWAITING: the
key is another process's, whose answer or end is awaited.  RUNNING: the events are made here, or
taken from an answer that is kept.  ENDING: they are complete, and the store is being told; from
here on nobody's leaving stops it.  ENDED: its readers read on, and nobody joins.

When the last reader leaves, a flight that makes tokens for a key stays for `linger_s`, for its
client may come back, and while others wait for `linger_pressed_s` only; every other one, one that
waits for its place included, is closed at once, and so is one whose log nobody could read.  The
task ends when it is done, fails or is cancelled; `_landed` is the one place that tells the
readers, however that was.
"""

import asyncio
import enum
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from forebay.core.clock import Clock
from forebay.core.errors import Draining, ServingError
from forebay.core.request import Begun, Event
from forebay.serve.flight_log import FlightLog, Reader
from forebay.serve.store import Wish

_TIME_RATIO_MIN = 0.5
"""Least time a flight has left, against the time of one who joins it without need."""

_LOOK_S = 0.25
"""How often a generation that nobody reads looks whether others wait."""

_RETRY_S = 1.0
"""Told when a flight ends because the server does: elsewhere there is room at once."""


class Stage(enum.IntEnum):
    """How far a flight is.  It only moves down this list."""

    CLAIMING = 0
    AWAITING = 1
    RUNNING = 2
    ENDING = 3
    ENDED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightPlan:
    """What a flight is for, and what to do with it."""

    name: str
    """What its readers have in common."""
    owner: str
    """The completion that began it."""
    tenant: str
    since: float
    deadline: float
    """Of whoever began it: it goes on no longer, whoever reads it."""
    wish: Wish | None = None
    """Its claim to a key; None without one."""
    linger_s: float = 0.0
    linger_pressed_s: float = 0.0
    is_pressed: Callable[[], bool] = bool
    """Whether others wait for the places that it holds."""


class Flight:
    """A task that makes events, their log, and its readers."""

    def __init__(self, plan: FlightPlan, log: FlightLog, now: Clock) -> None:
        """Plan a flight; `depart` starts it."""
        self.plan = plan
        self.log = log
        self._now = now
        # The whole mutable state.
        self.stage = Stage.CLAIMING
        self.begun: Begun | None = None
        self.closing = False
        """Its end is under way, though it may still be giving its key back."""
        self.keep = False
        """Whether a reader wishes that its answer is given again."""
        self._task: asyncio.Task[None] | None = None
        self._reason: ServingError | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._let_go: Callable[[Flight], None] | None = None

    def __repr__(self) -> str:
        return f"Flight({self.plan.owner} {self.stage.name} {len(self.log.readers)} readers)"

    @property
    def joinable(self) -> bool:
        """Whether one more can read it from the first event on."""
        return self.log.whole

    @property
    def task(self) -> asyncio.Task[None]:
        """What makes the events."""
        assert self._task is not None, "it has not departed"
        return self._task

    def suits(self, deadline: float) -> bool:
        """Whether it may serve one with this deadline, who could as well begin another.

        Who has far more time than whoever began it would be told of a deadline not its own.
        """
        now = self._now()
        return self.joinable and self.plan.deadline - now >= _TIME_RATIO_MIN * (deadline - now)

    def depart(self, making: Coroutine[Any, Any, None], let_go: Callable[["Flight"], None]) -> None:
        """Start; `let_go` is called as soon as nobody can join any more, at least once."""
        self._let_go = let_go
        self._task = asyncio.create_task(making)
        self._task.add_done_callback(self._landed)

    def move(self, stage: Stage) -> None:
        """Go down the list, and tell the readers."""
        assert stage >= self.stage, f"{self.stage.name} does not go back to {stage.name}"
        self.stage = stage
        self.log.ring()

    def begin(self, begun: Begun) -> None:
        """Say whose answer it is; its events follow."""
        self.begun = begun
        self.move(Stage.RUNNING)

    async def push(self, event: Event) -> None:
        """Add an event; closes itself where nobody can ever read it."""
        await self.log.append(event)
        if not self.log.whole and not self.log.readers:
            self.close()

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """Be one of its readers."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        reader = self.log.enter(self._now())
        try:
            yield reader
        finally:
            self.log.leave(reader)
            if not self.log.readers:
                self._left()

    async def settled(self, reader: Reader) -> None:
        """Wait until it is known whose key it is, or it has ended."""
        while self.stage is Stage.CLAIMING:
            await self.log.news(reader)

    async def named(self, reader: Reader) -> Begun | None:
        """Wait until it has begun and return its name; None if it ended before that."""
        while self.begun is None and self.stage is not Stage.ENDED:
            await self.log.news(reader)
        return self.begun

    def close(self, reason: ServingError | None = None) -> None:
        """End it, if its events are not complete; whoever still reads gets `reason`."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self.stage >= Stage.ENDING:
            return
        self.closing = True
        if self.task.cancelling():
            return  # a second cancellation would keep it from giving its key back
        self._reason = self._reason or reason
        self._leave_the_table()
        self.task.cancel()

    def _left(self) -> None:
        # What still waits for a place has made nothing that its client could come back for.
        begun = self.stage is Stage.RUNNING and bool(self.log.events)
        lingers = self.plan.wish is not None and begun and self.log.whole
        if lingers:
            self._stay(self._now())
        else:
            self.close()

    def _stay(self, left: float) -> None:
        """Go on without a reader since `left`, for a time; for less while others wait."""
        plan = self.plan
        stays_s = plan.linger_pressed_s if plan.is_pressed() else plan.linger_s
        left_s = left + min(stays_s, plan.linger_s) - self._now()
        if left_s <= 0.0:
            self.close()
            return
        loop = asyncio.get_running_loop()
        self._linger = loop.call_later(min(left_s, _LOOK_S), self._stay, left)

    def _leave_the_table(self) -> None:
        assert self._let_go is not None, "it has not departed"
        self._let_go(self)

    def _landed(self, task: asyncio.Task[None]) -> None:
        if self._linger is not None:
            self._linger.cancel()
        failure = self._farewell() if task.cancelled() else task.exception()
        self.stage = Stage.ENDED
        self._leave_the_table()
        self.log.end(failure)

    def _farewell(self) -> ServingError:
        if self._reason is not None:
            return self._reason
        message = "The server is stopping. Send the request again; another replica will take it."
        return Draining(message, retry_after_s=_RETRY_S)
