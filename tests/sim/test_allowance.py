"""Requests that are cancelled, refused and broken off at random: nothing they held is left."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from forebay.core.caller import Account, Caller, Level
from forebay.core.errors import EngineError, Invalid, Outcome, OverBudget, RateLimited
from forebay.core.request import Delta, Finished, Request, RequestId, Scheduled, Text, Usage
from forebay.policy.gcra import Ask
from forebay.serve import allowance
from forebay.serve.allowance import Allowance, Cost, Reserved
from forebay.serve.limiter import MemoryLimiter, Taken
from forebay.serve.limits import Limits
from forebay.serve.limits_config import LimitsConfig
from tests.support import virtual_time
from tests.support.requests import a_request
from tests.support.seeds import seeds

CONFIG = LimitsConfig(
    tokens="3000/second",
    tokens_per_key="2000/second",
    concurrent_max=6,
    concurrent_per_tenant_max=10,
)
REQUESTS = 120


class SlowLimiter(MemoryLimiter):
    """Answers after a while, as one behind a network; a caller that leaves has taken nothing."""

    def __init__(self, config: LimitsConfig, dice: random.Random) -> None:
        super().__init__(config, asyncio.get_running_loop().time)
        self.dice = dice
        # Units of each account: taken, given back, and charged beyond what was taken.
        self.taken: Counter[str] = Counter()
        self.given: Counter[str] = Counter()

    async def take(self, asks: tuple[Ask, ...]) -> Taken:
        await asyncio.sleep(self.dice.choice((0.0, 0.001, 0.02)))
        taken = await super().take(asks)
        if taken.passed:
            for ask in asks:
                self.taken[ask.name] += ask.cost
        try:
            await asyncio.sleep(self.dice.choice((0.0, 0.0, 0.01)))
        except asyncio.CancelledError:
            if taken.passed:
                self.give_back(taken, tuple(ask.cost for ask in asks))
            raise
        return taken

    def give_back(self, taken: Taken, costs: tuple[int, ...]) -> None:
        for ask, cost in zip(taken.asks, costs, strict=True):
            self.given[ask.name] += cost
        super().give_back(taken, costs)


class Held(Reserved):
    """What one request holds of the budget."""

    __slots__ = ("tokens",)

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens


class Book:
    """One budget for all: what is spent and what is held never exceed it."""

    def __init__(self, amount: int, dice: random.Random) -> None:
        self.amount = amount
        self.dice = dice
        self.spent = self.held = 0
        self.outcomes: Counter[Outcome] = Counter()

    async def reserve(self, request: Request, most: Cost) -> Reserved:
        await asyncio.sleep(self.dice.choice((0.0, 0.005)))
        tokens = most.prompt_tokens + most.completion_tokens
        if self.spent + self.held + tokens > self.amount:
            raise OverBudget("The budget is spent.")
        self.held += tokens
        try:
            await asyncio.sleep(self.dice.choice((0.0, 0.005)))
        except asyncio.CancelledError:
            self.held -= tokens
            raise
        return Held(tokens)

    def settle(self, reserved: Reserved, spent: Cost, *, outcome: Outcome) -> None:
        assert isinstance(reserved, Held)
        used = spent.prompt_tokens + spent.completion_tokens
        assert used <= reserved.tokens
        self.held -= reserved.tokens
        self.spent += used
        self.outcomes[outcome] += 1
        assert self.spent + self.held <= self.amount


@dataclass
class World:
    """Callers, what they used, and how their requests ended."""

    seed: int
    dice: random.Random = field(init=False)
    used: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.callers = [
            Caller(
                tenant=f"t{number % 2}",
                accounts=(
                    Account(level=Level.KEY, id=f"k{number}"),
                    Account(level=Level.USER, id=f"u{number // 2}"),
                    Account(level=Level.TENANT, id=f"t{number % 2}"),
                ),
            )
            for number in range(4)
        ]

    async def run(self) -> None:
        self.limiter = SlowLimiter(CONFIG, self.dice)
        now = asyncio.get_running_loop().time
        self.book = Book(60_000, self.dice)
        self.limits = Limits(self.limiter, CONFIG, now)
        self.allowance = Allowance(self.limits, self.book, now, most=lambda _: 150)
        tasks = []
        for number in range(REQUESTS):
            await asyncio.sleep(self.dice.expovariate(60.0))
            task = asyncio.create_task(self.ask(number))
            tasks.append(task)
            if self.dice.random() < 0.4:
                delay_s = self.dice.choice((0.0, 0.001, 0.005, 0.01, 0.03, 0.1, 0.3))
                asyncio.get_running_loop().call_later(delay_s, task.cancel)
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def ask(self, number: int) -> None:
        dice = self.dice
        request = a_request(
            id=RequestId(f"r{number}"),
            caller=dice.choice(self.callers),
            prompt=Text(text="x" * dice.choice((10, 200, 900))),
            tokens_max=dice.choice((None, 5, 100, 2_500)),
            choices=dice.choice((1, 1, 2)),
        )
        end = "cancelled"
        try:
            async with self.allowance.of(request) as spending:
                await self.generate(request, spending.saw)
            end = "ok"
        except (RateLimited, OverBudget, EngineError, Invalid) as error:
            end = type(error).__name__
        finally:
            self.ends[end] += 1

    async def generate(self, request: Request, saw: object) -> None:
        """Make tokens as an engine does, and break down now and then."""
        dice = self.dice
        assert callable(saw)
        prompt, made = dice.randint(1, 10), 0

        def count(tokens: int) -> None:
            for ask in self.limits.plan_of(request.caller).tokens:
                self.used[ask.name] += tokens

        await asyncio.sleep(dice.choice((0.0, 0.02)))
        if dice.random() < 0.1:
            raise EngineError("It broke before it began.")
        saw(Scheduled(prompt))
        count(prompt)
        limit = (request.sampling.tokens_max or 150) * request.sampling.choices
        for _ in range(dice.randint(0, 8)):
            await asyncio.sleep(0.01)
            if dice.random() < 0.03:
                raise EngineError("It broke on the way.")
            step = min(dice.randint(1, 20), limit - made)
            saw(Delta("x", tokens=step))
            count(step)
            made += step
        saw(Finished(Usage(prompt_tokens=prompt, completion_tokens=made)))


def violations(world: World) -> Iterator[str]:
    """Yield every promise that was broken."""
    allowance, limiter, book = world.allowance, world.limiter, world.book
    if allowance.permits or allowance.inside:
        yield f"held at rest: {allowance.permits} {allowance.inside}"
    if book.held:
        yield f"reserved at rest: {book.held}"
    for name in limiter.taken.keys() | world.used.keys():
        if limiter.given[name] != limiter.taken[name] - world.used[name]:
            yield (
                f"{name}: {limiter.taken[name]} taken, {world.used[name]} used,"
                f" {limiter.given[name]} given back"
            )
    spent = sum(used for name, used in world.used.items() if ":user:" in name)
    if book.spent != spent:
        yield f"the budget was charged {book.spent}, and {spent} were used"


async def played(seed: int) -> World:
    world = World(seed)
    await world.run()
    return world


def test_at_rest_nothing_is_held_and_given_back_is_what_was_taken_and_not_used() -> None:
    ends: Counter[str] = Counter()
    outcomes: Counter[Outcome] = Counter()
    for seed in seeds():
        world = virtual_time.run(played(seed))
        found = list(violations(world))
        assert not found, (seed, found)
        ends.update(world.ends)
        outcomes.update(world.book.outcomes)
    expected = {"ok", "cancelled", "OverRate", "EngineError", "Invalid"}
    assert expected <= set(ends), f"the callers were too alike: {ends}"
    assert all(ends[end] > 20 for end in expected), ends
    assert {Outcome.OK, Outcome.CANCELLED, Outcome.ENGINE_ERROR} <= set(outcomes)


@pytest.mark.parametrize("defect", ["keeps what was not used", "counts no deltas"])
def test_a_defect_would_be_seen(defect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if defect == "counts no deltas":
        monkeypatch.setattr(allowance._Scope, "saw", lambda self, event: None)
    else:
        monkeypatch.setattr(SlowLimiter, "give_back", lambda self, taken, costs: None)
    assert any(list(violations(virtual_time.run(played(seed)))) for seed in range(3))
