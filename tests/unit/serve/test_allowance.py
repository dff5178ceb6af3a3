import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from forebay.core.caller import Account, Bounds, Caller, Level, Rate
from forebay.core.clock import ManualClock
from forebay.core.errors import Invalid, Outcome, OverBudget, Overloaded
from forebay.core.request import (
    Admitted,
    Delta,
    Finished,
    Request,
    RequestId,
    Route,
    Scheduled,
    Text,
    TokenIds,
    Usage,
)
from forebay.serve.allowance import Allowance, Budgets, Cost, Reserved
from forebay.serve.limiter import MemoryLimiter
from forebay.serve.limits import Limits, OverRate, Unit
from forebay.serve.limits_config import LimitsConfig
from tests.support.requests import a_request


class Held(Reserved):
    """What one request holds of the budgets below."""

    __slots__ = ("most",)

    def __init__(self, most: Cost) -> None:
        self.most = most


class Book:
    """Budgets that note what is asked of them."""

    def __init__(self) -> None:
        self.held: list[Held] = []
        self.settled: list[tuple[Cost, Outcome]] = []
        self.refusing = False
        self.waiting = asyncio.Event()
        self.waiting.set()

    async def reserve(self, request: Request, most: Cost) -> Reserved:
        await self.waiting.wait()
        if self.refusing:
            raise OverBudget("The budget is spent.")
        self.held.append(Held(most))
        return self.held[-1]

    def settle(self, reserved: Reserved, spent: Cost, *, outcome: Outcome) -> None:
        assert isinstance(reserved, Held)
        self.held.remove(reserved)
        self.settled.append((spent, outcome))


ALICE = Caller(
    tenant="acme",
    user="alice",
    accounts=(Account(level=Level.USER, id="alice"), Account(level=Level.TENANT, id="acme")),
)
TOKENS = LimitsConfig(tokens="1000/minute", tokens_per_tenant="1500/hour")


class World:
    """An allowance, and what can be seen of it."""

    def __init__(self, config: LimitsConfig = TOKENS, budgets: Budgets | None = None) -> None:
        self.clock = ManualClock(50.0)
        self.limiter = MemoryLimiter(config, self.clock)
        self.limits = Limits(self.limiter, config, self.clock)
        self.allowance = Allowance(self.limits, budgets, self.clock, most=lambda _: 300)

    async def left(self, caller: Caller = ALICE) -> int:
        """Return what is left of the user's tokens."""
        taken = await self.limiter.take(self.limits.plan_of(caller).tokens[:1])
        return taken.verdicts[0].remaining

    async def spend(self, *events: Any, **facts: Any) -> None:
        async with self.allowance.of(asked(**facts)) as spending:
            for event in events:
                spending.saw(event)


def asked(text: str = "x" * 98, **facts: Any) -> Request:
    """Return a request whose prompt is 100 tokens at most."""
    known = {"prompt": Text(text=text), "caller": ALICE, "tokens_max": 200}
    return a_request(**(known | facts))


def made(prompt: int, completion: int) -> Finished:
    return Finished(Usage(prompt_tokens=prompt, completion_tokens=completion))


async def test_while_it_is_made_a_request_holds_the_most_it_may_use_and_then_what_it_used() -> None:
    world = World()
    async with world.allowance.of(asked()) as spending:
        assert await world.left() == 700
        spending.saw(Scheduled(20))
        spending.saw(Delta("x", tokens=3))
        spending.saw(made(20, 30))
    assert await world.left() == 950
    assert list(world.allowance.holdings()) == []


async def test_what_was_thought_too_much_of_a_long_prompt_is_free_once_it_is_counted() -> None:
    world = World()
    async with world.allowance.of(asked("x" * 798)) as spending:
        assert await world.left() == 0
        spending.saw(Scheduled(150))
        assert await world.left() == 650
        spending.saw(made(150, 10))
    assert await world.left() == 840


@pytest.mark.parametrize(
    ("events", "used"),
    [
        ((), 0),
        ((Admitted(),), 0),
        ((Scheduled(20),), 20),
        ((Scheduled(20), Delta("x", tokens=7), Delta("y", tokens=4)), 31),
        ((Delta("x", tokens=7),), 32),
        ((made(40, 0),), 40),
    ],
)
@pytest.mark.parametrize("ends", [None, asyncio.CancelledError, Overloaded, GeneratorExit])
async def test_however_it_ends_what_was_not_made_is_given_back(
    events: tuple[Any, ...], used: int, ends: type[BaseException] | None
) -> None:
    book = Book()
    world = World(budgets=book)
    error = None if ends is None else ends("full") if ends is Overloaded else ends()
    scope = world.allowance.of(asked())
    spending = await scope.__aenter__()
    for event in events:
        spending.saw(event)
    assert not await scope.__aexit__(ends, error, None), "it must come out as it went in"
    assert await world.left() == 1_000 - used
    ((spent, outcome),) = book.settled
    assert spent.prompt_tokens + spent.completion_tokens == used
    expected: dict[Any, Outcome] = {None: Outcome.OK, Overloaded: Outcome.OVERLOADED}
    assert outcome is expected.get(ends, Outcome.CANCELLED)
    assert (book.held, list(world.allowance.holdings())) == ([], [])


async def test_a_defect_of_ours_is_settled_as_one() -> None:
    book = Book()
    with pytest.raises(ZeroDivisionError):
        async with World(budgets=book).allowance.of(asked()):
            raise ZeroDivisionError
    assert book.settled == [(Cost(), Outcome.INTERNAL_ERROR)]


async def test_who_has_too_few_tokens_left_is_told_when_it_fits() -> None:
    world = World()
    await world.spend(made(500, 300))
    with pytest.raises(OverRate) as refused:
        await world.spend()
    assert refused.value.message == (
        "This user may use 1000 tokens per minute; 200 are left, and this takes 300."
        " It fits in 6 s."
    )
    told = refused.value.standing.tightest(Unit.TOKENS)
    assert told is not None
    assert told[1] == 200
    world.clock.advance(refused.value.retry_after_s or 0.0)
    await world.spend()
    assert world.limits.refusals == {("user", "tokens"): 1}


async def test_numbers_that_a_client_names_and_that_never_fit_are_refused_for_good() -> None:
    for facts in (
        {"tokens_max": 1_001},
        {"tokens_max": 300, "choices": 4},
        {"prompt": TokenIds(ids=tuple(range(900))), "tokens_max": 200},
    ):
        world = World()
        with pytest.raises(Invalid, match="never fits") as refused:
            await world.spend(**facts)
        assert (refused.value.status, refused.value.param) == (400, "max_tokens")
        assert await world.left() == 1_000


async def test_an_estimate_never_refuses_for_good_and_what_is_used_beyond_is_charged() -> None:
    world = World(LimitsConfig(tokens="1000/minute"))
    await world.spend(made(700, 290), prompt=Text(text="x" * 5_000), tokens_max=None, choices=2)
    assert await world.left() == 10
    world.clock.advance(60.0)
    async with world.allowance.of(asked("x" * 5_000, tokens_max=None)) as spending:
        spending.saw(made(1_000, 200))
    with pytest.raises(OverRate) as refused:
        await world.spend(tokens_max=1)
    assert refused.value.retry_after_s is not None


async def test_where_no_number_is_named_the_models_own_is_taken_for_each_choice() -> None:
    world = World()
    async with world.allowance.of(asked(tokens_max=None, choices=2)):
        assert await world.left() == 300


async def test_a_vector_makes_no_tokens() -> None:
    world, request = World(), asked()
    request.sampling.embed = True  # type: ignore[misc]  # a request of our own
    async with world.allowance.of(request):
        assert await world.left() == 900


CONCURRENT = LimitsConfig(concurrent_max=2, concurrent_per_tenant_max=3)


async def test_only_so_many_may_be_made_at_once_of_each_account() -> None:
    world = World(CONCURRENT)
    bob = Caller(
        tenant="acme", user="bob", accounts=(Account(level=Level.USER, id="bob"), ALICE.accounts[1])
    )
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(world.allowance.of(asked()))
        with pytest.raises(OverRate, match="This user may have 2 requests at once") as refused:
            await world.spend()
        assert refused.value.status == 429
        await stack.enter_async_context(world.allowance.of(asked(caller=bob)))
        with pytest.raises(OverRate, match="This tenant may have 3 requests at once"):
            await world.spend(caller=bob)
        held = [holding for holding in world.allowance.holdings() if holding.kind == "permit"]
        assert [holding.amount for holding in held] == [2, 2, 2]
    await world.spend()
    assert world.allowance.permits == {}
    assert world.limits.refusals == {("user", "concurrent"): 1, ("tenant", "concurrent"): 1}


async def test_an_accounts_own_bounds_go_before_those_of_its_level() -> None:
    own = Bounds(tokens=Rate(amount=250, period_s=60.0), concurrent=1)
    caller = Caller(accounts=(Account(level=Level.USER, id="carol", bounds=own),))
    world = World()
    async with world.allowance.of(asked(caller=caller, tokens_max=100)):
        assert await world.left(caller) == 50
        with pytest.raises(OverRate, match="at once"):
            await world.spend(caller=caller, tokens_max=1)


async def test_what_is_held_is_told_with_its_owner_and_an_end() -> None:
    world = World(LimitsConfig(tokens="1000/minute", concurrent_max=2))
    async with world.allowance.of(asked(id=RequestId("r-7"), tenant="acme")):
        permit, tokens = world.allowance.holdings()
    assert (permit.kind, permit.owner, permit.tenant, permit.amount) == ("permit", "r-7", "acme", 1)
    assert (tokens.kind, tokens.amount, tokens.since, tokens.expires) == (
        "tokens",
        300,
        50.0,
        3_600.0,
    )


async def test_the_budgets_are_asked_for_the_most_it_may_cost_however_rates_are() -> None:
    book = Book()
    world = World(LimitsConfig(), book)
    async with world.allowance.of(asked("x" * 5_000, tokens_max=None)):
        assert [held.most for held in book.held] == [
            Cost(prompt_tokens=5_002, completion_tokens=300)
        ]


async def test_who_is_over_budget_has_taken_nothing() -> None:
    book = Book()
    book.refusing = True
    world = World(budgets=book)
    with pytest.raises(OverBudget):
        await world.spend()
    assert await world.left() == 1_000
    assert (list(world.allowance.holdings()), book.settled) == ([], [])


async def test_who_is_over_a_rate_is_not_looked_up_in_the_budgets() -> None:
    book = Book()
    world = World(budgets=book)
    await world.spend(made(900, 0))
    with pytest.raises(OverRate):
        await world.spend()
    assert len(book.settled) == 1


async def test_a_cancellation_while_it_waits_for_the_budgets_gives_all_back() -> None:
    book = Book()
    book.waiting.clear()
    world = World(budgets=book)
    waiting = asyncio.create_task(world.spend())
    await asyncio.sleep(0)
    assert await world.left() == 700
    waiting.cancel()
    await asyncio.wait({waiting})
    assert await world.left() == 1_000
    assert (list(world.allowance.holdings()), book.settled) == ([], [])


@pytest.mark.parametrize("route", [Route.SHADOW, Route.PROBE])
async def test_what_nobody_asked_for_costs_nobody_anything(route: Route) -> None:
    book = Book()
    world = World(budgets=book)
    await world.spend(made(500, 500), route=route)
    assert await world.left() == 1_000
    assert book.settled == []


async def test_who_has_no_account_shares_one_scope_that_does_nothing() -> None:
    world = World(LimitsConfig(), Book())
    request = a_request()
    scope = world.allowance.of(request)
    assert world.allowance.of(request) is scope
    async with scope as spending:
        spending.saw(made(1, 1))
        assert list(world.allowance.holdings()) == []


async def test_an_account_that_is_not_limited_is_metered_only() -> None:
    book = Book()
    world = World(LimitsConfig(), book)
    await world.spend(made(5, 6))
    assert book.settled == [(Cost(prompt_tokens=5, completion_tokens=6), Outcome.OK)]
    free = World(LimitsConfig()).allowance
    assert free.of(asked()) is free.of(a_request())


async def test_who_has_no_accounts_has_no_budgets_though_its_tokens_are_limited() -> None:
    book = Book()
    world = World(LimitsConfig(tokens="1000/minute"), book)
    stranger = Caller(tenant="somebody")
    async with world.allowance.of(asked(caller=stranger)) as spending:
        assert not book.held
        spending.saw(made(20, 30))
    assert not book.settled
    assert await world.left(stranger) == 950


async def test_nothing_is_kept_of_a_request_that_is_over() -> None:
    world = World(budgets=Book())
    await world.spend(made(20, 30))
    async with world.allowance.of(asked()):
        assert len(world.allowance.inside) == 1
    assert not world.allowance.inside
    book = Book()
    book.refusing = True
    world.allowance.budgets = book
    with pytest.raises(OverBudget):
        await world.spend()
    assert not world.allowance.inside
    assert not world.allowance.permits
