"""Bookkeepers over real databases: several share one, callers leave, servers crash."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from forebay.accounts.budgets import Books
from forebay.accounts.database import Database
from forebay.accounts.prices import Price, Prices
from forebay.accounts.spending import Period, Unit
from forebay.core.caller import Account, Caller
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Outcome, OverBudget, Overloaded
from forebay.serve.allowance import Cost
from forebay.serve.bookkeeping import Bookkeeper, BudgetsConfig
from tests.support.books import ACME, ADA, Wall, a_database, named, sums
from tests.support.postgres import PostgresServer
from tests.support.redis import Said
from tests.support.requests import a_request

WAIT_S = 30.0
CONFIG = BudgetsConfig(answer_s_max=WAIT_S, closing_s=WAIT_S, flush_s=0.01)
PRICES = Prices(by_model={"m": Price(prompt=1, completion=2)})
MOST = Cost(prompt_tokens=3, completion_tokens=4)


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    database = a_database(accounts_url)
    yield database
    database.close()


@asynccontextmanager
async def keepers(database: Database, count: int = 1) -> AsyncIterator[list[Bookkeeper]]:
    """Run bookkeepers, as gateways do; they are closed, and have written all, at the end."""
    found = [
        Bookkeeper(
            Books(database, clock=Wall()),
            PRICES,
            config=CONFIG,
            now=MONOTONIC,
            log=Said(),
            wall=Wall(),
        )
        for _ in range(count)
    ]
    for each in found:
        each.open()
    yield found
    for each in found:
        await each.close()


def a_caller(*, budgeted: bool = True) -> Caller:
    accounts = tuple(
        Account(level=each.level, id=each.account, budgeted=budgeted) for each in (ADA, ACME)
    )
    return Caller(tenant="acme", user="ada", accounts=accounts)


async def spend(keeper: Bookkeeper, spent: Cost, pause: Callable[[], int]) -> bool:
    """Make one request; False: it was over its budget."""
    request = a_request(caller=a_caller(), tenant="acme", deadline=MONOTONIC() + 60)
    try:
        reserved = await keeper.reserve(request, MOST)
    except OverBudget:
        return False
    outcome = Outcome.CANCELLED
    try:
        for _ in range(pause()):
            await asyncio.sleep(0)
        outcome = Outcome.OK
    finally:
        keeper.settle(reserved, spent, outcome=outcome)
    return True


async def test_bookkeepers_of_one_database_use_a_budget_up_and_no_more(database: Database) -> None:
    Books(database, clock=Wall()).set_limit(named(), 1_000)

    async def spender(keeper: Bookkeeper) -> None:
        while await spend(keeper, MOST, lambda: 1):
            pass

    async with keepers(database, 3) as three:
        await asyncio.gather(*(spender(three[index % 3]) for index in range(100)))
    found = sums(database)
    assert 1_000 - 7 < found.spent <= 1_000
    assert (found.reserved, found.held, found.used) == (0, 0, found.spent)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_whoever_leaves_whenever_the_books_balance(database: Database, seed: int) -> None:
    dice = random.Random(seed)
    books = Books(database, clock=Wall())
    books.set_limit(named(), 900)
    books.set_limit(named(ACME, Unit.NANOS, Period.MONTH), 10_000)
    async with keepers(database, 2) as two:
        tasks = []
        for _ in range(200):
            spent = Cost(prompt_tokens=dice.randrange(4), completion_tokens=dice.randrange(5))
            one = spend(dice.choice(two), spent, lambda: dice.randrange(30))
            tasks.append(asyncio.create_task(one))
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            dice.choice(tasks).cancel()
        await asyncio.wait(tasks)
        assert all(not list(each.holdings()) for each in two)
    assert all(task.cancelled() or task.exception() is None for task in tasks)
    by_unit = {each.unit: each for each in books.find()}
    assert by_unit[Unit.TOKENS].spent == sums(database).used <= 900
    assert [each.reserved for each in by_unit.values()] == [0, 0]
    assert sums(database).held == 0


async def test_a_postgresql_that_crashes_refuses_callers_with_budgets_and_loses_no_rows(
    postgres: PostgresServer,
) -> None:
    database = a_database(postgres.new_database())
    Books(database, clock=Wall()).set_limit(named(), 1_000)
    caller = a_caller(budgeted=False)
    rich = a_request(caller=caller, tenant="acme", deadline=MONOTONIC() + 60)
    async with keepers(database) as (keeper,):
        assert await spend(keeper, MOST, lambda: 0)
        postgres.crash()
        try:
            with pytest.raises(Overloaded):
                await spend(keeper, MOST, lambda: 0)
            keeper.settle(await keeper.reserve(rich, MOST), MOST, outcome=Outcome.OK)
        finally:
            postgres.start()
    found = sums(database)
    assert (found.rows, found.spent, found.reserved, found.held) == (2, 7, 0, 0)
    database.close()
