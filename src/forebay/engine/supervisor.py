"""An Engine over a worker process that may die: start it, watch it, replace it, run again.

Theory of operation
-------------------
One task, the *keeper*, leads one worker after another through its life:

    STARTING   a process is being started and its engine loaded; requests wait
    READY      requests go to it as they come; the keeper looks at it every `beat_s`
    LOST       it exited, sent garbage or stalled; the keeper kills and reaps it, waits, and
               begins again with STARTING; requests wait
    STOPPED    for good: `stop` was called, or the first start failed

A request in here is a *flight* (`flights.py`).  When a worker is lost, a flight that handed
nothing out yet goes to the next worker, at most `resubmits_max` times, so that a request that
kills workers is not run for ever.  All others end with EngineError.  While there is no worker,
flights wait, bounded by their own deadlines, which the pipeline keeps: an engine that is away
for a second costs a second and not an error.

Whatever a worker does (exit, silence, nonsense) ends as a `Loss` of that worker, and nothing
else: no frame it can send reaches a request it was not given, or stops the gateway.
"""

import asyncio
import enum
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from forebay.core.clock import Clock
from forebay.core.errors import EngineError, Invalid
from forebay.core.knob import knob
from forebay.core.record import EventLog
from forebay.core.request import (
    Chat,
    Events,
    Finished,
    Message,
    Request,
    RequestId,
    Role,
    Route,
    Sampling,
    Text,
)
from forebay.engine.flights import Flights
from forebay.engine.protocol import EngineInfo, Feature, StepStats
from forebay.engine.watch import Backoff, Sight, Watch
from forebay.engine.wire import Beat, Fault, Hello, Ready, Step, Up
from forebay.engine.worker_process import (
    Loss,
    StartFailed,
    WorkerConfig,
    WorkerProcess,
    WorkerSpec,
    open_worker,
)

__all__ = ["State", "Supervisor", "SupervisorConfig", "WorkerSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorConfig(WorkerConfig):
    """When a worker counts as lost, and what happens then."""

    stall_s: float = knob(
        10.0,
        "Silence after which a worker is lost, in seconds; at least the engine's longest step.",
        minimum=0.5,
        maximum=600.0,
    )
    progress_s_max: float = knob(
        120.0,
        "Longest time that requests may run without a single token, in seconds.",
        minimum=1.0,
        maximum=3_600.0,
    )
    resubmits_max: int = knob(
        1,
        "How often a request that has sent nothing yet is run again on a new worker.",
        minimum=0,
        maximum=10,
    )
    starts_max: int = knob(
        3, "Attempts to start the first worker before giving up.", minimum=1, maximum=100
    )
    restart_wait_s_min: float = knob(
        0.5,
        "Bound of the wait before the second restart in a row, in seconds; then it doubles.",
        minimum=0.0,
        maximum=60.0,
    )
    restart_wait_s_max: float = knob(
        30.0, "Longest wait before a restart, in seconds.", minimum=0.0, maximum=3_600.0
    )
    restart_calm_s: float = knob(
        60.0,
        "A worker that was ready for so many seconds is replaced at once when it is lost.",
        minimum=0.0,
        maximum=3_600.0,
    )
    pending_deltas_max: int = knob(
        64,
        "Pieces of one choice that wait for a slow reader before they are merged.",
        minimum=8,
        maximum=10_000,
    )


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
        self._flights = Flights(
            pending_deltas_max=config.pending_deltas_max, resubmits_max=config.resubmits_max
        )
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
        proven = self._state is State.READY and self._tokens > 0
        return proven and self._watch is not None and self._watch.well(now)

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
            await self._make_one_token()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End what runs, and the worker; nothing of it is left.  A second call does nothing."""
        if self._state is not State.STOPPED:
            self._move(State.STOPPED)
        # Clients hear of it at once, not after the worker has taken its time to exit.
        self._flights.fail_all(_STOPPED)
        keeper = self._keeper
        if keeper is not None:
            # Its scopes end the worker; a second cancellation does not interrupt that.
            keeper.cancel()
            await asyncio.wait({keeper})

    async def generate(self, request: Request) -> Events:
        """Answer a request; closing the iterator aborts it."""
        if self._state is State.STOPPED or self._keeper is None:
            raise EngineError(_NOT_RUNNING)
        flight = self._flights.add(request, self._now())
        try:
            take = flight.outbox.take
            while True:
                event = await take()
                yield event
                if type(event) is Finished:  # not isinstance: this is the path of every chunk
                    return
        finally:
            self._flights.forget(flight)

    def _receive(self, message: Up) -> None:
        self._frames += 1
        match message:
            case Step():
                self._tokens = message.tokens_made
                self._stats = message.stats or self._stats
                self._flights.step(message)
            case Beat():
                self._tokens, self._stats = message.tokens_made, message.stats
            case Fault():
                self._flights.fault(message)
            case Hello() | Ready():
                pass  # the process's business
            case _:
                assert_never(message)

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
            async with open_worker(
                self._spec, self._config, self._receive, log=self._log
            ) as worker:
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
        self._flights.worker_ready(worker.send, now)
        if not self._first_info.done():
            self._first_info.set_result(info)
        else:
            # Nobody reads this one: a replacement is well once it has made a token.
            self._flights.add(self._first_request(now), now)

    def _close(self) -> None:
        self._worker = self._watch = self._stats = None
        self._tokens_before += self._tokens
        self._tokens = 0

    async def _look_after(self, worker: WorkerProcess, info: EngineInfo) -> Loss:
        """Return why the worker was lost, once it is."""
        look_s = self._config.beat_s
        self._watch = Watch(
            self._now(),
            # Within a step a worker is mute, however well it is.
            stall_s=max(self._config.stall_s, info.step_s_max),
            progress_s_max=self._config.progress_s_max,
            look_s_max=2.0 * look_s,
        )
        while not worker.lost.done():
            # `wait` leaves the future alone when the time is up; `wait_for` would cancel it.
            await asyncio.wait({worker.lost}, timeout=look_s)
            sight = Sight(frames=self._frames, tokens=self._tokens, busy=self._flights.busy)
            if self._watch.look(self._now(), sight):
                worker.lose(Loss.STALLED)
        return worker.lost.result()

    def _lose(self, loss: Loss, said: str | None) -> None:
        self._move(State.LOST)
        self._restarts[loss.value] += 1
        self._log("worker.lost", reason=loss.value, said=said, requests=len(self._flights))
        self._flights.worker_lost()

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
        self._flights.fail_all(_NOT_RUNNING)

    def _first_request(self, now: float) -> Request:
        chat = Feature.TEXT not in self.info.supports
        hello = Message(role=Role.USER, content="Hello")
        return Request(
            id=RequestId("first-token"),
            route=Route.PROBE,
            model="",
            prompt=Chat(messages=(hello,)) if chat else Text(text="Hello"),
            sampling=Sampling(tokens_max=1),
            received=now,
            # The worker keeps deadlines too; ours must pass first, as it has the better words.
            deadline=now + 2.0 * self._config.start_s_max,
        )

    async def _make_one_token(self) -> None:
        request = self._first_request(self._now())
        try:
            async with asyncio.timeout(self._config.start_s_max):
                async for _ in self.generate(request):
                    pass
        except TimeoutError:
            raise EngineError("The engine was loaded, but made no token in time.") from None
        except Invalid as error:
            raise EngineError(f"The engine refused its first token. {error.message}") from None

    def _move(self, state: State) -> None:
        assert state in _MOVES[self._state], f"no way from {self._state} to {state}"
        self._state = state
