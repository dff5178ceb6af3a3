"""A worker without a process: the real intake, choices, frames and flights, turned by hand.

It dies where a script says so (`!die`, `!stall`), or when it is told to; what it had not yet
sent is lost with it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from forebay.core.clock import Clock
from forebay.core.errors import EngineError
from forebay.core.record import Holding
from forebay.core.request import Events, Request
from forebay.engine.answering import Answering
from forebay.engine.flights import LOST, Flight, Flights, Watcher
from forebay.engine.protocol import EngineInfo, StepStats, WorkerLost
from forebay.engine.supervisor import Crew
from forebay.engine.wire import Abort, Down, Step, Submit
from forebay.engines.scripted import ScriptedConfig, ScriptedEngine
from forebay.policy.quarantine import Passenger


class Died(Exception):
    """A script killed the engine."""


def die(_: object) -> None:
    """Stand in for what the scripted engine does when it is to be lost."""
    raise Died


class SimulatedWorker:
    """Is up or down; a turn makes a token of each sequence."""

    def __init__(self, now: Clock) -> None:
        self.crew: Crew | None = None
        self.stopped = False
        self.able = False
        self.deaths = 0
        self._now = now
        self._flights = Flights(pending_deltas_max=4)
        self._answering: Answering | None = None
        self.mail: list[Down] = []

    @property
    def info(self) -> EngineInfo:
        return ScriptedEngine(ScriptedConfig()).info

    @property
    def restarts(self) -> Mapping[str, int]:
        return Counter(exited=self.deaths)

    def memory_bytes(self) -> int:
        return 0

    async def load_adapter(self, name: str, folder: Path) -> None:
        """It has no weights to lay one over."""

    def unload_adapter(self, name: str) -> None:
        """Nor one to take off."""

    async def start(self) -> None:
        self.rise()

    async def stop(self) -> None:
        self.stopped, self.able = True, False
        self._flights.fail_all(EngineError("stopped"))
        assert self.crew is not None
        self.crew.changed()

    def generate(self, request: Request) -> Events:
        raise AssertionError(f"{request.id}: replicas board a worker themselves")

    def board(
        self,
        request: Request,
        passenger: Passenger | None = None,
        *,
        watch: Watcher | None = None,
    ) -> Flight:
        return self._flights.add(request, self._now(), passenger=passenger, watch=watch)

    def leave(self, flight: Flight) -> None:
        self._flights.forget(flight, self._now())

    def progress(self) -> int:
        return 0

    def well(self, now: float) -> bool:
        return self.able and now >= 0.0

    def gauges(self) -> StepStats | None:
        return None

    def holdings(self) -> Iterator[Holding]:
        return self._flights.holdings()

    def rise(self) -> None:
        """Be there, with nothing aboard."""
        engine = ScriptedEngine(ScriptedConfig(running_max=64))
        self._answering = Answering(engine, lambda: 1, stats_s=1.0)
        self.mail = []
        self._flights.worker_ready(self.mail.append)
        self.able = True
        if self.crew is not None:
            self.crew.changed()

    def die(self) -> None:
        """Be gone, and everything aboard with it."""
        self.able, self._answering = False, None
        self.deaths += 1
        aboard: Sequence[Passenger] = self._flights.worker_lost()
        assert self.crew is not None
        self.crew.lost(aboard)
        self._flights.fail_all(WorkerLost(LOST))

    def turn(self, *, mute: bool) -> None:
        """Turn once; a mute worker makes tokens that never arrive."""
        answering = self._answering
        if answering is None:
            return
        mail, self.mail[:] = list(self.mail), []
        for message in mail:
            match message:
                case Submit():
                    answering.submit(message, self._now())
                case Abort(request_id):
                    answering.abort(request_id)
        try:
            outputs = answering.step()
        except Died:
            self.die()
            return
        step, faults = answering.answer(outputs, self._now())
        assert not faults
        if step is not None and not mute:
            self._receive(step)

    def _receive(self, step: Step) -> None:
        self._flights.step(step)
        for freed in step.freed:
            self._flights.freed(freed, self._now())
