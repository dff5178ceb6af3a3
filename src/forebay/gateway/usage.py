"""`GET /v1/usage`: what was used, by whom, and what is left of the budgets.

Everybody sees its own; whoever may administer sees anybody's by `user`, `tenant` or `key`, where
`*` is everybody.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import msgspec

from forebay.accounts.config import AccountsAway
from forebay.accounts.prices import shown_money
from forebay.accounts.spending import Budget, Charged, Unit
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
from forebay.core.caller import Caller, Level, Right
from forebay.core.errors import Forbidden, Invalid, RateLimited
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.problems import JSON
from forebay.gateway.querying import query_of, whole
from forebay.serve.clerks import Clerks, accounts_away

USAGE_PATH: Final = "/v1/usage"
CSV: Final = b"text/csv; charset=utf-8"
EVERYBODY: Final = "*"

_WHOSE: Final = ("user", "tenant", "key")
_FIELDS: Final = frozenset({*_WHOSE, "from", "to", "by", "format", "limit", "page"})
_FORMATS: Final = ("json", "csv")
_ROWS: Final = 1_000
_PAGES_MAX: Final = 1_000_000
_NAME_CHARACTERS_MAX: Final = 256
_ASKED_MAX: Final = 2
"""Most questions of one tenant at once: others wait behind them, for seconds each."""
_ASKS: Final = (
    f"This tenant asks about its usage {_ASKED_MAX} times already. Wait for one of the answers."
)
_RETRY_S: Final = 1.0
_DOWNLOAD: Final[Header] = (b"content-disposition", b'attachment; filename="usage.csv"')


class Totals(Protocol):
    """Reads the ledger: `accounts.usage.UsageLedger`."""

    def totals(self, question: Question) -> Page:
        """Return one page; blocks; raises AccountsAway."""


class Limits(Protocol):
    """Reads the budgets: `accounts.budgets.Books`."""

    def find(self, charged: frozenset[Charged] | None = None) -> list[Budget]:
        """Return budgets as they are now; blocks; raises AccountsAway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """One call, understood."""

    question: Question
    whose: frozenset[Charged]
    csv: bool


class Usage:
    """Serves the path."""

    def __init__(
        self,
        ledger: Totals,
        books: Limits,
        clerks: Clerks,
        *,
        currency: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Ask `ledger` and `books` in the threads of `clerks`."""
        self._ledger = ledger
        self._books = books
        self._clerks = clerks
        self._currency = currency
        self._wall = wall
        # The whole mutable state: questions that are not answered, by tenant.
        self._asked: Counter[str] = Counter()

    async def page(self, exchange: Exchange) -> None:
        """Answer with totals and budgets, as JSON or CSV; raises ServingError."""
        wish = self._wish(exchange)
        try:
            body = await self._ask(exchange.caller.tenant, wish)
        except AccountsAway:
            raise accounts_away() from None
        headers = (_DOWNLOAD,) if wish.csv else ()
        await exchange.answer(200, body, CSV if wish.csv else JSON, headers=headers)

    def _ask(self, tenant: str, wish: _Wish) -> "asyncio.Future[bytes]":
        """Ask the database; raises RateLimited, or Overloaded."""
        if self._asked[tenant] >= _ASKED_MAX:
            raise RateLimited(_ASKS, retry_after_s=_RETRY_S)
        future = self._clerks.ask(partial(self._answer, wish))
        self._asked[tenant] += 1
        # Whoever gives up waiting frees a place only when the thread has done.
        future.add_done_callback(partial(self._answered, tenant))
        return future

    def _answered(self, tenant: str, _: "asyncio.Future[bytes]") -> None:
        self._asked[tenant] -= 1
        if not self._asked[tenant]:
            del self._asked[tenant]

    def _wish(self, exchange: Exchange) -> _Wish:
        """Read the query; raises Invalid or Forbidden that names the field."""
        query = query_of(exchange.query, _FIELDS)
        now = int(self._wall())
        since = _moment(query.get("from"), "from", default=month_start(now))
        until = _moment(query.get("to"), "to", default=now + 1)
        if since >= until:
            raise Invalid("from: it must be earlier than to.", param="from")
        try:
            by = parse_by(query.get("by", "day"))
        except ValueError as error:
            raise Invalid(f"by: {error}.", param="by") from None
        whose, names = _whose({name: query[name] for name in _WHOSE if name in query}, exchange)
        rows_max = whole(query, "limit", default=_ROWS, most=ROWS_MAX)
        pages_before = whole(query, "page", default=1, most=_PAGES_MAX) - 1
        return _Wish(
            question=Question(
                since=since,
                until=until,
                by=by,
                tenant=names.get("tenant"),
                user=names.get("user"),
                key=names.get("key"),
                rows_max=rows_max,
                offset=pages_before * rows_max,
            ),
            whose=whose,
            csv=_wants_csv(query.get("format"), exchange.headers.get(b"accept", b"")),
        )

    def _answer(self, wish: _Wish) -> bytes:
        """Ask the database, and write what it says; in a thread."""
        question = wish.question
        page = self._ledger.totals(question)
        if wish.csv:
            return as_csv(question.by, page.totals, self._currency).encode()
        budgets = self._books.find(wish.whose) if wish.whose else []
        rows = [
            {
                **{by.value: word for by, word in zip(question.by, total.of, strict=True)},
                "requests": total.requests,
                "prompt_tokens": total.prompt_tokens,
                "completion_tokens": total.completion_tokens,
                "cost": shown_money(total.nanos),
            }
            for total in page.totals
        ]
        answer = {
            "object": "usage",
            "from": shown_moment(question.since),
            "to": shown_moment(question.until),
            "by": [by.value for by in question.by],
            "currency": self._currency,
            "data": rows,
            "has_more": page.more,
            "budgets": [budget_item(each) for each in budgets],
        }
        return msgspec.json.encode(answer)


def budget_item(budget: Budget) -> dict[str, object]:
    """Write a budget; money is decimal text, exactly."""

    def shown(amount: int) -> object:
        match budget.unit:
            case Unit.TOKENS:
                return amount
            case Unit.NANOS:
                return shown_money(amount)

    return {
        "level": budget.of.level.value,
        "account": budget.of.account,
        "unit": "tokens" if budget.unit is Unit.TOKENS else "money",
        "period": budget.period.value,
        "limit": shown(budget.limit),
        "spent": shown(budget.spent),
        "reserved": shown(budget.reserved),
        "remaining": shown(budget.remaining),
        "resets_at": shown_moment(budget.resets_at),
    }


def _whose(given: dict[str, str], exchange: Exchange) -> tuple[frozenset[Charged], dict[str, str]]:
    """Return whose budgets are shown, and by which names the ledger is read."""
    caller = exchange.caller
    if not given:
        return _own(caller)
    if not caller.may(Right.ADMIN):
        field = next(iter(given))
        raise Forbidden(
            f"{field}: only the right 'admin' sees the usage of others; leave it out for your own.",
            param=field,
        )
    names = {}
    for field, name in given.items():
        if not name or len(name) > _NAME_CHARACTERS_MAX or "\0" in name:
            raise Invalid(
                f"{field}: expected a name of at most {_NAME_CHARACTERS_MAX} characters, or *.",
                param=field,
            )
        if name != EVERYBODY:
            names[field] = name
    whose = {Charged(level=Level(field), account=name) for field, name in names.items()}
    return frozenset(whose), names


def _own(caller: Caller) -> tuple[frozenset[Charged], dict[str, str]]:
    """Return who a caller is: its user, or what else is known of it."""
    whose = frozenset(Charged(level=each.level, account=each.id) for each in caller.accounts)
    if caller.user:
        return whose, {"user": caller.user, "tenant": caller.tenant}
    return whose, {"tenant": caller.tenant}


def _moment(text: str | None, field: str, *, default: int) -> int:
    if text is None:
        return default
    try:
        return parse_moment(text)
    except ValueError as error:
        raise Invalid(f"{field}: {error}.", param=field) from None


def _wants_csv(form: str | None, accept: bytes) -> bool:
    """Whether an answer is to be CSV: by the query, or else by the header."""
    if form is None:
        return accept.lower().startswith(b"text/csv")
    if form not in _FORMATS:
        raise Invalid(f"format: expected one of {', '.join(_FORMATS)}.", param="format")
    return form == "csv"
