"""Budgets and the ledger over a SQLite file and a real PostgreSQL: the same promises."""

from collections.abc import Iterator

import pytest
from sqlalchemy import update

from forebay.accounts.budgets import Books
from forebay.accounts.config import AccountsAway
from forebay.accounts.database import Database
from forebay.accounts.round import SWEEP_MAX, Round
from forebay.accounts.schema import BUDGETS
from forebay.accounts.spending import Charged, Granted, Period, Settlement, Unfit, Unit
from forebay.core.caller import Level
from tests.support.books import (
    ACME,
    ADA,
    KEY,
    MIDNIGHT,
    NOON,
    Sums,
    Wall,
    a_database,
    a_usage,
    an_ask,
    granted,
    named,
    refused,
    reserve,
    settle,
    sums,
)

DAY_S = 86_400


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    database = a_database(accounts_url)
    yield database
    database.close()


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def books(database: Database, wall: Wall) -> Books:
    return Books(database, clock=wall)


def test_what_is_reserved_is_held_until_it_is_settled(books: Books, database: Database) -> None:
    books.set_limit(named(), 100)
    reply = reserve(books, an_ask("a", 60))
    assert sums(database) == Sums(spent=0, reserved=60, held=60, used=0, rows=0)
    settle(books, "a", reply, 25)
    assert sums(database) == Sums(spent=25, reserved=0, held=0, used=25, rows=1)


def test_a_request_fits_up_to_the_limit_and_not_by_one_more(books: Books) -> None:
    books.set_limit(named(), 100)
    reserve(books, an_ask("a", 60))
    found = refused(reserve(books, an_ask("b", 41)))
    assert (found.of, found.limit, found.remaining, found.asked) == (ADA, 100, 40, 41)
    assert found.resets_in_s == MIDNIGHT - NOON
    granted(reserve(books, an_ask("c", 40)))


def test_all_budgets_of_a_request_are_held_or_none(books: Books, database: Database) -> None:
    books.set_limit(named(ADA), 1_000)
    books.set_limit(named(KEY), 1_000)
    books.set_limit(named(ACME, Unit.NANOS, Period.MONTH), 500)
    found = refused(reserve(books, an_ask("a", 10, KEY, ADA, ACME, nanos=501)))
    assert (found.of, found.unit) == (ACME, Unit.NANOS)
    assert sums(database) == Sums(spent=0, reserved=0, held=0, used=0, rows=0)
    reply = granted(reserve(books, an_ask("b", 10, KEY, ADA, ACME, nanos=500)))
    assert sorted(share.amount for share in reply.shares) == [10, 10, 500]
    assert reply.money


def test_whoever_has_no_budget_is_granted_without_holding(books: Books, database: Database) -> None:
    books.set_limit(named(ADA), 5)
    assert granted(reserve(books, an_ask("a", 10**12, KEY))).shares == ()
    assert sums(database).held == 0


def test_a_budget_without_limit_left_refuses_everything(books: Books) -> None:
    books.set_limit(named(), 0)
    refused(reserve(books, an_ask("a", 1)))


def test_settling_twice_changes_nothing(books: Books, database: Database) -> None:
    books.set_limit(named(), 100)
    reply = reserve(books, an_ask("a", 60))
    settle(books, "a", reply, 25)
    settle(books, "a", reply, 25)
    one = Settlement(id="a", shares=granted(reply).shares, usage=a_usage("a", 25))
    assert books.write((), [one, one]).rows == 0
    assert sums(database) == Sums(spent=25, reserved=0, held=0, used=25, rows=1)


def test_giving_back_twice_changes_nothing(books: Books, database: Database) -> None:
    books.set_limit(named(), 100)
    reserve(books, an_ask("other", 10))
    reply = reserve(books, an_ask("a", 60))
    settle(books, "a", reply, 0)
    settle(books, "a", reply, 0)
    assert sums(database) == Sums(spent=0, reserved=10, held=10, used=0, rows=0)


def test_two_requests_of_one_request_id_are_both_paid(books: Books, database: Database) -> None:
    books.set_limit(named(), 100)
    for id in ("a", "b"):
        settle(books, id, reserve(books, an_ask(id, 10)), 10, request_id="the same")
    assert sums(database).spent == 20


def test_one_batch_settles_before_it_reserves(books: Books) -> None:
    books.set_limit(named(), 100)
    reply = granted(reserve(books, an_ask("a", 100)))
    back = Settlement(id="a", shares=reply.shares, usage=a_usage("a", 30))
    written = books.write([an_ask("b", 71), an_ask("c", 70), an_ask("d", 1)], [back])
    assert [isinstance(each, Granted) for each in written.replies] == [False, True, False]


def test_an_engine_that_makes_more_than_was_reserved_is_charged_and_counted(
    books: Books, database: Database
) -> None:
    books.set_limit(named(), 100)
    reply = granted(reserve(books, an_ask("a", 60)))
    more = Settlement(id="a", shares=reply.shares, usage=a_usage("a", 130))
    assert books.write((), [more]).overruns == 1
    assert sums(database).spent == 130
    assert refused(reserve(books, an_ask("b", 1))).remaining == 0


def test_what_a_dead_gateway_left_is_given_back_to_whoever_finds_the_budget_full(
    books: Books, database: Database, wall: Wall
) -> None:
    books.set_limit(named(), 100)
    reserve(books, an_ask("dead", 100, lasts_s=60))
    wall.at += 59
    refused(reserve(books, an_ask("a", 1)))
    wall.at += 1
    granted(reserve(books, an_ask("b", 100)))
    assert sums(database) == Sums(spent=0, reserved=100, held=100, used=0, rows=0)


def test_a_sweep_gives_back_what_has_expired_and_no_more(
    books: Books, database: Database, wall: Wall
) -> None:
    books.set_limit(named(), 100)
    books.set_limit(named(ACME), 100)
    reserve(books, an_ask("dead", 30, ADA, ACME, lasts_s=60))
    reserve(books, an_ask("alive", 20, ADA, ACME, lasts_s=61))
    assert books.sweep() == 0
    wall.at += 60
    assert books.sweep() == 2
    assert books.sweep() == 0
    assert sums(database) == Sums(spent=0, reserved=40, held=40, used=0, rows=0)


def test_a_sweep_is_bounded(books: Books, database: Database, wall: Wall) -> None:
    books.set_limit(named(), 10_000)
    books.write([an_ask(f"dead-{index}", 1, lasts_s=1) for index in range(SWEEP_MAX + 5)])
    wall.at += 1
    assert (books.sweep(), books.sweep(), books.sweep()) == (SWEEP_MAX, 5, 0)
    assert sums(database).reserved == 0


def test_what_is_settled_after_its_reservation_expired_is_charged_all_the_same(
    books: Books, database: Database, wall: Wall
) -> None:
    books.set_limit(named(), 100)
    reply = granted(reserve(books, an_ask("slow", 100, lasts_s=60)))
    wall.at += 60
    books.sweep()
    late = Settlement(id="slow", shares=reply.shares, usage=a_usage("slow", 80))
    assert books.write((), [late]).late == 1
    assert sums(database) == Sums(spent=80, reserved=0, held=0, used=80, rows=1)


def test_what_is_settled_as_it_expires_is_given_back_once(
    books: Books, database: Database, wall: Wall
) -> None:
    books.set_limit(named(), 100)
    reply = granted(reserve(books, an_ask("slow", 60, lasts_s=60)))
    reserve(books, an_ask("other", 40))
    wall.at += 60
    late = Settlement(id="slow", shares=reply.shares, usage=a_usage("slow", 50))
    (answer,) = books.write([an_ask("next", 11)], [late]).replies
    assert refused(answer).remaining == 10
    assert sums(database) == Sums(spent=50, reserved=40, held=40, used=50, rows=1)


def test_a_new_day_begins_with_nothing_spent(books: Books, database: Database, wall: Wall) -> None:
    books.set_limit(named(), 100)
    settle(books, "a", reserve(books, an_ask("a", 100)), 100)
    refused(reserve(books, an_ask("b", 1)))
    wall.at = MIDNIGHT
    granted(reserve(books, an_ask("c", 100)))
    assert sums(database).spent == 0


def test_a_request_over_midnight_counts_on_the_day_on_which_it_was_begun(
    books: Books, database: Database, wall: Wall
) -> None:
    books.set_limit(named(), 100)
    books.set_limit(named(period=Period.MONTH), 1_000)
    wall.at = MIDNIGHT - 1
    reply = reserve(books, an_ask("a", 100))
    wall.at = MIDNIGHT + 1
    granted(reserve(books, an_ask("b", 100)))
    settle(books, "a", reply, 70)
    by_period = {each.period: each for each in books.find([ADA])}
    assert (by_period[Period.DAY].spent, by_period[Period.DAY].reserved) == (0, 100)
    assert (by_period[Period.MONTH].spent, by_period[Period.MONTH].reserved) == (70, 100)


def test_a_gateway_whose_clock_is_behind_opens_no_old_window(books: Books, wall: Wall) -> None:
    books.set_limit(named(), 100)
    wall.at = MIDNIGHT
    settle(books, "a", reserve(books, an_ask("a", 90)), 90)
    wall.at = NOON
    assert refused(reserve(books, an_ask("b", 11))).remaining == 10


def test_a_budget_that_is_set_late_counts_what_its_window_has_used(
    books: Books, wall: Wall
) -> None:
    yesterday = a_usage("old", 1_000, at=MIDNIGHT - DAY_S - 1)
    today = a_usage("a", 30, at=NOON, nanos=700)
    other = a_usage("b", 5, user="grace")
    books.write((), [Settlement(id=each.id, usage=each) for each in (yesterday, today, other)])
    assert books.set_limit(named(), 100).spent == 30
    assert books.set_limit(named(ADA, Unit.NANOS), 100).spent == 700
    assert books.set_limit(named(ACME, period=Period.MONTH), 100).spent == 1_035
    assert books.set_limit(named(KEY), 100).spent == 35


def test_a_limit_that_is_changed_keeps_what_is_spent_and_held(books: Books) -> None:
    books.set_limit(named(), 100)
    reply = reserve(books, an_ask("a", 60))
    raised = books.set_limit(named(), 200)
    assert (raised.limit, raised.reserved, raised.remaining) == (200, 60, 140)
    assert books.set_limit(named(), 10).remaining == 0
    settle(books, "a", reply, 50)
    assert [(each.spent, each.reserved) for each in books.find()] == [(50, 0)]


def test_a_removed_budget_holds_nobody_back(books: Books, database: Database) -> None:
    books.set_limit(named(), 100)
    reply = reserve(books, an_ask("a", 60))
    assert books.remove(named())
    assert not books.remove(named())
    settle(books, "a", reply, 50)
    assert granted(reserve(books, an_ask("b", 10**9))).shares == ()
    assert sums(database) == Sums(spent=0, reserved=0, held=0, used=50, rows=1)


def test_a_budget_that_is_set_anew_is_not_changed_by_what_the_old_one_held(books: Books) -> None:
    books.set_limit(named(), 100)
    reply = reserve(books, an_ask("a", 60))
    books.remove(named())
    books.set_limit(named(), 100)
    settle(books, "a", reply, 50)
    assert [(each.spent, each.reserved) for each in books.find()] == [(0, 0)]
    assert books.sweep() == 0


def test_what_could_not_be_reserved_is_charged_over_the_limit(
    books: Books, database: Database
) -> None:
    books.set_limit(named(), 10)
    made = Settlement(id="a", unreserved=(ADA, ACME), usage=a_usage("a", 25))
    books.write((), [made])
    books.write((), [made])
    assert sums(database) == Sums(spent=25, reserved=0, held=0, used=25, rows=1)


def test_a_reservation_that_nobody_heard_of_is_given_back_by_its_id(
    books: Books, database: Database
) -> None:
    books.set_limit(named(), 100)
    reserve(books, an_ask("unheard", 60))
    books.write((), [Settlement(id="unheard", unreserved=(ADA,))])
    books.write((), [Settlement(id="never made", unreserved=(ADA,))])
    assert sums(database) == Sums(spent=0, reserved=0, held=0, used=0, rows=0)


def test_budgets_are_found_by_whose_they_are_as_they_are_now(books: Books, wall: Wall) -> None:
    books.set_limit(named(ADA), 100)
    books.set_limit(named(ACME), 100)
    books.set_limit(named(Charged(level=Level.USER, account="acme")), 100)
    settle(books, "a", reserve(books, an_ask("a", 10)), 10)
    assert [(each.of, each.spent) for each in books.find([ADA])] == [(ADA, 10)]
    assert books.find([KEY]) == []
    assert len(books.find()) == 3
    wall.at = MIDNIGHT
    assert [(each.spent, each.resets_at) for each in books.find([ADA])] == [(0, MIDNIGHT + DAY_S)]


def test_names_are_data_and_never_sql(books: Books) -> None:
    odd = Charged(level=Level.USER, account="a' OR '1'='1' -- \"; DROP TABLE budgets")
    books.set_limit(named(odd), 5)
    refused(reserve(books, an_ask("a", 6, odd)))
    assert granted(reserve(books, an_ask("b", 6, ADA))).shares == ()


def test_one_row_that_cannot_be_written_leaves_nothing_of_its_batch(
    books: Books, database: Database
) -> None:
    books.set_limit(named(), 100)
    good, bad = a_usage("a", 5), a_usage("b", 2**63)
    with pytest.raises(Unfit):
        books.write([an_ask("c", 5)], [Settlement(id=each.id, usage=each) for each in (good, bad)])
    assert sums(database) == Sums(spent=0, reserved=0, held=0, used=0, rows=0)


def test_old_rows_are_deleted_a_few_at_a_time(books: Books, database: Database) -> None:
    rows = [a_usage(f"old-{index}", 1, at=NOON - 11 * DAY_S) for index in range(5)]
    rows.append(a_usage("young", 1, at=NOON - 10 * DAY_S))
    books.write((), [Settlement(id=each.id, usage=each) for each in rows])
    assert [books.prune(10 * DAY_S, 3) for _ in range(3)] == [3, 2, 0]
    assert sums(database).rows == 1


def test_budgets_change_only_as_they_were_read(books: Books, database: Database) -> None:
    """Were the lock ever missing, a write between reading and writing must not be overwritten."""
    budget = books.set_limit(named(), 100)
    with database.writing() as connection:
        turn = Round(connection, NOON)
        turn.lock({ADA}, set())
        turn.reserve(an_ask("a", 10))
        connection.execute(update(BUDGETS).where(BUDGETS.c.id == budget.id).values(spent=95))
        with pytest.raises(AccountsAway):
            turn.store()


def test_what_was_begun_unreserved_before_midnight_is_not_charged_to_the_day_after(
    books: Books, database: Database, wall: Wall
) -> None:
    books.set_limit(named(), 100)
    for id, began, spent in (("a", MIDNIGHT - 10, 0), ("b", MIDNIGHT + 1, 25)):
        wall.at = MIDNIGHT + 10
        usage = a_usage(id, 25, at=began)
        books.write(settlements=[Settlement(id=id, unreserved=(ADA,), usage=usage)])
        (budget,) = books.find()
        assert budget.spent == spent
    assert sums(database).rows == 2


def test_a_late_budget_counts_prompts_and_answers_from_the_first_second_of_its_window_on(
    books: Books,
) -> None:
    day = MIDNIGHT - DAY_S
    for id, at in (("before", day - 1), ("first", day)):
        usage = a_usage(id, 20, prompt_tokens=5, at=at)
        books.write(settlements=[Settlement(id=id, usage=usage)])
    assert books.set_limit(named(), 100).spent == 25


def test_of_two_budgets_of_an_account_the_one_that_is_named_is_removed(books: Books) -> None:
    for period in Period:
        books.set_limit(named(period=period), 100)
    for period in reversed(Period):
        assert books.remove(named(period=period))
        assert not books.remove(named(period=period))
        assert all(each.period is not period for each in books.find())
    assert books.find() == []
