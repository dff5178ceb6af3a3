"""An Engine made of workers that come and go: a request outlives the worker that has it.

Theory of operation
-------------------
Each request is a *run*.  It is placed on the able worker that has least to do, or waits until
there is one; its own deadline, which the pipeline keeps, bounds the wait.  When its worker is
lost, what the worker had sent is passed on first; then the run is placed again, with what was
made of it so far, and its reader notices a pause and nothing else.

It is not placed again where that may do harm (`policy/quarantine.py` has judged it to be
spent or guilty), where too much is being run again (`policy/retry_budget.py`), and where the
engine cannot go on in the middle of what was passed on already.  Then it ends with EngineError.

All placing happens in `_settle`, which is called after every change.
"""

import asyncio
import dataclasses
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import EngineError
from forebay.core.record import Holding
from forebay.core.request import (
    Delta,
    Events,
    Finished,
    Request,
    digest,
)
from forebay.engine.flights import LOST, FreedHook
from forebay.engine.protocol import EngineInfo, StepStats, WorkerLost
from forebay.engine.resuming import can_resume
from forebay.engine.supervisor import SupervisorConfig
from forebay.policy.quarantine import Passenger, Quarantine, Verdict
from forebay.policy.retry_budget import RetryBudget, jitter_s
from forebay.serve.run import Run
from forebay.serve.worker import Worker

_BARRED_MAX: Final = 1_024
_JITTER_S_MIN, _JITTER_S_MAX = 0.05, 2.0
_RESERVE_MIN: Final = 100.0

_NOT_RUNNING: Final = "The engine is not running."
_SPENT: Final = "The engine was lost twice while it answered; it is not tried a third time."
_BARRED: Final = "This request has ended two engines, and is not run again for a while."
_MIDDLE: Final = f"{LOST} It cannot go on in the middle of an answer of this kind."
_TOO_MUCH: Final = f"{LOST} Too much else is being run again."


class Replicas:
    """An Engine over several workers, or one."""

    def __init__(
        self,
        workers: Sequence[Worker],
        config: SupervisorConfig,
        *,
        now: Clock,
        dice: Callable[[], float] = random.random,
        freed: FreedHook | None = None,
    ) -> None:
        """Lead these; nothing is started yet.

        `dice` gives shares in [0, 1); `freed` is told when an aborted request holds nothing more.
        """
        assert workers, "an engine has a worker"
        self.workers: Final = tuple(workers)
        for index, worker in enumerate(workers):
            worker.crew = _Crew(self, index, freed)
        self._config = config
        self._now = now
        self._dice = dice
        # The whole mutable state.
        self._info: EngineInfo | None = None
        self._loads = [0] * len(workers)
        """Runs placed, by worker."""
        self._waiting: tuple[deque[Run], deque[Run]] = (deque(), deque())
        """Clean ones and suspects, each in the order in which they came."""
        self._quarantine = Quarantine(
            losses_max=1 + config.resubmits_max, barred_s=config.barred_s, barred_max=_BARRED_MAX
        )
        self._budget = RetryBudget(
            share_max=config.rerun_share_max, per_s_min=config.reruns_per_s_min, reserve=1.0
        )
        self._reruns = 0
        self._poisoned = 0

    @property
    def info(self) -> EngineInfo:
        """What the engine is; it runs as many sequences as all workers together."""
        assert self._info is not None, "known once started"
        return self._info

    @property
    def restarts(self) -> Mapping[str, int]:
        """Workers lost since the start, by reason."""
        return sum((Counter(worker.restarts) for worker in self.workers), Counter())

    @property
    def reruns(self) -> int:
        """Runs that went on with another worker."""
        return self._reruns

    @property
    def poisoned(self) -> int:
        """Requests found to end workers."""
        return self._poisoned

    def progress(self) -> int:
        """Tokens made since the start, by all workers."""
        return sum([worker.progress() for worker in self.workers])

    def well(self, now: float) -> bool:
        """Whether any worker makes tokens while work runs."""
        return any(worker.well(now) for worker in self.workers)

    def memory_bytes(self) -> int:
        """Return the memory that all workers have in RAM."""
        return sum(worker.memory_bytes() for worker in self.workers)

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Let all workers have a LoRA adapter, or none; raises Invalid if it does not fit."""
        for worker in self.workers:
            try:
                await worker.load_adapter(name, folder)
            except BaseException:
                self.unload_adapter(name)
                raise

    def unload_adapter(self, name: str) -> None:
        """Let no worker have a LoRA adapter any more."""
        for worker in self.workers:
            worker.unload_adapter(name)

    def gauges(self) -> StepStats | None:
        """Return the newest gauges of all workers together, if any has sent some."""
        known = [stats for worker in self.workers if (stats := worker.gauges()) is not None]
        if len(known) <= 1:
            return known[0] if known else None
        return StepStats(
            running=sum([stats.running for stats in known]),
            waiting=sum([stats.waiting for stats in known]),
            blocks_used_ratio=sum([stats.blocks_used_ratio for stats in known]) / len(known),
            tokens_made=sum([stats.tokens_made for stats in known]),
        )

    def holdings(self) -> Iterator[Holding]:
        """Yield what workers hold for whom, and what waits for a worker."""
        for worker in self.workers:
            yield from worker.holdings()
        for queue in self._waiting:
            for run in tuple(queue):
                yield Holding(
                    kind="engine_request",
                    owner=run.request.id,
                    tenant=run.request.tenant,
                    amount=run.request.sampling.choices,
                    since=run.began,
                    expires=run.request.deadline,
                )

    async def start(self) -> None:
        """Start all workers, one after the other, as each takes a share of the memory that is left.

        Raises EngineError if one cannot be started.
        """
        try:
            for worker in self.workers:
                await worker.start()
        except BaseException:
            await self.stop()
            raise
        first = self.workers[0].info
        running_max = sum([worker.info.running_max for worker in self.workers])
        costs = first.costs and first.costs.across(len(self.workers))
        self._info = dataclasses.replace(first, running_max=running_max, costs=costs)
        self._budget = RetryBudget(
            share_max=self._config.rerun_share_max,
            per_s_min=self._config.reruns_per_s_min,
            # Whatever one loss takes with it may be run again.
            reserve=max(_RESERVE_MIN, float(running_max)),
        )

    async def stop(self) -> None:
        """End what runs, and all workers."""
        await asyncio.gather(*(worker.stop() for worker in self.workers))

    async def generate(self, request: Request) -> Events:
        """Answer a request, with as many workers as it takes; closing the iterator aborts it."""
        self._refuse_barred(request)
        self._budget.asked()
        run = Run(request, self._now(), cleared=self._clear)
        note = run.passed.note
        try:
            while True:
                worker = self._seat(run) or await self._place(run)
                is_watched = run.passenger.suspect or not request.stream
                watch = run if is_watched else None
                try:
                    flight = worker.board(run.rest(), run.passenger, watch=watch)
                    take = flight.outbox.take
                    try:
                        while True:
                            event = await take()
                            if type(event) is Delta:  # not isinstance: the path of every chunk
                                note(event)
                                if run.first_token is None:
                                    run.first_token = self._now()
                            elif type(event) is Finished:
                                if run.moved:
                                    event.timing = run.timing(event.timing, self._now())
                                yield event
                                return
                            elif run.scheduled:
                                continue
                            else:
                                run.scheduled = True
                            yield event
                    finally:
                        worker.leave(flight)
                except WorkerLost as lost:
                    self._leave(run)
                    await self._prepare_rerun(run, lost)
        finally:
            self._leave(run)
            if run.passenger.verdict is Verdict.GUILTY:
                self._quarantine.bar(_wish(request), self._now())

    def _refuse_barred(self, request: Request) -> None:
        if self._info is None:
            raise EngineError(_NOT_RUNNING)
        # The digest is only made where there is something to compare it with.
        if self._quarantine.barred and self._quarantine.is_barred(_wish(request), self._now()):
            raise EngineError(_BARRED)

    async def _prepare_rerun(self, run: Run, lost: WorkerLost) -> None:
        """Return when a run may be placed again; raises EngineError if it must not be."""
        if run.request.visit is not None:
            run.request.visit.failovers += (lost.reason,)
        if run.passenger.verdict is not Verdict.GO_ON:
            raise EngineError(_SPENT)
        resumable = can_resume(run.request, self.info)
        if run.passed.tokens and not resumable:
            raise EngineError(_MIDDLE)
        if not self._budget.take(self._now()):
            raise EngineError(_TOO_MUCH)
        run.move(resumable=resumable)
        self._reruns += 1
        losses = max(1, run.passenger.losses)
        share = self._dice()
        wait_s = jitter_s(losses, share, wait_s_min=_JITTER_S_MIN, wait_s_max=_JITTER_S_MAX)
        await asyncio.sleep(wait_s)

    # Placing: which worker has which run.

    def _seat(self, run: Run) -> Worker | None:
        """Place a run that need not wait, as nearly all need not: a future costs 5 us."""
        if self._waiting[run.passenger.suspect]:
            return None
        index = self._choose(run.passenger)
        if index is None:
            return None
        self._board(run, index)
        return self.workers[index]

    async def _place(self, run: Run) -> Worker:
        """Wait until the run has a worker, and return it; raises EngineError if none will come."""
        run.turn = asyncio.get_running_loop().create_future()
        queue = self._waiting[run.passenger.suspect]
        queue.append(run)
        self.settle()
        try:
            await run.turn
        finally:
            if run.placed is None and run in queue:
                queue.remove(run)
        assert run.placed is not None, "whose turn it is has a worker"
        return self.workers[run.placed]

    def settle(self) -> None:
        """Place what waits, as far as there are able workers."""
        stopped = all(worker.stopped for worker in self.workers)
        for queue in self._waiting:
            while queue:
                turn = queue[0].turn
                assert turn is not None, "who waits has a turn to come"
                index = None if turn.done() else self._choose(queue[0].passenger)
                if not (turn.done() or stopped) and index is None:
                    break
                run = queue.popleft()
                if index is not None:
                    self._board(run, index)
                    turn.set_result(None)
                elif not turn.done():
                    turn.set_exception(EngineError(_NOT_RUNNING))

    def _choose(self, passenger: Passenger) -> int | None:
        """Return the able worker that has least to do; one that is well, if there is any."""
        able = [
            index
            for index, worker in enumerate(self.workers)
            if worker.able and self._quarantine.may_board(index, passenger)
        ]
        if len(able) <= 1:
            return able[0] if able else None
        now, workers, loads = self._now(), self.workers, self._loads
        return min(able, key=lambda index: (not workers[index].well(now), loads[index]))

    def _board(self, run: Run, index: int) -> None:
        self._quarantine.board(index, run.passenger)
        self._loads[index] += 1
        run.placed, run.placed_at = index, self._now()
        if run.request.visit is not None:
            run.request.visit.workers += (index,)

    def _leave(self, run: Run) -> None:
        """Let a run have no worker; on whichever it was on probation, another may be."""
        if run.placed is None:
            return
        self._loads[run.placed] -= 1
        run.placed = None
        if run.passenger.watched_on is not None:
            self._quarantine.left(run.passenger)
            self.settle()

    def _clear(self, run: Run) -> None:
        """Note that a suspect has got beyond the point at which its worker was lost."""
        self._quarantine.progressed(run.passenger)
        self.settle()

    def lost(self, index: int, aboard: Sequence[Passenger]) -> None:
        """Judge those who were aboard a worker that is lost."""
        if self._quarantine.lost(index, aboard) is not None:
            self._poisoned += 1


class _Crew:
    """What one worker tells of itself."""

    __slots__ = ("_freed", "_index", "_replicas")

    def __init__(self, replicas: Replicas, index: int, freed: FreedHook | None) -> None:
        self._replicas = replicas
        self._index = index
        self._freed = freed

    def changed(self) -> None:
        """Note that the worker takes requests, or has stopped for good."""
        self._replicas.settle()

    def lost(self, aboard: Sequence[Passenger]) -> None:
        """Judge those who were aboard; they are told when this returns."""
        self._replicas.lost(self._index, aboard)

    def freed(self, wait_s: float, phase: str, *, tokens: int) -> None:
        """Note that nothing of an aborted request is held any more."""
        if self._freed is not None:
            self._freed(wait_s, phase, tokens=tokens)


def _wish(request: Request) -> tuple[str, str]:
    return request.tenant, digest(request)
