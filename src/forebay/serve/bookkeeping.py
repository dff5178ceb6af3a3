"""What requests may spend and have spent: reserved before, settled after, written behind them.

Callers with budgets wait for the database before their tokens are made, and only then; the others
never do.  Where the database is away the former are refused: what is made meanwhile could not be
metered, and a budget that is not kept when things go wrong is none.  `budgets.when_away=allow`
chooses otherwise: such requests are made unreserved, and charged once the database is back, over
the limit if need be.

What a killed process has not written is lost: rows of the last `flush_s`, settlements that wait for
their commit, and what was being made.  Nothing is ever written twice.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from forebay.accounts.config import AccountsAway
from forebay.accounts.prices import FREE, Price, Prices, shown_money
from forebay.accounts.spending import (
    Ask,
    Charged,
    Full,
    Granted,
    Most,
    Reply,
    Settlement,
    Share,
    Unit,
    Usage,
)
from forebay.core.clock import Clock
from forebay.core.errors import Outcome, OverBudget, Overloaded
from forebay.core.knob import knob
from forebay.core.record import EventLog, Holding
from forebay.core.request import Request
from forebay.serve.allowance import Cost, Reserved
from forebay.serve.book_writer import BookWriter, Keeps, WriterBounds
from forebay.telemetry.readings import BookReading

_AWAY: Final = (
    "Your budget cannot be checked: the accounts database does not answer. Nothing was started;"
    " try again."
)
_RETRY_S: Final = 1.0
_LASTS_S_MAX: Final = 86_400
"""Longest that a reservation is held, seconds; deadlines are far shorter."""
_UNPRICED_MAX: Final = 512
"""Models without a price that are named in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetsConfig:
    """Budgets and the usage ledger; both need accounts (`access.mode=closed`)."""

    currency: str = knob("USD", "What money is called; all prices and budgets are in it.")
    when_away: str = knob(
        "refuse",
        "What callers with budgets get while the accounts database does not answer: refuse (503),"
        " or allow (unreserved, and charged later).",
        choices=("refuse", "allow"),
    )
    answer_s_max: float = knob(
        2.0,
        "Longest that a request waits for its reservation, in seconds.",
        minimum=0.05,
        maximum=60.0,
    )
    grace_s: float = knob(
        60.0,
        "How long after a request's deadline its reservation is given back if nobody has settled"
        " it, in seconds.",
        minimum=1.0,
        maximum=3_600.0,
    )
    flush_s: float = knob(
        0.25,
        "How long usage rows of callers without budgets wait for company, in seconds: what a"
        " killed process may lose.",
        minimum=0.01,
        maximum=60.0,
    )
    rows_max: int = knob(
        100_000,
        "Most usage rows kept in memory while the accounts database is away; more are lost and"
        " counted.",
        minimum=1,
        maximum=10_000_000,
    )
    closing_s: float = knob(
        5.0,
        "Longest that a stop waits for usage rows to be written, in seconds.",
        minimum=0.1,
        maximum=300.0,
    )
    usage_s_max: float = knob(
        400 * 86_400.0,
        "How long rows of the usage ledger are kept, in seconds; the default is 400 days.",
        minimum=32 * 86_400.0,
        maximum=36_500 * 86_400.0,
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Reservation(Reserved):
    """What one request holds of budgets; nothing, where nobody it is charged to has one."""

    id: str
    request: Request
    price: Price
    unreserved: tuple[Charged, ...]
    """Those with budgets of whom it is not known that anything was reserved, or that not."""
    most: Most
    since: float
    expires: float
    """Both monotonic."""
    at: int
    """When it was begun, Unix seconds: the moment whose window it counts in."""
    shares: tuple[Share, ...] = ()
    settled: bool = False


class Bookkeeper:
    """Reserves before tokens are made, and settles after."""

    def __init__(  # noqa: PLR0913 - its parts, each of which a test replaces
        self,
        keeps: Keeps,
        prices: Prices,
        *,
        config: BudgetsConfig,
        now: Clock,
        log: EventLog,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Keep budgets in `keeps`, an `accounts.budgets.Books`."""
        bounds = WriterBounds(
            rows_max=config.rows_max,
            flush_s=config.flush_s,
            closing_s=config.closing_s,
            usage_s_max=config.usage_s_max,
        )
        self._writer = BookWriter(keeps, bounds, log=log)
        self._config = config
        self._now = now
        self._wall = wall
        self._log = log
        # The whole mutable state.  Prices are replaced when settings are read again; what is
        # reserved keeps the price that it was reserved at.
        self.prices = prices
        self._held: dict[str, Reservation] = {}
        self._unpriced: set[str] = set()

    def open(self) -> None:
        """Begin; on the event loop."""
        self._writer.open()

    async def close(self) -> None:
        """Write what is left."""
        await self._writer.close()

    async def reserve(self, request: Request, most: Cost) -> Reserved:
        """Hold the most that a request can cost in all budgets of its accounts, or in none.

        Raises OverBudget, or Overloaded while the database is away.
        """
        reservation = self._reservation(request, most)
        if not reservation.unreserved:
            return reservation
        try:
            reply = await self._ask(reservation)
        except AccountsAway:
            if self._config.when_away != "allow":
                self._release(reservation)
                raise Overloaded(_AWAY, retry_after_s=_RETRY_S) from None
            return reservation
        except asyncio.CancelledError:
            self._release(reservation)
            raise
        match reply:
            case Granted():
                self._granted(reservation, reply)
                return reservation
            case Full():
                raise OverBudget(_refusal(reply, self._wall(), self._config.currency))

    def settle(self, reserved: Reserved, spent: Cost, *, outcome: Outcome) -> None:
        """Give back what was held, and write what was spent; at once, and once."""
        assert isinstance(reserved, Reservation), "it was made by reserve"
        if reserved.settled:
            return
        reserved.settled = True
        self._held.pop(reserved.id, None)
        visit = reserved.request.visit
        if visit is not None and reserved.price is not FREE:
            visit.cost_nanos = reserved.price.of(spent.prompt_tokens, spent.completion_tokens)
        usage = self._usage(reserved, spent, outcome)
        if usage or reserved.shares or reserved.unreserved:
            self._writer.settle(
                Settlement(
                    id=reserved.id,
                    shares=reserved.shares,
                    unreserved=reserved.unreserved,
                    usage=usage,
                )
            )

    def holdings(self) -> Iterator[Holding]:
        """Yield what requests hold of budgets; its amount is in tokens."""
        for each in self._held.values():
            yield Holding(
                kind="reservation",
                owner=each.request.id,
                tenant=each.request.tenant,
                amount=each.most.tokens,
                since=each.since,
                expires=each.expires,
            )

    def stats(self) -> BookReading:
        """Return what is held and what is still to be written."""
        writer = self._writer
        return BookReading(
            reservations=len(self._held),
            reserved_tokens=sum(each.most.tokens for each in self._held.values()),
            rows_pending=writer.pending,
            rows_lost=writer.lost,
            overruns=writer.overruns,
            late=writer.late,
            away=writer.away,
        )

    def _reservation(self, request: Request, most: Cost) -> Reservation:
        price = self.prices.find(request.model)
        now = self._now()
        held_s = max(0.0, request.deadline - now) + self._config.grace_s
        return Reservation(
            # Unique, not secret.  The request's own id is the client's to choose, and two of one
            # id must not be settled as one.
            id=f"{random.getrandbits(128):032x}",
            request=request,
            price=price or FREE,
            unreserved=tuple(
                Charged(level=each.level, account=each.id)
                for each in request.caller.accounts
                if each.budgeted
            ),
            most=_cost(price or FREE, most),
            since=now,
            expires=now + min(held_s, _LASTS_S_MAX),
            at=int(self._wall()),
        )

    async def _ask(self, reservation: Reservation) -> Reply:
        """Return the answer of the database; raises AccountsAway if there is none in time."""
        future = self._writer.ask(
            Ask(
                id=reservation.id,
                charged=reservation.unreserved,
                most=reservation.most,
                lasts_s=math.ceil(reservation.expires - reservation.since),
            )
        )
        try:
            # Not `wait_for`: an answer that a late loop finds beside the timeout still counts.
            await asyncio.wait({future}, timeout=self._config.answer_s_max)
            if not future.done():
                raise AccountsAway
            return future.result()
        finally:
            future.cancel()  # what nobody waits for any more need not be done

    def _granted(self, reservation: Reservation, granted: Granted) -> None:
        reservation.unreserved = ()
        reservation.shares, reservation.at = granted.shares, granted.at
        if granted.shares:
            self._held[reservation.id] = reservation
            if reservation.request.visit is not None:
                reservation.request.visit.reserved_tokens = reservation.most.tokens
        if granted.money:
            self._note_unpriced(reservation.request.model)

    def _note_unpriced(self, model: str) -> None:
        """Say once of a model without a price that its requests cost no budget any money."""
        known = model in self._unpriced or self.prices.find(model) is not None
        if not known and len(self._unpriced) < _UNPRICED_MAX:
            self._unpriced.add(model)
            self._log("budget.unpriced", model=model)

    def _release(self, reservation: Reservation) -> None:
        """Give back what may have been reserved after nobody waited for it any more."""
        reservation.settled = True
        self._writer.settle(Settlement(id=reservation.id, unreserved=reservation.unreserved))

    @staticmethod
    def _usage(reservation: Reservation, spent: Cost, outcome: Outcome) -> Usage | None:
        if not (spent.prompt_tokens or spent.completion_tokens):
            return None
        caller, request = reservation.request.caller, reservation.request
        return Usage(
            id=reservation.id,
            request_id=request.id,
            at=reservation.at,
            tenant=request.tenant,
            user=caller.user,
            key_id=caller.key_id,
            model=request.model,
            outcome=outcome.value,
            prompt_tokens=spent.prompt_tokens,
            completion_tokens=spent.completion_tokens,
            nanos=reservation.price.of(spent.prompt_tokens, spent.completion_tokens),
        )


def _cost(price: Price, cost: Cost) -> Most:
    return Most(
        tokens=cost.prompt_tokens + cost.completion_tokens,
        nanos=price.of(cost.prompt_tokens, cost.completion_tokens),
    )


def _refusal(found: Full, now: float, currency: str) -> str:
    """Say which budget does not hold the request, and what helps."""

    def shown(amount: int) -> str:
        match found.unit:
            case Unit.TOKENS:
                return f"{amount} tokens"
            case Unit.NANOS:
                return f"{shown_money(amount)} {currency}"

    resets = datetime.fromtimestamp(round(now) + found.resets_in_s, UTC)
    whose = f"{found.of.level} {found.of.account[:60]}"
    helps = f"wait until {resets:%Y-%m-%d %H:%M} UTC, or have the budget raised"
    if found.asked <= found.limit:
        helps = f"ask for less (max_tokens), {helps}"
    else:
        helps = "ask for less (max_tokens), or have the budget raised"
    return (
        f"This request may cost {shown(found.asked)}, and of the {shown(found.limit)} that the"
        f" {whose} may spend per {found.period} {shown(found.remaining)} are left:"
        f" {helps}."
    )
