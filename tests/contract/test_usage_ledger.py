"""Totals of the ledger over a SQLite file and a real PostgreSQL."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from forebay.accounts.budgets import Books
from forebay.accounts.database import Database
from forebay.accounts.spending import Settlement, Usage
from forebay.accounts.usage import UsageLedger
from forebay.accounts.usage_report import By, Question
from tests.support.books import a_database, a_usage


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


ROWS = [
    a_usage("1", 10, at=at("2026-10-31T23:59:59"), model="chat", prompt_tokens=1, nanos=100),
    a_usage("2", 20, at=at("2026-11-01T00:00:00"), model="chat", prompt_tokens=2, nanos=200),
    a_usage("3", 30, at=at("2026-11-01T00:59:59"), model="code", user="grace", key_id="k2"),
    a_usage("4", 40, at=at("2026-11-01T01:00:00"), model="code", nanos=2**40),
    a_usage("5", 50, at=at("2026-11-02T12:00:00"), tenant="other", user="zoe", key_id=""),
]
ALL: dict[str, Any] = {"since": at("2026-10-01"), "until": at("2026-12-01")}


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    database = a_database(accounts_url)
    yield database
    database.close()


@pytest.fixture
def ledger(database: Database) -> UsageLedger:
    write(database, ROWS)
    return UsageLedger(database)


def write(database: Database, rows: list[Usage]) -> None:
    Books(database).write((), [Settlement(id=each.id, usage=each) for each in rows])


def completions(ledger: UsageLedger, question: Question) -> list[tuple[tuple[str, ...], int]]:
    return [(each.of, each.completion_tokens) for each in ledger.totals(question).totals]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (By.MONTH, [("2026-10", 10), ("2026-11", 140)]),
        (By.DAY, [("2026-10-31", 10), ("2026-11-01", 90), ("2026-11-02", 50)]),
        (
            By.HOUR,
            [
                ("2026-10-31T23:00Z", 10),
                ("2026-11-01T00:00Z", 50),
                ("2026-11-01T01:00Z", 40),
                ("2026-11-02T12:00Z", 50),
            ],
        ),
        (By.MODEL, [("chat", 80), ("code", 70)]),
        (By.USER, [("ada", 70), ("grace", 30), ("zoe", 50)]),
        (By.KEY, [("", 50), ("k1", 70), ("k2", 30)]),
        (By.TENANT, [("acme", 100), ("other", 50)]),
    ],
)
def test_totals_are_kept_apart_by_time_and_by_name(
    ledger: UsageLedger, by: By, expected: list[tuple[str, int]]
) -> None:
    found = completions(ledger, Question(**ALL, by=(by,)))
    assert found == [((word,), tokens) for word, tokens in expected]


def test_totals_add_up_everything_exactly(ledger: UsageLedger) -> None:
    (acme, _) = ledger.totals(Question(**ALL, by=(By.TENANT,))).totals
    assert (acme.requests, acme.prompt_tokens) == (4, 3)
    assert (acme.completion_tokens, acme.nanos) == (100, 300 + 2**40)


def test_totals_are_kept_apart_by_several_at_once(ledger: UsageLedger) -> None:
    found = completions(ledger, Question(**ALL, by=(By.MONTH, By.MODEL), tenant="acme"))
    assert found == [
        (("2026-10", "chat"), 10),
        (("2026-11", "chat"), 20),
        (("2026-11", "code"), 70),
    ]


def test_a_range_has_its_beginning_and_not_its_end(ledger: UsageLedger) -> None:
    first, last = at("2026-11-01T00:00:00"), at("2026-11-01T01:00:00")
    found = completions(ledger, Question(since=first, until=last, by=(By.DAY,)))
    assert found == [(("2026-11-01",), 50)]


def test_only_the_usage_of_those_who_are_named_is_read(ledger: UsageLedger) -> None:
    assert completions(ledger, Question(**ALL, by=(By.USER,), key="k2")) == [(("grace",), 30)]
    assert completions(ledger, Question(**ALL, by=(By.USER,), tenant="other", user="ada")) == []
    assert completions(ledger, Question(**ALL, by=(By.USER,), user="' OR 1=1 --")) == []


def test_pages_follow_each_other_without_gap_or_overlap(ledger: UsageLedger) -> None:
    pages = [
        ledger.totals(Question(**ALL, by=(By.HOUR,), rows_max=3, offset=offset))
        for offset in (0, 3)
    ]
    assert [page.more for page in pages] == [True, False]
    assert [len(page.totals) for page in pages] == [3, 1]
    assert len({total.of for page in pages for total in page.totals}) == 4


def test_a_ledger_in_which_nothing_stands_has_no_totals(database: Database) -> None:
    page = UsageLedger(database).totals(Question(**ALL))
    assert (page.totals, page.more) == ((), False)
