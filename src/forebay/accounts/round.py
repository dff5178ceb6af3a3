"""One transaction over budgets: lock, decide on values, write what changed.

Theory of operation
-------------------
A round first locks the rows of every budget that it may change, in the order of their ids, so
that two gateways never wait for each other in a ring; SQLite's write lock covers them all.  What
is read under the lock stays true until the commit: so settlements and asks are decided one after
another on values (see `spending`), and each budget is written once, however many requests changed
it.  Each such write still names the sums that were read: were there ever no lock, it would change
no row, and the round would not happen.

Every reservation is made, given back and swept under the lock of its budget; so the `reserved` of
a budget is always the sum of its window's rows.  A settlement is known by its usage row: one that
is there already changes nothing.  One whose reservation has expired is charged all the same.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, or_, select, update

from forebay.accounts.config import AccountsAway
from forebay.accounts.schema import BUDGETS, RESERVATIONS, USAGE
from forebay.accounts.spending import (
    Ask,
    Budget,
    Charged,
    Granted,
    Period,
    Reply,
    Settlement,
    Share,
    Unit,
    Usage,
    full,
    reserve,
    window_of,
)
from forebay.core.caller import Level

SWEEP_MAX: Final = 500
"""Most expired reservations that one round gives back."""


@dataclass(slots=True)
class Round:
    """One transaction's worth: what was locked, what is decided, what will be written."""

    connection: Connection
    at: int
    rows: list[Usage] = field(default_factory=list)
    overruns: int = 0
    late: int = 0
    # What stands in the database, as it was read; `_budgets` are changed, and stored at the end.
    _read: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _budgets: dict[int, Budget] = field(default_factory=dict)
    _of: defaultdict[Charged, list[Budget]] = field(default_factory=lambda: defaultdict(list))
    _made: list[dict[str, Any]] = field(default_factory=list)
    _ended: list[str] = field(default_factory=list)
    _collected: bool = False

    def lock(self, charged: set[Charged], ids: set[int]) -> None:
        """Lock and read the budgets of these."""
        wanted = [charged_to(charged)] if charged else []
        if ids:
            wanted.append(BUDGETS.c.id.in_(sorted(ids)))
        if not wanted:
            return
        query = select(BUDGETS).where(or_(*wanted)).order_by(BUDGETS.c.id).with_for_update()
        for row in self.connection.execute(query):
            budget = budget_of(row)
            self._read[budget.id] = _sums(budget)
            budget.roll(self.at)
            self._budgets[budget.id] = budget
            self._of[budget.of].append(budget)

    def found(self, of: Charged) -> Sequence[Budget]:
        """Return the budgets of one, as locked."""
        return self._of[of]

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Give back what they held, add what they spent; what was settled before stays so."""
        named = {each.id: each for each in settlements}
        if not named:
            return
        there = select(USAGE.c.id).where(USAGE.c.id.in_(named))
        for id_ in self.connection.scalars(there):
            del named[id_]
        held = self._held({each.id for each in named.values() if each.shares or each.unreserved})
        for settlement in named.values():
            self._settle(settlement, held.get(settlement.id, {}))

    def _held(self, ids: set[str]) -> Mapping[str, Mapping[int, Share]]:
        """Return reservations that still are: id -> budget -> share."""
        found: defaultdict[str, dict[int, Share]] = defaultdict(dict)
        if ids:
            query = select(RESERVATIONS).where(RESERVATIONS.c.id.in_(ids))
            for row in self.connection.execute(query):
                if row.budget_id in self._budgets:  # locked: nobody else gives it back
                    found[row.id][row.budget_id] = self._share(row)
        return found

    def _share(self, row: Row[Any]) -> Share:
        return Share(
            budget_id=row.budget_id,
            unit=self._budgets[row.budget_id].unit,
            amount=row.amount,
            window_start=row.window_start,
        )

    def _settle(self, settlement: Settlement, held: Mapping[int, Share]) -> None:
        for id_, share in held.items():
            self._budgets[id_].give_back(share)
        if held:
            self._ended.append(settlement.id)
        if settlement.usage is None:
            return
        self.rows.append(settlement.usage)
        spent = settlement.spent
        for share in settlement.shares:
            if budget := self._budgets.get(share.budget_id):
                budget.spend(spent.in_unit(share.unit), share.window_start)
        self.overruns += any(spent.in_unit(each.unit) > each.amount for each in settlement.shares)
        self.late += len(held) < len(settlement.shares)
        for charged in settlement.unreserved:
            for budget in self._of[charged]:
                start = window_of(budget.period, settlement.usage.at).start
                budget.spend(spent.in_unit(budget.unit), start)

    def reserve(self, ask: Ask) -> Reply:
        """Reserve in all budgets of an ask, or in none."""
        asked = [budget for each in ask.charged for budget in self._of[each]]
        refused = full(asked, ask.most, self.at)
        if refused is not None and not self._collected:
            self.collect()
            refused = full(asked, ask.most, self.at)
        if refused is not None:
            return refused
        shares = reserve(asked, ask.most)
        self._made += [
            {
                "id": ask.id,
                "budget_id": share.budget_id,
                "amount": share.amount,
                "window_start": share.window_start,
                "expires": self.at + ask.lasts_s,
            }
            for share in shares
        ]
        money = any(budget.unit is Unit.NANOS for budget in asked)
        return Granted(shares=shares, at=self.at, money=money)

    def collect(self) -> int:
        """Give back what has expired of the budgets that are locked; return how many."""
        self._collected = True
        expired = (
            select(RESERVATIONS)
            .where(
                RESERVATIONS.c.expires <= self.at,
                RESERVATIONS.c.budget_id.in_(sorted(self._budgets)),
                RESERVATIONS.c.id.not_in(self._ended),
            )
            .order_by(RESERVATIONS.c.expires)
            .limit(SWEEP_MAX)
        )
        found = 0
        for row in self.connection.execute(expired).all():
            self._budgets[row.budget_id].give_back(self._share(row))
            gone = (RESERVATIONS.c.id == row.id) & (RESERVATIONS.c.budget_id == row.budget_id)
            self.connection.execute(delete(RESERVATIONS).where(gone))
            found += 1
        return found

    def store(self) -> None:
        """Write what was decided."""
        for id_, budget in self._budgets.items():
            self._store(budget, self._read[id_])
        if self._ended:
            ended = RESERVATIONS.c.id.in_(self._ended)
            self.connection.execute(delete(RESERVATIONS).where(ended))
        if self._made:
            self.connection.execute(insert(RESERVATIONS), self._made)
        if self.rows:
            self.connection.execute(insert(USAGE), [_row(each) for each in self.rows])

    def _store(self, budget: Budget, read: tuple[int, ...]) -> None:
        sums = _sums(budget)
        if sums == read:
            return
        columns = (
            BUDGETS.c.limit_amount,
            BUDGETS.c.window_start,
            BUDGETS.c.spent,
            BUDGETS.c.reserved,
        )
        as_read = [column == was for column, was in zip(columns, read, strict=True)]
        values = {column.name: now for column, now in zip(columns, sums, strict=True)}
        query = update(BUDGETS).where(BUDGETS.c.id == budget.id, *as_read).values(values)
        if self.connection.execute(query).rowcount != 1:
            raise AccountsAway


def budget_of(row: Row[Any]) -> Budget:
    """Return a row of BUDGETS as a value."""
    return Budget(
        id=row.id,
        of=Charged(level=Level(row.level), account=row.account),
        unit=Unit(row.unit),
        period=Period(row.period),
        limit=row.limit_amount,
        window_start=row.window_start,
        spent=row.spent,
        reserved=row.reserved,
    )


def _sums(budget: Budget) -> tuple[int, ...]:
    return (budget.limit, budget.window_start, budget.spent, budget.reserved)


def charged_to(charged: set[Charged]) -> ColumnElement[bool]:
    """Return the condition that a budget is of one of these."""
    by_level: defaultdict[Level, list[str]] = defaultdict(list)
    for each in charged:
        by_level[each.level].append(each.account)
    return or_(
        *(
            (BUDGETS.c.level == level.value) & BUDGETS.c.account.in_(sorted(accounts))
            for level, accounts in sorted(by_level.items())
        )
    )


def _row(each: Usage) -> dict[str, Any]:
    return {
        "id": each.id,
        "request_id": each.request_id,
        "at": each.at,
        "tenant": each.tenant,
        "user_name": each.user,
        "key_id": each.key_id,
        "model": each.model,
        "outcome": each.outcome,
        "prompt_tokens": each.prompt_tokens,
        "completion_tokens": each.completion_tokens,
        "nanos": each.nanos,
    }
