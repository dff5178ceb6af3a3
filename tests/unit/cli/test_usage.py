import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.accounts.audit import Audit
from forebay.accounts.budgets import Books
from forebay.accounts.config import default_url
from forebay.accounts.database import Database
from forebay.accounts.spending import Settlement
from forebay.cli.usage import commands
from forebay.settings.sources import PREFIX
from tests.support.books import NOON, a_database, a_usage
from tests.tidy.source import read

Typed = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    def run(*arguments: str) -> tuple[int, str]:
        database = ("--set", f"accounts.url={default_url(tmp_path)}")
        told = CliRunner().invoke(commands, [*arguments, *database])
        assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
        return told.exit_code, told.output

    return run


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return a_database(default_url(tmp_path))


def write(database: Database) -> None:
    rows = [
        a_usage("1", 10, at=NOON, prompt_tokens=3, nanos=150_000),
        a_usage("2", 20_000, at=NOON, model="code", user="grace"),
    ]
    Books(database).write((), [Settlement(id=each.id, usage=each) for each in rows])


def test_a_budget_is_set_listed_and_removed(typed: Typed) -> None:
    status, words = typed("budgets", "set", "user:ada", "500_000", "--per", "day")
    assert status == 0
    assert "The user ada may spend 500,000 tokens per day." in words
    status, words = typed("budgets", "set", "tenant:acme", "25.50", "--money")
    assert "The tenant acme may spend 25.50 USD per month." in words
    _, listed = typed("budgets", "list")
    assert [line.split()[:5] for line in listed.splitlines()[1:]] == [
        ["tenant:acme", "month", "USD", "25.50", "0.00"],
        ["user:ada", "day", "tokens", "500,000", "0"],
    ]
    assert typed("budgets", "remove", "user:ada", "--per", "day")[0] == 0
    status, words = typed("budgets", "remove", "user:ada", "--per", "day")
    assert (status, "has no budget in tokens per day" in words) == (1, True)
    found = json.loads(typed("budgets", "list", "--json")[1])
    assert [(each["account"], each["limit"]) for each in found] == [("acme", "25.50")]


def test_whoever_sets_a_budget_is_written_down(typed: Typed, database: Database) -> None:
    typed("budgets", "set", "user:ada", "5")
    typed("budgets", "remove", "user:ada")
    found = [(each.action, each.target) for each in Audit(database).page(count=10)]
    assert sorted(found) == [("budget.removed", "user:ada"), ("budget.set", "user:ada")]


def test_a_budget_of_somebody_unknown_is_set_and_said(typed: Typed) -> None:
    assert "There is no user adaa yet." in typed("budgets", "set", "user:adaa", "5")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("user:ada", "12.5"),
            'of tokens (for money: --money, or "unit": "money"); found \'12.5\'',
        ),
        (("user:ada", "9" * 19), "a whole number of tokens"),
        (("user:ada", "0" * 20 + "9" * 30), "a whole number of tokens"),
        (("user:ada", "five", "--money"), "a decimal number such as 25.50"),
        (("ada", "5"), "user:NAME, tenant:NAME or key:ID; found 'ada'"),
        (("group:ada", "5"), "user:NAME, tenant:NAME or key:ID"),
        (("user:", "5"), "user:NAME, tenant:NAME or key:ID"),
        (("user:a\nb", "5"), "user:NAME, tenant:NAME or key:ID"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_with_what_is_taken(
    typed: Typed, arguments: tuple[str, ...], words: str
) -> None:
    status, told = typed("budgets", "set", *arguments)
    assert (status, words in " ".join(told.split())) == (2, True), told


def test_usage_is_told_as_a_table(typed: Typed, database: Database) -> None:
    write(database)
    _, told = typed("usage", "--from", "2026-11-01", "--to", "2026-12-01", "--by", "user")
    assert [line.split() for line in told.splitlines()[1:]] == [
        ["ada", "1", "3", "10", "0.00015", "USD"],
        ["grace", "1", "0", "20,000", "0.00", "USD"],
    ]


def test_usage_is_written_as_csv_and_all_of_it(
    typed: Typed, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.cli.usage.ROWS_MAX", 1)
    write(database)
    _, told = typed("usage", "--csv", "--from", "2026-11-01", "--to", "2026-12-01", "--by", "model")
    assert list(csv.reader(io.StringIO(told))) == [
        ["model", "requests", "prompt_tokens", "completion_tokens", "cost", "currency"],
        ["chat", "1", "3", "10", "0.00015", "USD"],
        ["code", "1", "0", "20000", "0.00", "USD"],
    ]


def test_usage_of_one_is_not_that_of_others(typed: Typed, database: Database) -> None:
    write(database)
    for option, name, rows in (("--user", "grace", 1), ("--tenant", "acme", 1), ("--key", "x", 0)):
        told = typed("usage", "--csv", "--from", "2026-11-01", "--to", "2026-12-01", option, name)
        assert len(told[1].splitlines()) == 1 + rows


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "yesterday"), "--from: expected a day such as 2026-11-21"),
        (("--by", "week"), "--by: expected one to 3 of hour, day"),
        (("--from", "2026-11-02", "--to", "2026-11-01"), "--from must be earlier than --to"),
    ],
)
def test_usage_that_cannot_be_told_is_refused(
    typed: Typed, arguments: tuple[str, ...], words: str
) -> None:
    status, told = typed("usage", *arguments)
    assert (status, words in " ".join(told.split())) == (2, True), told


def test_a_database_that_is_away_is_said(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "accounts.sqlite").mkdir()
    status, told = typed("usage")
    assert (status, "cannot be asked. Check accounts.url" in " ".join(told.split())) == (1, True)


@pytest.mark.parametrize(
    "command",
    [
        "forebay budgets set user:ada 500_000 --per day",
        "forebay budgets set tenant:acme 25.50 --money",
        "forebay budgets list",
        "forebay usage --csv --by day,model",
    ],
)
def test_the_documented_commands_are_understood(typed: Typed, command: str) -> None:
    assert command in read("docs/budgets.md")
    assert typed(*command.split()[1:])[0] == 0


def test_the_documented_removal_is_understood(typed: Typed) -> None:
    typed("budgets", "set", "user:ada", "500_000", "--per", "day")
    command = "forebay budgets remove user:ada --per day"
    assert command in read("docs/budgets.md")
    assert typed(*command.split()[1:])[0] == 0
