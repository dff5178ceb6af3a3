"""Workers come and go under requests at random: each ends once, and none outlives its worker.

The flights, the outboxes and the watch are the real ones; the worker is a model that makes
tokens, falls silent, faults requests and dies as the dice say.  Time is a number.
"""

import random
from dataclasses import dataclass, field

from forebay.core.errors import EngineError, Invalid, Outcome, ServingError
from forebay.core.request import Delta, Event, Finished, Scheduled
from forebay.engine.flights import Flight, Flights
from forebay.engine.protocol import WorkerLost
from forebay.engine.watch import Backoff, Sight, Watch
from forebay.engine.wire import Abort, Down, End, Fault, Piece, Step, Submit, Taken
from tests.support.requests import a_request
from tests.support.seeds import seeds

STEPS = 300
PENDING_MAX = 4
LOOK_S = 0.25
STALL_S = 1.0


@dataclass(slots=True)
class Reader:
    """Who reads one request's events, and what must be true of them."""

    flight: Flight
    events: list[Event] = field(default_factory=list)
    error: ServingError | None = None
    gone: bool = False

    @property
    def ended(self) -> bool:
        return self.gone or self.error is not None or self._finished

    @property
    def _finished(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Finished)

    def read(self) -> None:
        """Take one event, if one waits; `take` never waits then, so it is run by hand."""
        outbox = self.flight.outbox
        if self.ended or not (len(outbox) or outbox.ended):
            return
        try:
            outbox.take().send(None)
        except StopIteration as stop:
            self.events.append(stop.value)
        except ServingError as error:
            self.error = error


@dataclass(slots=True)
class ModelWorker:
    """A worker that does what the dice say."""

    silent: bool = False
    tokens: int = 0
    frames: int = 0
    running: dict[int, int] = field(default_factory=dict)
    fresh: list[int] = field(default_factory=list)

    def send(self, message: Down) -> None:
        match message:
            case Submit(id):
                self.running[id] = 0
                self.fresh.append(id)
            case Abort(id):
                self.running.pop(id, None)

    def turn(self, dice: random.Random) -> list[Step | Fault]:
        if self.silent:
            return []
        self.frames += 1
        step = Step([Taken(id, 3) for id in self.fresh], [], [], 0)
        self.fresh = []
        found: list[Step | Fault] = [step]
        for id in list(self.running):
            fate = dice.random()
            if fate < 0.5:
                self.running[id] += 1
                self.tokens += 1
                step.pieces = [*step.pieces, Piece(id, f"{self.running[id]} ")]
            elif fate < 0.6:
                made = self.running.pop(id)
                step.ends = [*step.ends, End(id, 3, made, None, None)]
            elif fate < 0.62:
                del self.running[id]
                found.append(Fault(id, Outcome.INVALID, "no"))
        step.tokens_made = self.tokens
        return found


class World:
    """One gateway, one worker at a time."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.flights = Flights(pending_deltas_max=PENDING_MAX)
        self.backoff = Backoff(wait_s_min=0.5, wait_s_max=4.0, calm_s=20.0)
        self.now = 0.0
        self.back = 0.0
        self.ready = 0.0
        self.worker: ModelWorker | None = None
        self.watch: Watch | None = None
        self.silent_since: float | None = None
        self.readers: list[Reader] = []

    def step(self) -> None:
        self.now += LOOK_S
        dice = self.dice
        if self.worker is None and self.now >= self.back:
            self.start()
        if self.worker is not None and dice.random() < 0.4:
            self.readers.append(Reader(self.flights.add(a_request(), self.now)))
        for reader in self.readers:
            if not reader.ended and dice.random() < 0.03:
                reader.gone = True
                self.flights.forget(reader.flight, self.now)
            for _ in range(dice.choice((0, 0, 1, 3))):
                reader.read()
        if self.worker is not None:
            self.live(self.worker)

    def start(self) -> None:
        self.worker = ModelWorker()
        self.watch = Watch(self.now, stall_s=STALL_S, progress_s_max=30.0, look_s_max=2 * LOOK_S)
        self.ready, self.silent_since = self.now, None
        self.flights.worker_ready(self.worker.send)

    def live(self, worker: ModelWorker) -> None:
        if not worker.silent and self.dice.random() < 0.02:
            worker.silent, self.silent_since = True, self.now
        for message in worker.turn(self.dice):
            if isinstance(message, Step):
                self.flights.step(message)
            else:
                self.flights.fault(message)
        assert self.watch is not None
        sight = Sight(
            frames=worker.frames,
            tokens=worker.tokens,
            busy=len(self.flights) > 0,
            patience_s=STALL_S,
        )
        if self.watch.look(self.now, sight) or self.dice.random() < 0.02:
            self.lose()
        elif self.silent_since is not None:
            assert self.now - self.silent_since < STALL_S + 2 * LOOK_S, "a stall went unseen"

    def lose(self) -> None:
        self.worker = self.watch = None
        self.flights.worker_lost()
        self.flights.fail_all(WorkerLost("lost"))
        wait_s = self.backoff.lost(self.now - self.ready, self.dice.random())
        assert 0.0 <= wait_s <= 4.0
        self.back = self.now + wait_s

    def check(self) -> None:
        """State what must be true at every moment."""
        held = {reader.flight.id for reader in self.readers if not reader.flight.outbox.ended}
        held -= {reader.flight.id for reader in self.readers if reader.gone}
        assert set(self.flights._flights) == held, "a request is held that has ended, or lost"
        if self.worker is not None:
            assert set(self.worker.running) == held, "the worker and we disagree"
        for reader in self.readers:
            assert len(reader.flight.outbox) <= PENDING_MAX + 2
            if reader.ended:
                self.check_events(reader)
        self.readers = [reader for reader in self.readers if not reader.ended]

    @staticmethod
    def check_events(reader: Reader) -> None:
        kinds = [type(event) for event in reader.events]
        assert kinds[:1] in ([], [Scheduled], [Finished])
        assert kinds.count(Scheduled) <= 1
        assert Finished not in kinds[:-1]
        text = "".join(event.text for event in reader.events if isinstance(event, Delta))
        tokens = sum(event.tokens for event in reader.events if isinstance(event, Delta))
        # One run's text from its start: nothing twice, nothing missing, nothing of another run.
        assert text == "".join(f"{number} " for number in range(1, tokens + 1))
        if reader.events and isinstance(reader.events[-1], Finished):
            assert reader.events[-1].usage.completion_tokens == tokens
        assert reader.error is None or type(reader.error) in (EngineError, Invalid, WorkerLost)


def test_each_request_ends_once_and_none_outlives_its_worker() -> None:
    for seed in seeds():
        world = World(seed)
        try:
            for _ in range(STEPS):
                world.step()
                world.check()
            world.flights.fail_all(EngineError("stopped"))
            for reader in world.readers:
                while not reader.ended:
                    reader.read()
                world.check_events(reader)
            assert len(world.flights) == 0
        except AssertionError as error:
            raise AssertionError(f"SEED={seed}: {error}") from error
