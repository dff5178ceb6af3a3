"""Budgets as values: windows, what fits, what a settlement changes.  Pure; no database here.

Theory of operation
-------------------
A budget has a window, `spent` and `reserved`.  A request *reserves* the most it can cost in all
budgets of its accounts or in none, and that is granted only while

    spent + reserved + amount <= limit

in each.  It *settles* by giving the reservation back and adding what it cost, which is no more.
So what is spent in one window never passes the limit, whatever order things happen in.

A window *rolls* when somebody comes after its end: both sums begin at 0.  It never rolls back, so
that a clock that goes back opens no spent window again.  A reservation belongs to the window in
which it was made.  Once that has ended it changes nothing any more: its request counts, in the
ledger as in the budget, in the window in which it was begun.
"""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from forebay.core.caller import Level
from forebay.core.value import value


class Unit(enum.StrEnum):
    """What a budget is counted in."""

    TOKENS = "tokens"
    """Prompt and completion together."""
    NANOS = "nanos"
    """Nano-units of the one currency."""


class Period(enum.StrEnum):
    """How long a budget's window is: a day or a month of the UTC calendar."""

    DAY = "day"
    MONTH = "month"


AMOUNT_MAX: Final = 2**62
"""Highest limit and highest cost of one request: their sum stays within 64 bits."""
LIST_MAX: Final = 1_000
"""Most budgets that one list has."""


def parse_tokens(text: str) -> int:
    """Return an amount of tokens such as `500_000`; raises ValueError with what is taken."""
    digits = text.strip().replace("_", "")
    short = digits.isascii() and digits.isdigit() and len(digits) <= len(str(AMOUNT_MAX))
    if not short or int(digits) > AMOUNT_MAX:
        how = '(for money: --money, or "unit": "money")'
        raise ValueError(f"expected a whole number of tokens {how}")
    return int(digits)


@value
class Window:
    """From `start` to before `end`, Unix seconds."""

    start: int
    end: int


def window_of(period: Period, at: int) -> Window:
    """Return the window that a moment (Unix seconds) lies in."""
    start = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case Period.DAY:
            end = start + timedelta(days=1)
        case Period.MONTH:
            start = start.replace(day=1)
            end = (start + timedelta(days=31)).replace(day=1)
    return Window(start=int(start.timestamp()), end=int(end.timestamp()))


@value
class Charged:
    """One of those on whom a request is charged."""

    level: Level
    account: str
    """A key's id, a user's name, a tenant's name."""


@value
class BudgetName:
    """Which budget: an account has at most one of each unit and period."""

    of: Charged
    unit: Unit
    period: Period


@value
class Most:
    """The most that a request can cost, or what it has cost."""

    tokens: int
    nanos: int

    def in_unit(self, unit: Unit) -> int:
        """Return it as a budget counts it."""
        match unit:
            case Unit.TOKENS:
                return self.tokens
            case Unit.NANOS:
                return self.nanos


@dataclass(slots=True, kw_only=True)
class Budget:
    """One budget: its limit and its window."""

    id: int
    of: Charged
    unit: Unit
    period: Period
    limit: int
    window_start: int
    spent: int
    reserved: int

    @property
    def name(self) -> BudgetName:
        """Which it is."""
        return BudgetName(of=self.of, unit=self.unit, period=self.period)

    @property
    def remaining(self) -> int:
        """What can still be reserved; 0 too where the limit was lowered below what is spent."""
        return max(0, self.limit - self.spent - self.reserved)

    @property
    def resets_at(self) -> int:
        """When its window ends, Unix seconds."""
        return window_of(self.period, self.window_start).end

    def roll(self, at: int) -> None:
        """Begin a new window if the one it is in has ended by `at`."""
        start = window_of(self.period, at).start
        if start > self.window_start:
            self.window_start, self.spent, self.reserved = start, 0, 0

    def give_back(self, share: "Share") -> None:
        """End a reservation; one of a window that has passed holds nothing any more."""
        if share.window_start == self.window_start:
            self.reserved -= share.amount

    def spend(self, amount: int, window_start: int) -> None:
        """Add what was spent by a request of a window, unless that has passed."""
        if window_start == self.window_start:
            self.spent += amount


@value
class Share:
    """What one budget holds for one request."""

    budget_id: int
    unit: Unit
    amount: int
    window_start: int


@value
class Ask:
    """Reserve in all budgets of these, or in none."""

    id: str
    """Of the reservation; random, and never a client's choice."""
    charged: tuple[Charged, ...]
    most: Most
    lasts_s: int
    """How long it is held at most."""


@value
class Granted:
    """What was reserved; nothing where none of them has a budget."""

    shares: tuple[Share, ...]
    at: int
    """When, by the clock that counts; Unix seconds."""
    money: bool
    """One of the budgets is in money."""


@value
class Full:
    """A budget that does not hold what was asked; nothing was reserved."""

    of: Charged
    unit: Unit
    period: Period
    limit: int
    remaining: int
    asked: int
    resets_in_s: int


Reply = Granted | Full


@value
class Usage:
    """One row of the usage ledger."""

    id: str
    """Of the reservation; of one that needed none, as random."""
    request_id: str
    at: int
    """When it was begun: the moment whose window it counts in; Unix seconds."""
    tenant: str
    user: str
    key_id: str
    model: str
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    nanos: int


@value
class Settlement:
    """What became of a request: what it held is given back, what it spent is written."""

    id: str
    shares: tuple[Share, ...] = ()
    """What it was granted."""
    unreserved: tuple[Charged, ...] = ()
    """Whose budgets it is charged to although it is not known that anything was reserved."""
    usage: Usage | None = None
    """None: it cost nothing."""

    @property
    def spent(self) -> Most:
        """What it cost."""
        if self.usage is None:
            return Most(tokens=0, nanos=0)
        tokens = self.usage.prompt_tokens + self.usage.completion_tokens
        return Most(tokens=tokens, nanos=self.usage.nanos)


class Unfit(Exception):
    """The database does not take a row of what was to be written; nothing of it happened."""


def full(budgets: Iterable[Budget], most: Most, at: int) -> Full | None:
    """Return the budget that does not hold `most` and will for longest not; None: all do."""
    found: Full | None = None
    for budget in budgets:
        asked = most.in_unit(budget.unit)
        # With nothing asked nothing is refused: a model without a price is free in money.
        if asked and asked > budget.remaining:
            resets_in_s = max(1, budget.resets_at - at)
            if found is None or resets_in_s > found.resets_in_s:
                found = Full(
                    of=budget.of,
                    unit=budget.unit,
                    period=budget.period,
                    limit=budget.limit,
                    remaining=budget.remaining,
                    asked=asked,
                    resets_in_s=resets_in_s,
                )
    return found


def reserve(budgets: Sequence[Budget], most: Most) -> tuple[Share, ...]:
    """Hold `most` in each that it costs anything in; `full` has said that all of them do."""
    shares = []
    for budget in budgets:
        amount = most.in_unit(budget.unit)
        if not amount:
            continue
        budget.reserved += amount
        shares.append(
            Share(
                budget_id=budget.id,
                unit=budget.unit,
                amount=amount,
                window_start=budget.window_start,
            )
        )
    return tuple(shares)
