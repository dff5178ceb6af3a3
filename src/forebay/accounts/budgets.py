"""Budgets and the usage ledger in the database; each method is one transaction.

A budget is set for a key, a user or a tenant, per day or month, in tokens or money.  What requests
do to budgets happens in a `round`.  A gateway that dies leaves reservations: whoever finds a budget
full looks for expired ones before it refuses, and sweeps come by besides.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, and_, delete, func, insert, select

from forebay.accounts.database import Database, RowRefused
from forebay.accounts.round import SWEEP_MAX, Round, budget_of, charged_to
from forebay.accounts.schema import API_KEYS, BUDGETS, RESERVATIONS, TENANTS, USAGE, USERS
from forebay.accounts.spending import (
    LIST_MAX,
    Ask,
    Budget,
    BudgetName,
    Charged,
    Reply,
    Settlement,
    Unfit,
    Unit,
    window_of,
)
from forebay.core.caller import Level

WallClock = Callable[[], float]
"""Unix seconds."""

USAGE_COLUMNS: Final = {
    Level.KEY: USAGE.c.key_id,
    Level.USER: USAGE.c.user_name,
    Level.TENANT: USAGE.c.tenant,
}
"""Where the ledger says whom a request is charged to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What one round did."""

    replies: tuple[Reply, ...]
    """One per ask, in their order."""
    rows: int
    """Usage rows that are new."""
    overruns: int
    """Settlements that cost more than was reserved: a defect of whoever forecast the most."""
    late: int
    """Settlements whose reservation had expired; they are charged all the same."""


class Books:
    """The budgets, the reservations and the ledger of one database."""

    def __init__(self, database: Database, *, clock: WallClock | None = None) -> None:
        """Tell time by `clock`; without one PostgreSQL's own counts, for all gateways alike."""
        self._database = database
        self._clock = clock

    def write(self, asks: Sequence[Ask] = (), settlements: Sequence[Settlement] = ()) -> Written:
        """Settle, then reserve, in one transaction; raises AccountsAway or Unfit."""
        try:
            return self._write(asks, settlements)
        except RowRefused as error:
            raise Unfit from error

    def _write(self, asks: Sequence[Ask], settlements: Sequence[Settlement]) -> Written:
        with self._database.writing() as connection:
            turn = Round(connection, self._at(connection))
            turn.lock(
                {each for ask in asks for each in ask.charged}
                | {each for settlement in settlements for each in settlement.unreserved},
                {share.budget_id for settlement in settlements for share in settlement.shares},
            )
            turn.settle(settlements)
            replies = tuple(turn.reserve(ask) for ask in asks)
            turn.store()
        return Written(replies=replies, rows=len(turn.rows), overruns=turn.overruns, late=turn.late)

    def sweep(self) -> int:
        """Give expired reservations back; return how many."""
        with self._database.writing() as connection:
            turn = Round(connection, self._at(connection))
            expired = (
                select(RESERVATIONS.c.budget_id)
                .where(RESERVATIONS.c.expires <= turn.at)
                .order_by(RESERVATIONS.c.expires)
                .limit(SWEEP_MAX)
            )
            ids = set(connection.scalars(expired))
            if not ids:
                return 0
            turn.lock(set(), ids)
            found = turn.collect()
            turn.store()
        return found

    def prune(self, keep_s: int, rows_max: int) -> int:
        """Delete at most `rows_max` usage rows that are older than `keep_s`; return how many."""
        with self._database.writing() as connection:
            old = (
                select(USAGE.c.id)
                .where(USAGE.c.at < self._at(connection) - keep_s)
                .order_by(USAGE.c.at)
                .limit(rows_max)
            )
            return connection.execute(delete(USAGE).where(USAGE.c.id.in_(old))).rowcount

    def set_limit(self, name: BudgetName, limit: int) -> Budget:
        """Set a budget, anew or over the one that is there; what was used in its window counts."""
        with self._database.writing() as connection:
            turn = Round(connection, self._at(connection))
            turn.lock({name.of}, set())
            for budget in turn.found(name.of):
                if budget.name == name:
                    budget.limit = limit
                    turn.store()
                    return budget
            window = window_of(name.period, turn.at)
            spent = _used(connection, name, since=window.start)
            values: dict[str, Any] = {
                "level": name.of.level.value,
                "account": name.of.account,
                "unit": name.unit.value,
                "period": name.period.value,
                "limit_amount": limit,
                "window_start": window.start,
                "spent": spent,
                "reserved": 0,
            }
            made = connection.execute(insert(BUDGETS).values(values).returning(*BUDGETS.c)).one()
            return budget_of(made)

    def is_known(self, of: Charged) -> bool:
        """Whether there is such a key, user or tenant; one that is not may still come."""
        match of.level:
            case Level.KEY:
                query = select(API_KEYS.c.id).where(API_KEYS.c.id == of.account)
            case Level.USER:
                query = select(USERS.c.name).where(USERS.c.name == of.account)
            case Level.TENANT:
                query = select(TENANTS.c.name).where(TENANTS.c.name == of.account)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def remove(self, name: BudgetName) -> bool:
        """Remove a budget; what was reserved in it needs none any more.  False: there is none."""
        with self._database.writing() as connection:
            wanted = and_(
                BUDGETS.c.level == name.of.level.value,
                BUDGETS.c.account == name.of.account,
                BUDGETS.c.unit == name.unit.value,
                BUDGETS.c.period == name.period.value,
            )
            id_ = connection.scalar(select(BUDGETS.c.id).where(wanted).with_for_update())
            if id_ is None:
                return False
            connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.budget_id == id_))
            connection.execute(delete(BUDGETS).where(BUDGETS.c.id == id_))
            return True

    def find(self, charged: Iterable[Charged] | None = None) -> list[Budget]:
        """Return the budgets of these, or all, as they are now; bounded."""
        with self._database.reading() as connection:
            at = self._at(connection)
            query = select(BUDGETS).order_by(
                BUDGETS.c.level, BUDGETS.c.account, BUDGETS.c.unit, BUDGETS.c.period
            )
            if charged is not None:
                query = query.where(charged_to(set(charged)))
            found = [budget_of(row) for row in connection.execute(query.limit(LIST_MAX))]
        for budget in found:
            budget.roll(at)
        return found

    def _at(self, connection: Connection) -> int:
        if self._clock is not None:
            return int(self._clock())
        if connection.dialect.name == "postgresql":
            epoch = func.extract("epoch", func.clock_timestamp())
            return int(connection.scalar(select(epoch)) or 0)
        return int(time.time())


def _used(connection: Connection, name: BudgetName, *, since: int) -> int:
    """Return what the ledger says that one has used since a moment."""
    match name.unit:
        case Unit.TOKENS:
            amount = USAGE.c.prompt_tokens + USAGE.c.completion_tokens
        case Unit.NANOS:
            amount = USAGE.c.nanos
    query = select(func.sum(amount)).where(USAGE_COLUMNS[name.of.level] == name.of.account)
    return int(connection.scalar(query.where(USAGE.c.at >= since)) or 0)
