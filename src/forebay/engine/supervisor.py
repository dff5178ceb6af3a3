"""An Engine over a worker process that may die: start it, watch it, replace it, run again.

Theory of operation
-------------------
One task, the *keeper*, leads one worker after another through its life:

    STARTING   a process is being started and its engine loaded; requests wait
    READY      requests go to it as they come; the keeper looks at it every `beat_s`
    LOST       it exited, sent garbage or stalled; the keeper kills and reaps it, waits, and
               begins again with STARTING; requests wait
    STOPPED    for good: `stop` was called, or the first start failed

A request in here is a *flight* (`flights.py`).  When a worker is lost, or there is none, its
flights end with WorkerLost, after what the worker had sent.  Whether and where they go on is
the business of `serve/replicas.py`, the *crew*: it hears of a loss, and of who was aboard,
before any of them does; and of a new worker once that has made a token by itself, so that no
request is risked on a worker that cannot live.

Whatever a worker does (exit, silence, nonsense) ends as a `Loss` of that worker, and nothing
else: no frame it can send reaches a request it was not given, or stops the gateway.
"""

import asyncio
import enum
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, assert_never

from forebay.core.clock import Clock
from forebay.core.errors import EngineError
from forebay.core.record import EventLog, Holding
from forebay.core.request import Events, Finished, Request
from forebay.engine.adapters import Adapters, Send
from forebay.engine.first_token import first_request, make_one_token
from forebay.engine.flights import LOST, Crew, Flight, Flights, Watcher
from forebay.engine.protocol import EngineInfo, StepStats, WorkerLost
from forebay.engine.pulse import Pulse, resident_bytes
from forebay.engine.supervisor_config import SupervisorConfig
from forebay.engine.watch import Backoff, Patience, Sight, Watch
from forebay.engine.wire import Adapted, Beat, Fault, Hello, Ready, Step, Up
from forebay.engine.worker_process import (
    Loss,
    StartFailed,
    WorkerProcess,
    WorkerSpec,
    open_worker,
)
from forebay.policy.quarantine import Passenger

__all__ = ["Crew", "State", "Supervisor", "SupervisorConfig", "WorkerSpec"]


class State(enum.StrEnum):
    """Where the present worker stands."""

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    STOPPED = "stopped"


_MOVES: Final[dict[State, frozenset[State]]] = {
    State.STARTING: frozenset({State.READY, State.LOST, State.STOPPED}),
    State.READY: frozenset({State.LOST, State.STOPPED}),
    State.LOST: frozenset({State.STARTING, State.STOPPED}),
    State.STOPPED: frozenset(),
}

_NOT_RUNNING: Final = "The engine is not running."
_STOPPED: Final = "The engine was stopped before the answer was complete."


class Supervisor:
    """An Engine that outlives its workers."""

    def __init__(
        self,
        spec: WorkerSpec,
        config: SupervisorConfig,
        *,
        now: Clock,
        log: EventLog,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """Know what to load; nothing is started yet.  `dice` gives shares in [0, 1)."""
        self._spec = spec
        self._config = config
        self._now = now
        self._log = log
        self._dice = dice
        # The whole mutable state.
        self._state = State.STARTING
        self._keeper: asyncio.Task[None] | None = None
        self._first_info: asyncio.Future[EngineInfo] | None = None
        self._info: EngineInfo | None = None
        self._worker: WorkerProcess | None = None
        self._watch: Watch | None = None
        self._adapters = Adapters(spec.adapters)
        self._flights = Flights(pending_deltas_max=config.pending_deltas_max, freed=self._freed)
        self._proven = False
        """The present worker has made a token."""
        self._slow = False
        """Its steps may be long ones now."""
        self.crew: Crew | None = None
        """Told of losses and of new workers; set once, before the start."""
        self._frames = 0
        self._tokens = 0
        self._tokens_before = 0
        """Tokens of the workers before the present one."""
        self._stats: StepStats | None = None
        self._restarts: Counter[str] = Counter()

    @property
    def info(self) -> EngineInfo:
        """What the engine is and can do; known once started."""
        assert self._info is not None, "known once started"
        return self._info

    @property
    def state(self) -> State:
        """Where the present worker stands."""
        return self._state

    @property
    def pid(self) -> int | None:
        """The present worker's process id, if it is ready."""
        return None if self._worker is None else self._worker.pid

    def memory_bytes(self) -> int:
        """Return the memory that the present worker has in RAM; 0 where there is none."""
        return 0 if self._worker is None else resident_bytes(self._worker.pid)

    @property
    def stopped(self) -> bool:
        """Whether it will never take a request again."""
        return self._state is State.STOPPED

    @property
    def load(self) -> int:
        """Requests that the present worker has."""
        return len(self._flights)

    @property
    def restarts(self) -> Mapping[str, int]:
        """Workers lost since the start, by reason."""
        return self._restarts

    def gauges(self) -> StepStats | None:
        """Return the newest gauges of the present worker, if it has sent any."""
        return self._stats

    def progress(self) -> int:
        """Tokens made since the start, by all workers."""
        return self._tokens_before + self._tokens

    def well(self, now: float) -> bool:
        """Whether a worker is there, has made a token, and makes more while work runs."""
        return self.able and self._watch is not None and self._watch.well(now)

    @property
    def able(self) -> bool:
        """Whether a worker is there that has made a token."""
        return self._proven and self._state is State.READY

    def holdings(self) -> Iterator[Holding]:
        """Yield what the present worker holds for whom."""
        return self._flights.holdings()

    async def start(self) -> None:
        """Start the first worker and make one token; raises EngineError."""
        assert self._keeper is None, "a supervisor starts once"
        self._first_info = asyncio.get_running_loop().create_future()
        self._keeper = asyncio.create_task(self._keep())
        self._keeper.add_done_callback(self._keeper_ended)
        try:
            events: set[asyncio.Future[Any]] = {self._first_info, self._keeper}
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if not self._first_info.done():
                await self._keeper  # it gave up, and says why
            await make_one_token(self, self._now(), self._config.start_s_max)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End what runs, and the worker; nothing of it is left.  A second call does nothing."""
        if self._state is not State.STOPPED:
            self._move(State.STOPPED)
        # Clients hear of it at once, not after the worker has taken its time to exit.
        self._flights.fail_all(EngineError(_STOPPED))
        self._adapters.lost()
        keeper = self._keeper
        if keeper is not None:
            # Its scopes end the worker; a second cancellation does not interrupt that.
            keeper.cancel()
            await asyncio.wait({keeper})

    async def load_adapter(self, name: str, folder: Path) -> None:
        """Let this worker and those that follow have a LoRA adapter; see `Adapters.load`."""
        await self._adapters.load(name, folder, self._send, wait_s_max=self._config.start_s_max)

    def unload_adapter(self, name: str) -> None:
        """Let no worker have a LoRA adapter any more."""
        self._adapters.unload(name, self._send)

    @property
    def _send(self) -> Send | None:
        return None if self._worker is None else self._worker.send

    async def generate(self, request: Request) -> Events:
        """Answer a request; closing the iterator aborts it."""
        flight = self.board(request)
        try:
            while True:
                event = await flight.outbox.take()
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self.leave(flight)

    def board(
        self,
        request: Request,
        passenger: Passenger | None = None,
        *,
        watch: Watcher | None = None,
    ) -> Flight:
        """Begin to answer a request of a passenger; `watch` is told what is made of it.

        Its events come out of the flight's outbox.  Raises EngineError, or WorkerLost.
        """
        if self._state is State.STOPPED or self._keeper is None:
            raise EngineError(_NOT_RUNNING)
        return self._flights.add(request, self._now(), passenger=passenger, watch=watch)

    def leave(self, flight: Flight) -> None:
        """Let go of a request, wherever it is; the worker forgets it."""
        self._flights.forget(flight, self._now())

    def _receive(self, message: Up) -> None:
        self._frames += 1
        match message:
            case Step():
                self._tokens, self._slow = message.tokens_made, message.slow
                self._stats = message.stats or self._stats
                self._flights.step(message)
                for freed in message.freed:
                    self._flights.freed(freed, self._now())
                if not self._proven and self._tokens:
                    self._prove()
            case Beat():
                self._tokens, self._stats = message.tokens_made, message.stats
                self._slow = message.slow
            case Fault():
                self._flights.fault(message)
            case Adapted():
                self._adapters.told(message)
            case Hello() | Ready():
                pass  # the process's business
            case _:
                assert_never(message)

    def _prove(self) -> None:
        self._proven = True
        if self.crew is not None:
            self.crew.changed()

    def _freed(self, wait_s: float, phase: str, *, tokens: int) -> None:
        if self.crew is not None:
            self.crew.freed(wait_s, phase, tokens=tokens)

    # The keeper: one worker after another.

    async def _keep(self) -> None:
        backoff = Backoff(
            wait_s_min=self._config.restart_wait_s_min,
            wait_s_max=self._config.restart_wait_s_max,
            calm_s=self._config.restart_calm_s,
        )
        while True:
            began = self._now()
            loss, ready_s = await self._life(began)
            wait_s = backoff.lost(ready_s, self._dice())
            self._log("worker.restarting", reason=loss.value, wait_s=round(wait_s, 3))
            await asyncio.sleep(wait_s)
            self._move(State.STARTING)

    async def _life(self, began: float) -> tuple[Loss, float]:
        """Lead one worker from its start to its loss; return why, and how long it was ready."""
        ready: float | None = None
        loss = Loss.START_FAILED
        try:
            spec = replace(self._spec, adapters=self._adapters.known)
            async with open_worker(spec, self._config, self._receive, log=self._log) as worker:
                info = await worker.ready(self._config.start_s_max)
                ready = self._now()
                self._log("worker.ready", pid=worker.pid, after_s=round(ready - began, 3))
                self._open(worker, info)
                try:
                    loss = await self._look_after(worker, info)
                finally:
                    self._close()
                # Requests are settled before the process is reaped, which may take seconds.
                self._lose(loss, worker.last_words)
        except StartFailed as failed:
            self._lose(loss, failed.reason)
            self._give_up_or_go_on(failed.reason)
        return loss, 0.0 if ready is None else self._now() - ready

    def _open(self, worker: WorkerProcess, info: EngineInfo) -> None:
        self._move(State.READY)
        self._info = info
        self._worker = worker
        assert self._first_info is not None
        now = self._now()
        self._flights.worker_ready(worker.send)
        if not self._first_info.done():
            self._first_info.set_result(info)
        else:
            # Nobody reads this one: a replacement is well once it has made a token.
            self._flights.add(first_request(info, now, self._config.start_s_max), now)

    def _close(self) -> None:
        self._worker = self._watch = self._stats = None
        self._tokens_before += self._tokens
        self._tokens = 0
        self._proven = self._slow = False

    async def _look_after(self, worker: WorkerProcess, info: EngineInfo) -> Loss:
        """Return why the worker was lost, once it is."""
        look_s = self._config.beat_s
        patience = Patience(self._config.stall_s, info)
        self._watch = Watch(
            self._now(),
            stall_s=patience.longest_s,
            progress_s_max=self._config.progress_s_max,
            look_s_max=2.0 * look_s,
        )
        pulse = Pulse(worker.pid)
        while not worker.lost.done():
            # `wait` leaves the future alone when the time is up; `wait_for` would cancel it.
            await asyncio.wait({worker.lost}, timeout=look_s)
            now, frames = self._now(), self._frames
            share = pulse.share(now, heard=frames)
            sight = Sight(
                frames=frames,
                tokens=self._tokens,
                busy=self.load > 0,
                patience_s=patience.now_s(slow=self._slow, stopped=pulse.stopped),
                share=share,
            )
            if self._watch.look(now, sight):
                worker.lose(Loss.STALLED)
        return worker.lost.result()

    def _lose(self, loss: Loss, said: str | None) -> None:
        self._move(State.LOST)
        self._restarts[loss.value] += 1
        self._log("worker.lost", reason=loss.value, said=said, requests=self.load)
        self._adapters.lost()
        aboard = self._flights.worker_lost()
        if self.crew is not None:
            self.crew.lost(aboard)
        lost = WorkerLost(LOST)
        lost.reason = loss.value
        self._flights.fail_all(lost)

    def _give_up_or_go_on(self, reason: str | None) -> None:
        """Raise EngineError if no worker was ever ready, and another would not be either."""
        assert self._first_info is not None
        if self._first_info.done():
            return  # it has worked once: what is wrong now may pass, so there is no giving up
        if reason is not None:
            raise EngineError(reason)  # it knows why, and would say the same again
        if self._restarts.total() >= self._config.starts_max:
            attempts = self._restarts.total()
            message = "The worker ended or fell silent while it was starting"
            raise EngineError(f"{message} (attempts: {attempts}); its lines in the log say why.")

    def _keeper_ended(self, keeper: "asyncio.Task[None]") -> None:
        """Let nobody wait for a keeper that is gone."""
        if self._state is not State.STOPPED:
            self._move(State.STOPPED)
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._log("supervisor.ended", reason=type(error).__name__)
        self._flights.fail_all(EngineError(_NOT_RUNNING))
        if self.crew is not None:
            self.crew.changed()

    def _move(self, state: State) -> None:
        assert state in _MOVES[self._state], f"no way from {self._state} to {state}"
        self._state = state
