"""`forebay usage` and `forebay budgets`: on the accounts database itself; the server need not run.

One that does holds callers to a budget that is new at the latest after `access.cached_s`.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from forebay.accounts.audit_event import Action
from forebay.accounts.prices import parse_money, shown_money
from forebay.accounts.spending import (
    AMOUNT_MAX,
    LIST_MAX,
    Budget,
    BudgetName,
    Charged,
    Period,
    Unit,
)
from forebay.accounts.usage_report import (
    ROWS_MAX,
    Page,
    Question,
    as_csv,
    month_start,
    parse_by,
    parse_moment,
    shown_moment,
)
from forebay.cli.loading import USAGE, Assignments, ConfigFile, fail
from forebay.cli.opening import Book, opened
from forebay.core.caller import Level

if TYPE_CHECKING:
    from forebay.accounts.budgets import Books
    from forebay.accounts.database import Database

Read = TypeVar("Read")

commands = typer.Typer()
budgets = typer.Typer(no_args_is_help=True, help="How much users, keys and tenants may spend.")
commands.add_typer(budgets, name="budgets")

_NAME_CHARACTERS_MAX: Final = 256
_PIPE_COLUMNS: Final = 240

Of = Annotated[
    str,
    typer.Argument(metavar="LEVEL:NAME", help="Whose: user:NAME, tenant:NAME or key:ID."),
]
Per = Annotated[Period, typer.Option("--per", help="A day or a month of the UTC calendar.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@commands.command()
def usage(  # noqa: PLR0913 - a command's options are its parameters
    *,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Of one user.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Of one tenant.")] = None,
    key: Annotated[str | None, typer.Option(metavar="ID", help="Of one key.")] = None,
    by: Annotated[
        str,
        typer.Option(
            metavar="WORDS",
            help="Totals per hour, day, month, model, key, user or tenant; several by commas.",
        ),
    ] = "day",
    since: Annotated[
        str, typer.Option("--from", metavar="MOMENT", help="Default: where this month began.")
    ] = "",
    until: Annotated[str, typer.Option("--to", metavar="MOMENT", help="Default: now.")] = "",
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, every row.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Tell what was used: requests, tokens and money."""
    now = int(time.time())
    question = Question(
        since=_read("--from", since, parse_moment) if since else month_start(now),
        until=_read("--to", until, parse_moment) if until else now + 1,
        by=_read("--by", by, parse_by),
        tenant=tenant,
        user=user,
        key=key,
        rows_max=ROWS_MAX,
    )
    if question.since >= question.until:
        fail("--from must be earlier than --to.", status=USAGE)
    with opened(config, assignments) as book:
        page = _all(book.database, question)
    currency = book.settings.budgets.currency
    if csv:
        typer.echo(as_csv(question.by, page.totals, currency), nl=False)
    else:
        _print_totals(question, page, currency)


@budgets.command("set")
def set_budget(  # noqa: PLR0913 - a command's options are its parameters
    of: Of,
    limit: Annotated[
        str,
        typer.Argument(
            metavar="AMOUNT", help="Tokens, as in 500000; or money with --money, as in 25.50."
        ),
    ],
    per: Per = Period.MONTH,
    *,
    money: Annotated[bool, typer.Option("--money", help="The amount is money.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Set a budget, or change one; what was used since its day or month began counts."""
    unit = Unit.NANOS if money else Unit.TOKENS
    name = BudgetName(of=_charged(of), unit=unit, period=per)
    amount = _read("AMOUNT", limit, parse_money if money else _parse_tokens)
    with opened(config, assignments) as book:
        books = _books(book.database)
        if not books.is_known(name.of):
            typer.echo(f"There is no {name.of.level} {name.of.account} yet.", err=True)
        budget = books.set_limit(name, amount)
        _note(book, Action.BUDGET_SET, budget.name, limit=budget.limit)
    of_what = book.settings.budgets.currency if money else "tokens"
    shown, spent, left = (
        f"{_amount(each, unit)} {of_what}" for each in (amount, budget.spent, budget.remaining)
    )
    typer.echo(f"The {name.of.level} {name.of.account} may spend {shown} per {per}.")
    typer.echo(f"Of this {per}'s, {spent} are spent and {left} are left.")


@budgets.command("list")
def list_budgets(
    *, as_json: AsJson = False, config: ConfigFile = None, assignments: Assignments = None
) -> None:
    """List budgets, and what is left of them."""
    with opened(config, assignments) as book:
        found = _books(book.database).find()
    currency = book.settings.budgets.currency
    if len(found) == LIST_MAX:
        typer.echo(f"These are the first {LIST_MAX}; there may be more.", err=True)
    if as_json:
        typer.echo(json.dumps([_json(each) for each in found], indent=2))
        return
    head = ("whose", "per", "in", "limit", "spent", "reserved", "left", "begins anew")
    rows = []
    for each in found:
        unit = "tokens" if each.unit is Unit.TOKENS else currency
        of = (f"{each.of.level}:{each.of.account}", each.period.value, unit)
        amounts = (each.limit, each.spent, each.reserved, each.remaining)
        shown = (_amount(amount, each.unit) for amount in amounts)
        rows.append((*of, *shown, shown_moment(each.resets_at)[:10]))
    _table(head, rows, left=3)


@budgets.command("remove")
def remove_budget(
    of: Of,
    per: Per = Period.MONTH,
    *,
    money: Annotated[bool, typer.Option("--money", help="The budget in money.")] = False,
    config: ConfigFile = None,
    assignments: Assignments = None,
) -> None:
    """Remove a budget; nobody is held to it any more."""
    unit = Unit.NANOS if money else Unit.TOKENS
    name = BudgetName(of=_charged(of), unit=unit, period=per)
    with opened(config, assignments) as book:
        if not _books(book.database).remove(name):
            kind = "in money" if money else "in tokens"
            fail(f"{of[:80]} has no budget {kind} per {per}; see: forebay budgets list")
        _note(book, Action.BUDGET_REMOVED, name)
    typer.echo(f"The {name.of.level} {name.of.account} has no budget of that kind any more.")


def _books(database: "Database") -> "Books":
    from forebay.accounts.budgets import Books  # noqa: PLC0415 - see main

    return Books(database)


def _all(database: "Database", question: Question) -> Page:
    """Return every total, page after page."""
    from forebay.accounts.usage import UsageLedger  # noqa: PLC0415 - see main

    ledger, page = UsageLedger(database), Page(totals=(), more=True)
    while page.more:
        found = ledger.totals(replace(question, offset=len(page.totals)))
        page = Page(totals=(*page.totals, *found.totals), more=found.more)
    return page


def _note(book: Book, action: Action, name: BudgetName, **details: int) -> None:
    """Write a line of the audit log."""
    target = f"{name.of.level}:{name.of.account}"
    book.note(action, target, unit=name.unit.value, period=name.period.value, **details)


def _read(option: str, text: str, parse: Callable[[str], Read]) -> Read:
    try:
        return parse(text)
    except ValueError as error:
        fail(f"{option}: {error}; found {text[:40]!r}.", status=USAGE)


def _parse_tokens(text: str) -> int:
    digits = text.strip().replace("_", "")
    short = digits.isascii() and digits.isdigit() and len(digits) <= len(str(AMOUNT_MAX))
    if not short or int(digits) > AMOUNT_MAX:
        raise ValueError("expected a whole number of tokens (for money, add --money)")
    return int(digits)


def _charged(text: str) -> Charged:
    """Read `user:ada`."""
    level, _, account = text.partition(":")
    known = level in {each.value for each in Level}
    if not (known and account.isprintable() and 0 < len(account) <= _NAME_CHARACTERS_MAX):
        fail(f"Whose budget? user:NAME, tenant:NAME or key:ID; found {text[:60]!r}.", status=USAGE)
    return Charged(level=Level(level), account=account)


def _amount(amount: int, unit: Unit) -> str:
    match unit:
        case Unit.TOKENS:
            return f"{amount:,}"
        case Unit.NANOS:
            return shown_money(amount)


def _json(budget: Budget) -> dict[str, object]:
    return {
        "level": budget.of.level.value,
        "account": budget.of.account,
        "unit": budget.unit.value,
        "period": budget.period.value,
        "limit": budget.limit,
        "spent": budget.spent,
        "reserved": budget.reserved,
        "remaining": budget.remaining,
        "resets_at": shown_moment(budget.resets_at),
    }


def _print_totals(question: Question, page: Page, currency: str) -> None:
    head = tuple(by.value for by in question.by)
    rows = [
        (
            *total.of,
            f"{total.requests:,}",
            f"{total.prompt_tokens:,}",
            f"{total.completion_tokens:,}",
            f"{shown_money(total.nanos)} {currency}",
        )
        for total in page.totals
    ]
    _table((*head, "requests", "prompt tokens", "completion tokens", "cost"), rows, left=len(head))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, left: int) -> None:
    """Print a table; of its columns the first are words, and the others amounts."""
    table = Table(box=None, header_style="bold")
    for index, name in enumerate(head):
        table.add_column(name, justify="left" if index < left else "right")
    for row in rows:
        table.add_row(*row)
    # A file or a pipe is not as narrow as a screen.
    Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS).print(table)
