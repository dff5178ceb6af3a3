"""Workers die under requests, by poison or from outside: whose answers are unbroken, and whose end.

Real: the replicas, the quarantine, the budget, flights, outboxes, frames' contents, the worker's
intake, choices and the scripted engine.  Simulated: processes, sockets and time.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from forebay.core.errors import EngineError
from forebay.core.request import Delta, Finished, Request, RequestId, Sampling
from forebay.engine.resuming import Passed
from forebay.engine.supervisor import SupervisorConfig
from forebay.policy.quarantine import Quarantine
from forebay.serve.replicas import Replicas
from forebay.serve.run import Run
from tests.support.requests import a_chat, a_request
from tests.support.seeds import seeds
from tests.support.simulated_worker import SimulatedWorker, die
from tests.support.virtual_time import run_virtually

TURN_S, LOAD_S = 0.01, 0.4
WORDS = ("naïve ", "日本語の長い言葉 ", "👩🏽‍🚀 ", "x ", "x ", "stopping ", "word ")
STOPS = ((), ("stop",), ("x x y", "語の長い言葉 👩"), ("x x",))
REQUESTS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What goes wrong beside poison."""

    kill: float = 0.0
    """Chance of an outside kill, per turn and worker."""
    leave: float = 0.0
    """Chance that a client leaves, per event."""
    poisons: int = 1
    """How many of the requests kill their worker."""


@dataclass(slots=True)
class Client:
    """Who asks, and what is heard."""

    request: Request
    poisonous: bool
    text: str = ""
    tokens: int = 0
    finished: Finished | None = None
    error: EngineError | None = None
    left: bool = False


@dataclass(slots=True)
class World:
    """Clients, workers, and a clock that jumps."""

    dice: random.Random
    weather: Weather
    workers: list[SimulatedWorker] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    killed: int = 0
    over: bool = False

    async def live(self) -> None:
        now = asyncio.get_running_loop().time
        self.workers = [SimulatedWorker(now) for _ in range(self.dice.choice((1, 1, 2, 3)))]
        config = SupervisorConfig(reruns_per_s_min=1e6)
        engine = Replicas(self.workers, config, now=now, dice=self.dice.random)
        await engine.start()
        keepers = [asyncio.create_task(self.keep(worker)) for worker in self.workers]
        poisonous = set(self.dice.sample(range(REQUESTS), self.weather.poisons))
        self.clients = [self.a_client(number, number in poisonous) for number in range(REQUESTS)]
        async with asyncio.timeout(600.0):
            await asyncio.gather(*(self.ask(engine, client) for client in self.clients))
        for _ in range(3):
            await asyncio.sleep(TURN_S)
        self.check_rest(engine)
        self.over = True
        await asyncio.gather(*keepers)
        for client in self.clients:
            self.check(client)

    def a_client(self, number: int, poisonous: bool) -> Client:
        dice = self.dice
        words = "".join(dice.choice(WORDS) for _ in range(dice.randrange(1, 25)))
        direction = f"{dice.choice(('!die', '!stall'))} tail" if poisonous else ""
        sampling = Sampling(
            choices=dice.choice((1, 1, 2)),
            stop=dice.choice(STOPS),
            tokens_max=dice.choice((None, None, 7)),
            logprobs=dice.random() < 0.2,
        )
        request = a_request(
            id=RequestId(f"r{number}"),
            # No two wishes are the same, so that barring one bars no other.
            prompt=a_chat(f"{number} {words}{direction}"),
            sampling=sampling,
            stream=dice.random() < 0.6,
        )
        return Client(request, poisonous)

    async def keep(self, worker: SimulatedWorker) -> None:
        while not self.over:
            await asyncio.sleep(TURN_S)
            worker.turn(mute=False)
            if worker.able and self.dice.random() < self.weather.kill:
                worker.turn(mute=True)
                if worker.able:
                    worker.die()
                self.killed += 1
            if not worker.able:
                await asyncio.sleep(LOAD_S * (0.5 + self.dice.random()))
                worker.rise()

    async def ask(self, engine: Replicas, client: Client) -> None:
        await asyncio.sleep(self.dice.random() * 2.0)
        try:
            async with contextlib.aclosing(engine.generate(client.request)) as events:
                async for event in events:
                    assert client.finished is None, "nothing follows the end"
                    if isinstance(event, Delta):
                        client.text += event.text if event.choice == 0 else ""
                        client.tokens += event.tokens
                    elif isinstance(event, Finished):
                        client.finished = event
                    if self.dice.random() < self.weather.leave:
                        client.left = True
                        return
                    if self.dice.random() < 0.1:
                        await asyncio.sleep(self.dice.random() * 0.2)
        except EngineError as error:
            client.error = error

    def check(self, client: Client) -> None:
        """State what must be true of each client at the end."""
        ended = [client.finished is not None, client.error is not None, client.left]
        assert sum(ended) == 1 or (client.left and client.finished), "each ends once"
        if client.finished is not None:
            expected = self.expected(client)
            assert client.text == expected[0], "the answer is unbroken"
            if not client.left:
                assert client.finished.usage.completion_tokens == client.tokens == expected[1]
        if client.error is not None and not client.poisonous:
            alone = self.weather.poisons == 1 and not self.killed
            assert not alone, "who is innocent is never lost to one poison alone"

    def expected(self, client: Client) -> tuple[str, int]:
        """Return text and tokens of the first choice's answer, made in one go."""
        return _in_one_go(SimulatedWorker(lambda: 0.0), client.request)

    def check_rest(self, engine: Replicas) -> None:
        """State what must be true when nobody asks for anything."""
        assert engine._loads == [0] * len(self.workers), "a place is held"
        assert not any(engine._waiting), "somebody waits who has gone"
        assert not engine._quarantine._watched, "somebody is on probation who has gone"
        assert not list(engine.holdings()), "something is held"
        poison = [client for client in self.clients if client.poisonous]
        deaths = sum(worker.deaths for worker in self.workers)
        assert deaths <= 2 * len(poison) + self.killed, "poison was run a third time"


def _in_one_go(worker: SimulatedWorker, request: Request) -> tuple[str, int]:
    worker.rise()
    flight = worker._flights.add(request, 0.0)
    for _ in range(500):
        worker.turn(mute=False)
    text, tokens = "", 0
    for event in flight.outbox._events:
        if isinstance(event, Delta):
            text += event.text if event.choice == 0 else ""
            tokens += event.tokens
    return text, tokens


@pytest.fixture(autouse=True)
def _scripts_kill_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.engines.scripted._be_lost", die)


def storms(weather: Weather, count: int) -> Counter[str]:
    """Live through worlds; return how clients fared."""
    fates: Counter[str] = Counter()
    for seed in seeds(count):
        world = World(random.Random(seed), weather)
        try:
            run_virtually(world.live())
        except AssertionError as error:
            raise AssertionError(f"SEED={seed}: {error}") from error
        for client in world.clients:
            kind = "poison" if client.poisonous else "innocent"
            end = "left" if client.left else "lost" if client.error else "answered"
            fates[f"{kind} {end}"] += 1
        fates["killed"] += world.killed
    return fates


def test_poison_ends_alone_and_answers_are_unbroken() -> None:
    fates = storms(Weather(), 40)
    assert fates["innocent lost"] == 0
    assert fates["poison lost"] > 0


def test_kills_from_outside_break_no_answer_that_is_given() -> None:
    fates = storms(Weather(kill=0.01, poisons=0), 40)
    assert fates["killed"] > 40
    assert fates["innocent answered"] > 10 * fates["innocent lost"]


def test_whatever_goes_wrong_each_ends_once_and_nothing_is_held() -> None:
    fates = storms(Weather(kill=0.01, leave=0.02, poisons=4), 40)
    assert fates["innocent left"] > 0
    assert fates["innocent answered"] > 0


def _doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    note = Passed.note

    def forgetful(passed: Passed, delta: Delta) -> None:
        note(passed, delta)
        passed._tallies[delta.choice].characters -= len(delta.text) > 3

    monkeypatch.setattr(Passed, "note", forgetful)


def _acquits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quarantine, "lost", lambda *_: None)


def _clears_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    move = Run.move

    def hasty(run: Run, *, resumable: bool) -> None:
        move(run, resumable=resumable)
        run._needed = 1

    monkeypatch.setattr(Run, "move", hasty)


def _leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quarantine, "left", lambda *_: None)


@pytest.mark.parametrize(
    ("plant", "weather"),
    [
        (_doubles, Weather()),
        (_acquits, Weather(poisons=3)),
        (_clears_at_once, Weather()),
        (_leaks, Weather(kill=0.002)),
    ],
    ids=["doubled text", "no verdicts", "too soon cleared", "a leak"],
)
def test_a_planted_defect_is_caught(
    plant: Callable[[pytest.MonkeyPatch], None],
    weather: Weather,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, TimeoutError)):
        storms(weather, 60)
