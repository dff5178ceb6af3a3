"""What the administrator asks and orders of budgets."""

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from forebay.accounts.audit_event import Action
from forebay.accounts.people import NAME_MAX, is_name
from forebay.accounts.prices import parse_money
from forebay.accounts.spending import BudgetName, Charged, Period, Unit, parse_tokens
from forebay.core.caller import Level, Right
from forebay.core.errors import Invalid
from forebay.gateway.admin_accounts import Notes
from forebay.gateway.exchange import Exchange
from forebay.gateway.problems import JSON
from forebay.gateway.querying import query_of
from forebay.gateway.reading import Reader
from forebay.gateway.routing import Endpoint
from forebay.gateway.usage import budget_item
from forebay.serve.clerks import Clerks

if TYPE_CHECKING:
    from forebay.accounts.budgets import Books


BUDGETS_PATH: Final = "/admin/budgets"
REMOVE_PATH: Final = "/admin/budgets/remove"


class Counted(enum.StrEnum):
    """What a budget is counted in."""

    TOKENS = "tokens"
    MONEY = "money"


class BudgetKey(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which budget is meant: an account has at most one of each unit and period."""

    level: Level
    account: str
    """A key's id, a user's name, a tenant's name."""
    unit: Counted = Counted.TOKENS
    period: Period = Period.MONTH


class BudgetOrder(Struct, kw_only=True, forbid_unknown_fields=True):
    """A budget to be set: `500000` tokens, or `25.50` of the currency."""

    level: Level
    account: str
    limit: str
    unit: Counted = Counted.TOKENS
    period: Period = Period.MONTH


_ORDER: Final = Reader(BudgetOrder)
_KEY: Final = Reader(BudgetKey)


class BudgetsAdmin:
    """Serves `/admin/budgets`."""

    def __init__(
        self, books: "Books", clerks: Clerks, *, changed: Callable[[], None], note: Notes
    ) -> None:
        """Ask `books` by `clerks`; `changed` is told after each change, and `note` of each."""
        self._books = books
        self._clerks = clerks
        self._changed = changed
        self._note = note

    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return the routes, by path."""
        both = ("GET", "POST")
        return {
            BUDGETS_PATH: Endpoint(serve=self._budgets, methods=both, right=Right.ADMIN),
            REMOVE_PATH: Endpoint(serve=self._remove, methods=("POST",), right=Right.ADMIN),
        }

    async def _budgets(self, exchange: Exchange) -> None:
        if exchange.method == "POST":
            await self._set(exchange)
            return
        query_of(exchange.query, ())
        found = await self._clerks.answer(self._books.find)
        await _answer(exchange, {"budgets": [budget_item(budget) for budget in found]})

    async def _set(self, exchange: Exchange) -> None:
        order = _ORDER.read(await exchange.body())
        name, limit = _name(order), _amount(order)
        budget = await self._clerks.answer(lambda: self._books.set_limit(name, limit))
        self._changed()
        self._write(exchange, Action.BUDGET_SET, name, limit=order.limit)
        await _answer(exchange, budget_item(budget))

    async def _remove(self, exchange: Exchange) -> None:
        name = _name(_KEY.read(await exchange.body()))
        if not await self._clerks.answer(lambda: self._books.remove(name)):
            raise Invalid("There is no such budget; GET /admin/budgets lists them.", status=404)
        self._changed()
        self._write(exchange, Action.BUDGET_REMOVED, name)
        await _answer(exchange, {"done": "the budget is removed"})

    def _write(self, exchange: Exchange, action: Action, name: BudgetName, **details: str) -> None:
        target = f"{name.of.level}:{name.of.account}"
        self._note(exchange, action, target, unit=name.unit, period=name.period, **details)


def _name(order: BudgetKey | BudgetOrder) -> BudgetName:
    if not is_name(order.account):
        message = f"account: expected a key's id, or a name of 1 to {NAME_MAX} characters."
        raise Invalid(message, param="account")
    unit = Unit.NANOS if order.unit is Counted.MONEY else Unit.TOKENS
    of = Charged(level=order.level, account=order.account)
    return BudgetName(of=of, unit=unit, period=order.period)


def _amount(order: BudgetOrder) -> int:
    parse = parse_money if order.unit is Counted.MONEY else parse_tokens
    try:
        return parse(order.limit)
    except ValueError as error:
        raise Invalid(f"limit: {error}.", param="limit") from None


async def _answer(exchange: Exchange, page: object) -> None:
    await exchange.answer(200, msgspec.json.encode(page), JSON)
