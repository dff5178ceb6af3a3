"""Models come into memory when they are asked for, and make room when others are.

Theory of operation
-------------------
A model on offer is *asleep*, *loading* or *resident*.  Whoever asks for one that is asleep waits
for it with a deadline: one load serves all who wait, and one model is loaded at a time, because
each takes its share of the memory that is free; what runs elsewhere has no part in that.  Where
there is no room, `policy/residency.py` chooses who goes; where nobody may go yet, those who have
the time wait for it.  A model that goes is taken off its lane first, so that nobody new gets in;
then its requests end, in time, and only then do its workers.  One that could not be loaded is
left alone for a while: its next request is told the same at once.
"""

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Protocol

from forebay.core.clock import Clock
from forebay.core.errors import Draining, EngineError, Overloaded, QueueTimeout, ServingError
from forebay.core.record import EventLog, Holding
from forebay.engine.protocol import LaneEngine
from forebay.policy.residency import (
    NoRoom,
    ResidencyConfig,
    Resident,
    Room,
    Wanted,
    make_room,
    wait_after,
)
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lane, Lanes, open_lane
from forebay.serve.model import Model, started

_DRAIN_LOOK_S: Final = 0.02
_LOAD_S: Final = 5.0
"""Expected of a model that was never loaded: about what the default one takes."""
_RETRY_S: Final = 1.0


class NoRoomYet(Overloaded):
    """A model cannot be loaded before others may go."""

    def __init__(self, model: str, wait_s: float) -> None:
        """Say from when on it is worth another try: in `wait_s` seconds."""
        message = f"There is no room for the model {model} yet."
        super().__init__(message, retry_after_s=max(wait_s, _RETRY_S))
        self.model = model
        self.wait_s = wait_s


class Watcher(Protocol):
    """Is told which models are in memory."""

    def loaded(self, lane: Lane, load_s: float) -> None:
        """Note that a lane is open, and how long that took."""

    def unloaded(self, lane: Lane) -> None:
        """Note that a lane is closed and its engine gone."""


@dataclass(slots=True)
class Reading:
    """What is known of one model's time in memory."""

    resident: bool = False
    since: float = 0.0
    """When it was last loaded, monotonic seconds."""
    load_s: float = 0.0
    """How long the last load took; 0: never loaded."""
    memory_bytes: int = 0
    failures: int = 0
    failures_in_turn: int = 0
    """Since it was last in memory: each doubles the time until it is tried again."""
    failed: float = 0.0
    error: str = ""
    """Why the last load failed; empty: it did not."""


class Residency:
    """Loads, holds and unloads the models of `lanes`."""

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        lanes: Lanes,
        config: ResidencyConfig,
        *,
        admission: Callable[[], AdmissionConfig],
        free_bytes: Callable[[], int],
        now: Clock,
        log: EventLog,
        watcher: Watcher,
    ) -> None:
        """Open lanes in `lanes`; `free_bytes` reads the memory that is left on the machine."""
        self._lanes = lanes
        self._config = config
        self._admission = admission
        self._free_bytes = free_bytes
        self._now = now
        self._log = log
        self._watcher = watcher
        # The whole mutable state.
        self._models: dict[str, Model] = {}
        self._readings: dict[str, Reading] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._leaving: list[Lane] = []
        """Lanes that nobody finds any more, and whose work is not done."""
        self._turn = asyncio.Lock()
        self._turns: dict[str, asyncio.Lock] = {}
        """Each model's: the one turn of all that share the memory here, or one of its own."""
        self._waiting: Counter[str] = Counter()
        """Requests that wait for a model, and those that have not come to it since."""
        self._closed = asyncio.Event()
        lanes.wake = self.wake

    def offer(self, model: Model) -> None:
        """Put a model on offer; it is asleep."""
        name = model.listing.name
        assert name not in self._models, f"{name} is on offer already"
        self._models[name] = model
        self._readings[name] = Reading()
        self._turns[name] = asyncio.Lock() if model.remote else self._turn
        self._lanes.offer(model.listing)

    @property
    def readings(self) -> dict[str, Reading]:
        """What is known of each model on offer."""
        for name, reading in self._readings.items():
            lane = self._lanes.get(name)
            reading.resident = lane is not None
            reading.memory_bytes = lane.engine.memory_bytes() if lane is not None else 0
        return self._readings

    def model(self, name: str) -> Model | None:
        """Return what is on offer under a model's own name."""
        return self._models.get(name)

    def well(self) -> bool:
        """Whether any model in memory makes tokens while work runs; with none, it can be loaded."""
        lanes, now = tuple(self._lanes), self._now()
        return not lanes or any(lane.engine.well(now) for lane in lanes)

    def holdings(self) -> Iterator[Holding]:
        """Yield what is held at the doors and by the engines of all models in memory."""
        for lane in (*self._lanes, *self._leaving):
            yield from lane.admission.holdings()
            yield from lane.engine.holdings()

    async def start(self) -> None:
        """Load the models that are to be there from the start, as far as they find room.

        Raises ServingError for one that cannot be loaded, or could not even if others went.
        """
        wanted = [model for model in self._models.values() if model.preload]
        here = [model for model in wanted if not model.remote][: self._config.loaded_max]
        for model in wanted:
            if not model.remote and (model not in here or self._needs_another_to_go(model)):
                self._log("model.left_asleep", level="warning", model=model.listing.name)
            else:
                await self.load(model.listing.name)
        self._lanes.opening = False

    def close(self) -> None:
        """Load nothing more: whoever waits is sent elsewhere, what runs goes on."""
        self._closed.set()

    async def stop(self) -> None:
        """Load nothing more, end what runs, and every engine."""
        self.close()
        for task in tuple(self._loading.values()):
            task.cancel()
        await asyncio.gather(*self._loading.values(), return_exceptions=True)
        engines = [lane.engine for lane in (*self._lanes, *self._leaving)]
        await asyncio.gather(*(engine.stop() for engine in engines))

    async def wake(self, name: str, deadline: float) -> None:
        """Return when a model is in memory; raises ServingError if it will not be in time."""
        config, now = self._config, self._now()
        wait_s = min(deadline - now, config.load_wait_s_max)
        waiting = self._waiting.total()
        if waiting >= config.load_waiting_max:
            message = f"{waiting} requests wait for models to be loaded, as many as may."
            raise Overloaded(message, retry_after_s=self._load_s(name))
        self._waiting[name] += 1
        try:
            async with asyncio.timeout(max(wait_s, 0.0)):
                await self._load_in_turn(name, now + wait_s)
        except TimeoutError:
            message = f"The model {name} was not loaded within {max(wait_s, 0.0):.3g} s."
            raise QueueTimeout(message, retry_after_s=self._load_s(name)) from None
        finally:
            self._waiting[name] -= 1

    async def _load_in_turn(self, name: str, ends: float) -> None:
        """Load a model as soon as others may go for it, if that is before `ends`."""
        while True:
            try:
                await self.load(name)
            except NoRoomYet as full:
                if self._now() + full.wait_s >= ends:
                    raise  # waiting would be in vain
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(full.wait_s, _DRAIN_LOOK_S)):
                        await self._closed.wait()
            else:
                return

    async def load(self, name: str) -> None:
        """Bring a model into memory, unless it is there; raises ServingError."""
        if self._lanes.get(name) is not None:
            return
        if self._closed.is_set():
            raise _farewell()
        task = self._loading.get(name)
        if task is None:
            self._refuse_failed(name)
            task = self._loading[name] = asyncio.create_task(self._load(self._models[name]))
            task.add_done_callback(functools.partial(self._landed, name))
        await self._ended(task)

    async def _ended(self, task: asyncio.Task[None]) -> None:
        """Return once a load is done, and end with it; whoever leaves does not end it."""
        closed = asyncio.create_task(self._closed.wait())
        try:
            await asyncio.wait({task, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
        if not task.done() or task.cancelled():
            raise _farewell()
        match task.exception():
            case None:
                return
            # One error for all who wait would gather their traces, and keep their frames.
            case NoRoomYet() as full:
                raise NoRoomYet(full.model, full.wait_s)
            case EngineError() as error:
                raise EngineError(error.message)
            case error:
                raise error

    def _landed(self, name: str, task: asyncio.Task[None]) -> None:
        del self._loading[name]
        if not task.cancelled():
            task.exception()  # all who wanted to know may have left

    async def unload(self, name: str) -> bool:
        """Let a model leave memory once its work is done; whether it was there."""
        async with self._turns[name]:
            if self._lanes.get(name) is None:
                return False
            await self._unload(name)
            return True

    def _load_s(self, name: str) -> float:
        return self._readings[name].load_s or _LOAD_S

    def _refuse_failed(self, name: str) -> None:
        reading = self._readings[name]
        rest_s = wait_after(reading.failures_in_turn, self._config)
        left_s = reading.failed + rest_s - self._now()
        if reading.error and left_s > 0:
            message = f"The model {name} could not be loaded. {reading.error}"
            raise EngineError(message, retry_after_s=left_s)

    async def _load(self, model: Model) -> None:
        name = model.listing.name
        async with self._turns[name]:
            if not model.remote:
                await self._make_room(model)
            if self._closed.is_set():
                raise _farewell()
            began, reading = self._now(), self._readings[name]
            self._log("model.loading", model=name)
            try:
                engine = await started(model)
            except ServingError as error:
                reading.failures += 1
                reading.failures_in_turn += 1
                reading.failed, reading.error = self._now(), error.message
                self._log("model.failed", level="error", model=name, error=error.message)
                raise
            reading.since, reading.error = self._now(), ""
            reading.failures_in_turn = 0
            reading.load_s = reading.since - began
            self._open(model, engine)
            self._log("model.loaded", model=name, after_s=round(reading.load_s, 3))

    def _open(self, model: Model, engine: LaneEngine) -> None:
        listing = model.listing
        lane = open_lane(
            listing.name,
            engine,
            config=self._admission(),
            created=listing.created,
            now=self._now,
        )
        content = "" if model.folder is None else model.folder.name
        lane = replace(lane, advice=model.advice, content=content)
        self._lanes.add(lane)
        self._watcher.loaded(lane, self._readings[listing.name].load_s)

    async def _make_room(self, model: Model) -> None:
        """Unload whoever has to go; raises Overloaded if nobody may, EngineError if none would do.

        Both name the numbers.
        """
        name, config = model.listing.name, self._config
        residents = self._residents()
        match self._room(model, residents):
            case Room(leaving):
                for each in leaving:
                    await self._unload(each)
            case NoRoom(None, obtainable_bytes):
                needed, had = _megabytes(model.bytes_needed), _megabytes(obtainable_bytes)
                raise EngineError(
                    f"The model {name} needs {needed} of memory, and at most {had} can be had; "
                    f"{len(residents)} of {config.loaded_max} models are loaded. "
                    "Unpin one, or serve it elsewhere."
                )
            case NoRoom(wait_s, _):
                raise NoRoomYet(name, wait_s or 0.0)

    def _needs_another_to_go(self, model: Model) -> bool:
        match self._room(model, self._residents()):
            case Room(leaving):
                return bool(leaving)
            case NoRoom(wait_s, _):
                return wait_s is not None

    def _room(self, model: Model, residents: list[Resident]) -> Room | NoRoom:
        wanted = Wanted(
            bytes=model.bytes_needed,
            free_bytes=self._free(residents),
            loaded_max=self._config.loaded_max,
        )
        stay_s_min = self._config.stay_s_min
        return make_room(residents, wanted, now=self._now(), stay_s_min=stay_s_min)

    def _residents(self) -> list[Resident]:
        return [
            Resident(
                name=lane.name,
                bytes=lane.engine.memory_bytes(),
                loaded=self._readings[lane.name].since,
                used=self._lanes.used(lane.name),
                busy=_is_busy(lane),
                pinned=self._models[lane.name].pinned,
                awaited=self._waiting[lane.name] > 0,
            )
            for lane in self._lanes
            if not self._models[lane.name].remote
        ]

    def _free(self, residents: list[Resident]) -> int:
        free, allowed = self._free_bytes(), self._config.memory_bytes_max
        if allowed:
            free = min(free, allowed - sum(each.bytes for each in residents))
        return max(free, 0)

    async def _unload(self, name: str) -> None:
        lane = self._lanes.remove(name)
        self._leaving.append(lane)
        self._log("model.unloading", model=name, requests=_inside(lane))
        try:
            ends = self._now() + self._config.unload_s_max
            while _is_busy(lane) and self._now() < ends:  # noqa: ASYNC110 - an event would cost each request
                await asyncio.sleep(_DRAIN_LOOK_S)
        finally:
            ended_early = _inside(lane)
            await lane.engine.stop()
            self._leaving.remove(lane)
            self._watcher.unloaded(lane)
            self._log("model.unloaded", model=name, ended_early=ended_early)


def _farewell() -> Draining:
    message = "The server is stopping. Send the request again; another replica will take it."
    return Draining(message, retry_after_s=_RETRY_S)


def _inside(lane: Lane) -> int:
    load = lane.admission.load
    return load.running + load.waiting


def _is_busy(lane: Lane) -> bool:
    return _inside(lane) > 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
