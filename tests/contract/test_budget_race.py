"""Many spend from one budget at once, in threads and in processes; some are killed."""

import random
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from forebay.accounts.budgets import Books
from forebay.accounts.config import SQLITE
from forebay.accounts.database import Database
from forebay.accounts.spending import Period, Unit
from tests.support.books import (
    ACME,
    ADA,
    NOON,
    Spender,
    SpendingProcess,
    Wall,
    a_database,
    named,
    run_all,
    sums,
)

AMOUNT = 7
LIMIT = 1_200
"""No multiple of the amount: a rest remains, less than one request."""
SEEDS = (1, 2, 3)


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    database = a_database(accounts_url, connections_max=24)
    yield database
    database.close()


def check_used_up(database: Database, limit: int = LIMIT) -> None:
    """Overspent by exactly 0, and used up to within one request."""
    found = sums(database)
    assert found.spent <= limit
    assert found.spent > limit - AMOUNT
    assert found.spent == found.used
    assert found.reserved == found.held == 0


def test_a_hundred_spenders_at_once_use_a_budget_up_and_no_more(database: Database) -> None:
    books = Books(database, clock=Wall())
    books.set_limit(named(), LIMIT)
    spent = run_all([Spender(books, seed, ADA) for seed in range(100)], AMOUNT)
    check_used_up(database)
    assert spent == sums(database).spent


def test_a_hundred_spenders_in_four_processes_use_a_budget_up_and_no_more(
    accounts_url: str, database: Database
) -> None:
    Books(database, clock=Wall()).set_limit(named(), LIMIT)
    with ExitStack() as stack:
        four = [
            stack.enter_context(SpendingProcess(accounts_url, seed, threads=25, amount=AMOUNT))
            for seed in range(4)
        ]
        for each in four:
            each.go()
        assert [each.end() for each in four] == [0, 0, 0, 0]
        assert sum(each.spent for each in four) == sums(database).spent
    check_used_up(database)


def test_budgets_that_are_asked_in_any_order_hold_no_one_up(database: Database) -> None:
    books = Books(database, clock=Wall())
    books.set_limit(named(ADA), 600)
    books.set_limit(named(ADA, Unit.TOKENS, Period.MONTH), 100_000)
    books.set_limit(named(ACME), 100_000)
    orders = [(ADA, ACME), (ACME, ADA)]
    run_all([Spender(books, seed, *orders[seed % 2]) for seed in range(20)], AMOUNT)
    assert [each.spent for each in books.find()] == [595, 595, 595]


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_gateways_leave_sums_that_are_right_once_their_reservations_expire(
    accounts_url: str, database: Database, seed: int
) -> None:
    dice = random.Random(seed)
    Books(database, clock=Wall()).set_limit(named(), LIMIT)
    with ExitStack() as stack:
        three = [
            stack.enter_context(SpendingProcess(accounts_url, number, threads=6, amount=AMOUNT))
            for number in range(seed * 10, seed * 10 + 3)
        ]
        for each in three:
            each.go(wastefully=True)
        for each in three[:2]:
            each.read(dice.randrange(1, 8))
            each.process.send_signal(signal.SIGKILL)
        # The second may have used the budget up before it was its turn to be killed.
        first, second, third = (each.end() for each in three)
        assert (first, third) == (-signal.SIGKILL, 0)
        assert second in {-signal.SIGKILL, 0}
        told = sum(each.spent for each in three)
    after = sums(database)
    assert after.spent + after.held <= LIMIT
    assert after.reserved == after.held
    assert after.used == after.spent
    assert told <= after.spent, "what was acknowledged is there"
    later = Books(database, clock=Wall(NOON + 601))
    later.sweep()
    assert (sums(database).reserved, sums(database).held) == (0, 0)
    assert sums(database).spent == after.spent
    run_all([Spender(later, seed, ADA)], AMOUNT)
    check_used_up(database)
    if accounts_url.startswith(SQLITE):
        check_integrity(accounts_url)


def check_integrity(url: str) -> None:
    with closing(sqlite3.connect(url.removeprefix(SQLITE))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
