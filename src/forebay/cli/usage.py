"""`forebay usage` and `forebay budgets`: on the accounts database itself; the server need not run.

One that does holds callers to a budget that is new at the latest after `access.cached_s`.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from forebay.accounts.audit_event import Action
from forebay.accounts.people import is_name
from forebay.accounts.prices import parse_money, shown_money
from forebay.accounts.spending import (
    LIST_MAX,
    BudgetName,
    Charged,
    Period,
    Unit,
    parse_tokens,
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
from forebay.cli.tables import AsJson, print_json, print_table, say_if_cut
from forebay.core.caller import Level

if TYPE_CHECKING:
    from forebay.accounts.budgets import Books
    from forebay.accounts.database import Database

Read = TypeVar("Read")

commands = typer.Typer()
budgets = typer.Typer(no_args_is_help=True, help="How much users, keys and tenants may spend.")
commands.add_typer(budgets, name="budgets")


Of = Annotated[
    str,
    typer.Argument(metavar="LEVEL:NAME", help="Whose: user:NAME, tenant:NAME or key:ID."),
]
Per = Annotated[Period, typer.Option("--per", help="A day or a month of the UTC calendar.")]


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
    amount = _read("AMOUNT", limit, parse_money if money else parse_tokens)
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
    from forebay.gateway.usage import budget_item  # noqa: PLC0415 - see main

    with opened(config, assignments) as book:
        found = _books(book.database).find()
    currency = book.settings.budgets.currency
    say_if_cut(found, LIST_MAX)
    if as_json:
        print_json([budget_item(each) for each in found])
        return
    head = ("whose", "per", "in", "limit", "spent", "reserved", "left", "begins anew")
    rows = []
    for each in found:
        unit = "tokens" if each.unit is Unit.TOKENS else currency
        of = (f"{each.of.level}:{each.of.account}", each.period.value, unit)
        amounts = (each.limit, each.spent, each.reserved, each.remaining)
        shown = (_amount(amount, each.unit) for amount in amounts)
        rows.append((*of, *shown, shown_moment(each.resets_at)[:10]))
    print_table(head, rows, words=3)


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


def _charged(text: str) -> Charged:
    """Read `user:ada`."""
    level, _, account = text.partition(":")
    known = level in {each.value for each in Level}
    if not (known and is_name(account)):
        fail(f"Whose budget? user:NAME, tenant:NAME or key:ID; found {text[:60]!r}.", status=USAGE)
    return Charged(level=Level(level), account=account)


def _amount(amount: int, unit: Unit) -> str:
    match unit:
        case Unit.TOKENS:
            return f"{amount:,}"
        case Unit.NANOS:
            return shown_money(amount)


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
    head = (*head, "requests", "prompt tokens", "completion tokens", "cost")
    print_table(head, rows, words=len(question.by))
