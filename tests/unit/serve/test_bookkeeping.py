import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from forebay.accounts.config import AccountsAway
from forebay.accounts.prices import Price, Prices
from forebay.accounts.spending import (
    Ask,
    Full,
    Granted,
    Most,
    Period,
    Reply,
    Settlement,
    Share,
    Unfit,
    Unit,
)
from forebay.core.caller import Account, Caller
from forebay.core.clock import ManualClock
from forebay.core.errors import Outcome, OverBudget, Overloaded
from forebay.core.request import Request
from forebay.serve.allowance import Cost
from forebay.serve.bookkeeping import Bookkeeper, BudgetsConfig
from tests.support.books import ACME, ADA, KEY, NOON, Wall
from tests.support.redis import Said
from tests.support.requests import a_request

WAIT_S = 10.0
PRICES = Prices(by_model={"m": Price(prompt=10, completion=100)})
CONFIG = BudgetsConfig(flush_s=0.01, answer_s_max=WAIT_S, closing_s=WAIT_S)
SPENT = Cost(prompt_tokens=3, completion_tokens=4)
MOST = Cost(prompt_tokens=5, completion_tokens=50)


@dataclass(frozen=True, slots=True)
class Done:
    """What one transaction did."""

    replies: Sequence[Reply]
    overruns: int = 0
    late: int = 0


class Keeps:
    """A database in memory: it notes every transaction, and may be away, slow or choosy."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[Ask], list[Settlement]]] = []
        self.away = False
        self.unfit = ""
        self.reply: Reply | None = None
        self.overruns = 0
        self.sweeps = 0
        self.begun = threading.Semaphore(0)
        self.wrote = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def write(self, asks: Sequence[Ask] = (), settlements: Sequence[Settlement] = ()) -> Done:
        self.begun.release()
        assert self.open.wait(WAIT_S)
        if self.away:
            raise AccountsAway
        if self.unfit in {each.id for each in settlements}:
            raise Unfit
        self.batches.append((list(asks), list(settlements)))
        self.wrote.release()
        return Done([self.reply or granted(ask) for ask in asks], self.overruns)

    def sweep(self) -> int:
        self.sweeps += 1
        return 0

    def prune(self, keep_s: int, rows_max: int) -> int:
        return 0

    @property
    def settled(self) -> list[Settlement]:
        return [each for _, settlements in self.batches for each in settlements]


def granted(ask: Ask, *, money: bool = True) -> Granted:
    shares = [
        Share(budget_id=1, unit=Unit.TOKENS, amount=ask.most.tokens, window_start=0),
        Share(budget_id=2, unit=Unit.NANOS, amount=ask.most.nanos, window_start=0),
    ]
    return Granted(shares=tuple(shares), at=NOON, money=money)


@pytest.fixture
def keeps() -> Keeps:
    return Keeps()


@pytest.fixture
def said() -> Said:
    return Said()


class Desk:
    """Bookkeepers under test."""

    def __init__(self, keeps: Keeps, said: Said) -> None:
        self._keeps, self._said = keeps, said
        self.opened: list[Bookkeeper] = []
        self.clock = ManualClock(100.0)

    def keeper(self, **facts: Any) -> Bookkeeper:
        keeper = Bookkeeper(
            self._keeps,
            PRICES,
            config=replace(CONFIG, **facts),
            now=self.clock,
            log=self._said,
            wall=Wall(),
        )
        keeper.open()
        self.opened.append(keeper)
        return keeper


@pytest.fixture
async def desk(keeps: Keeps, said: Said) -> AsyncIterator[Desk]:
    desk = Desk(keeps, said)
    yield desk
    keeps.open.set()
    keeps.away = False
    for keeper in desk.opened:
        await keeper.close()


def asked_by(*, budgeted: bool, **facts: Any) -> Request:
    accounts = tuple(
        Account(level=each.level, id=each.account, budgeted=budgeted and each is not KEY)
        for each in (KEY, ADA, ACME)
    )
    caller = Caller(tenant="acme", user="ada", key_id="k1", accounts=accounts)
    return a_request(**({"tenant": "acme", "caller": caller, "deadline": 130.0} | facts))


RICH = asked_by(budgeted=False)
BUDGETED = asked_by(budgeted=True)


async def until(semaphore: threading.Semaphore, times: int = 1) -> None:
    """Wait until the thread got there so many times."""
    for _ in range(times):
        assert await asyncio.to_thread(semaphore.acquire, timeout=WAIT_S)


async def test_the_most_that_a_request_can_cost_is_reserved_before(
    desk: Desk, keeps: Keeps
) -> None:
    await desk.keeper().reserve(BUDGETED, MOST)
    (ask,) = keeps.batches[0][0]
    assert ask.charged == (ADA, ACME), "the key has no budget"
    assert ask.most == Most(tokens=55, nanos=5_050)
    assert ask.lasts_s == 30 + 60, "until the deadline, and the grace"


async def test_what_was_spent_is_settled_after(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    keeper.settle(await keeper.reserve(BUDGETED, MOST), SPENT, outcome=Outcome.CANCELLED)
    await keeper.close()
    (settlement,) = keeps.settled
    assert settlement.id == keeps.batches[0][0][0].id
    assert [share.amount for share in settlement.shares] == [55, 5_050]
    usage = settlement.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.nanos) == (3, 4, 430)
    assert (usage.user, usage.tenant, usage.key_id, usage.model) == ("ada", "acme", "k1", "m")
    assert (usage.outcome, usage.at, usage.request_id) == ("cancelled", NOON, "req-1")


async def test_settling_twice_is_settling_once(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    for request in (BUDGETED, RICH):
        reserved = await keeper.reserve(request, MOST)
        keeper.settle(reserved, SPENT, outcome=Outcome.OK)
        keeper.settle(reserved, SPENT, outcome=Outcome.OK)
    await keeper.close()
    assert len(keeps.settled) == 2


async def test_what_made_nothing_is_given_back_and_stands_in_no_ledger(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper()
    keeper.settle(await keeper.reserve(RICH, MOST), Cost(), outcome=Outcome.OVERLOADED)
    keeper.settle(await keeper.reserve(BUDGETED, MOST), Cost(), outcome=Outcome.OVERLOADED)
    await keeper.close()
    (settlement,) = keeps.settled
    assert settlement.usage is None
    assert settlement.shares


async def test_a_caller_without_budgets_never_waits_for_the_database(
    desk: Desk, keeps: Keeps
) -> None:
    keeps.open.clear()
    keeper = desk.keeper()
    coroutine = keeper.reserve(RICH, MOST)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)  # it ends without ever waiting
    keeper.settle(ended.value.value, SPENT, outcome=Outcome.OK)
    assert keeper.stats().rows_pending == 1
    keeps.open.set()
    await keeper.close()
    assert keeps.settled[0].usage is not None
    assert keeps.settled[0].shares == ()


async def test_what_gathers_during_one_transaction_is_written_in_the_next(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper()
    keeps.open.clear()
    first = asyncio.create_task(_reserve(keeper))
    await until(keeps.begun)
    rest = [asyncio.create_task(_reserve(keeper)) for _ in range(50)]
    keeper.settle(await keeper.reserve(RICH, MOST), SPENT, outcome=Outcome.OK)
    await asyncio.sleep(0)
    keeps.open.set()
    await asyncio.gather(first, *rest)
    assert [len(asks) for asks, _ in keeps.batches] == [1, 50]
    assert len({ask.id for asks, _ in keeps.batches for ask in asks}) == 51


async def _reserve(keeper: Bookkeeper) -> object:
    return await keeper.reserve(BUDGETED, MOST)


@pytest.mark.parametrize(
    ("unit", "asked", "words"),
    [
        (
            Unit.TOKENS,
            55,
            (
                "This request may cost 55 tokens, and of the 100 tokens that the user ada may spend"
                " per day 20 tokens are left: ask for less (max_tokens), wait until"
                " 2026-11-21 12:01 UTC, or have the budget raised."
            ),
        ),
        (
            Unit.NANOS,
            550,
            (
                "This request may cost 0.00000055 USD, and of the 0.0000001 USD that the user ada"
                " may spend per day 0.00000002 USD are left: ask for less (max_tokens), or have the"
                " budget raised."
            ),
        ),
    ],
)
async def test_a_refusal_says_which_budget_and_what_helps(
    desk: Desk, keeps: Keeps, unit: Unit, asked: int, words: str
) -> None:
    facts: dict[str, Any] = {"of": ADA, "period": Period.DAY, "resets_in_s": 60}
    keeps.reply = Full(**facts, unit=unit, limit=100, remaining=20, asked=asked)
    keeper = desk.keeper()
    with pytest.raises(OverBudget) as caught:
        await keeper.reserve(BUDGETED, MOST)
    assert caught.value.message == words
    assert list(keeper.holdings()) == []


async def test_while_the_database_is_away_callers_with_budgets_are_refused(
    desk: Desk, keeps: Keeps, said: Said
) -> None:
    keeper = desk.keeper()
    keeps.away = True
    for _ in range(2):
        with pytest.raises(Overloaded, match="Your budget cannot be checked") as caught:
            await keeper.reserve(BUDGETED, MOST)
        assert caught.value.retry_after_s == 1.0
    assert keeper.stats().away
    assert said.names == ["books.away"], "said once"


async def test_what_may_have_been_reserved_while_it_went_away_is_given_back(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper()
    keeps.away = True
    with pytest.raises(Overloaded):
        await keeper.reserve(BUDGETED, MOST)
    keeps.away = False
    await keeper.close()
    (settlement,) = keeps.settled
    assert (settlement.unreserved, settlement.usage) == ((ADA, ACME), None)


async def test_rows_of_callers_without_budgets_are_kept_until_it_is_back(
    desk: Desk, keeps: Keeps, said: Said
) -> None:
    keeper = desk.keeper()
    keeps.away = True
    for _ in range(3):
        keeper.settle(await keeper.reserve(RICH, MOST), SPENT, outcome=Outcome.OK)
    await until(keeps.begun)
    assert keeper.stats().rows_pending == 3
    keeps.away = False
    await until(keeps.wrote)
    await keeper.close()
    assert len(keeps.settled) == 3
    assert said.names == ["books.away", "books.back"]


async def test_rows_beyond_the_most_are_lost_loudly(desk: Desk, keeps: Keeps, said: Said) -> None:
    keeper = desk.keeper(rows_max=2)
    keeps.open.clear()
    for _ in range(5):
        keeper.settle(await keeper.reserve(RICH, MOST), SPENT, outcome=Outcome.OK)
    stats = keeper.stats()
    assert (stats.rows_pending, stats.rows_lost) == (2, 3)
    assert said.names == ["usage.lost"]
    keeps.open.set()
    await keeper.close()
    assert len(keeps.settled) == 2


async def test_what_was_reserved_is_settled_however_many_rows_wait(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper(rows_max=1)
    reserved = [await keeper.reserve(BUDGETED, MOST) for _ in range(5)]
    keeps.open.clear()
    for each in reserved:
        keeper.settle(each, SPENT, outcome=Outcome.OK)
    assert keeper.stats().rows_lost == 0
    keeps.open.set()
    await keeper.close()
    assert len(keeps.settled) == 5


async def test_who_chooses_so_lets_budgets_go_while_the_database_is_away_and_charges_later(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper(when_away="allow")
    keeps.away = True
    keeper.settle(await keeper.reserve(BUDGETED, MOST), SPENT, outcome=Outcome.OK)
    keeps.away = False
    await keeper.close()
    (settlement,) = keeps.settled
    assert settlement.unreserved == (ADA, ACME)
    assert settlement.spent == Most(tokens=7, nanos=430)


async def test_a_caller_who_leaves_while_it_waits_holds_nothing(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    keeps.open.clear()
    waiting = asyncio.create_task(_reserve(keeper))
    await until(keeps.begun)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    keeps.open.set()
    await keeper.close()
    ((asks, _), (_, (settlement,))) = keeps.batches
    assert (settlement.id, settlement.unreserved) == (asks[0].id, (ADA, ACME))
    assert list(keeper.holdings()) == []


async def test_who_left_before_it_was_asked_is_not_reserved_for(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    keeps.open.clear()
    first = asyncio.create_task(_reserve(keeper))
    await until(keeps.begun)
    second = asyncio.create_task(_reserve(keeper))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    keeps.open.set()
    await first
    await keeper.close()
    assert sum(len(asks) for asks, _ in keeps.batches) == 1


async def test_a_database_that_hangs_is_not_waited_for_longer_than_is_said(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper(answer_s_max=0.05)
    keeps.open.clear()
    with pytest.raises(Overloaded):
        await keeper.reserve(BUDGETED, MOST)
    keeps.open.set()
    await keeper.close()
    (ask,) = keeps.batches[0][0]
    assert [each.id for each in keeps.settled] == [ask.id], "given back"


async def test_one_row_that_the_database_refuses_is_lost_alone(
    desk: Desk, keeps: Keeps, said: Said
) -> None:
    keeper = desk.keeper()
    keeps.open.clear()
    reserved = [await keeper.reserve(RICH, MOST) for _ in range(4)]
    for each in reserved:
        keeper.settle(each, SPENT, outcome=Outcome.OK)
    keeps.unfit = reserved[1].id  # type: ignore[attr-defined]
    keeps.open.set()
    await keeper.close()
    assert [each.id for each in keeps.settled] == [
        each.id  # type: ignore[attr-defined]
        for each in reserved
        if each is not reserved[1]
    ]
    assert keeper.stats().rows_lost == 1
    assert said.names == ["usage.lost"]


async def test_what_cannot_be_written_before_the_end_is_lost_loudly(
    keeps: Keeps, said: Said
) -> None:
    keeper = Desk(keeps, said).keeper(closing_s=0.1)
    keeper.settle(await keeper.reserve(RICH, MOST), SPENT, outcome=Outcome.OK)
    keeps.away = True
    await keeper.close()
    assert (keeper.stats().rows_lost, said.names[-1]) == (1, "usage.lost")


async def test_a_closed_bookkeeper_refuses_callers_with_budgets(desk: Desk) -> None:
    keeper = desk.keeper()
    await keeper.close()
    with pytest.raises(Overloaded):
        await keeper.reserve(BUDGETED, MOST)


async def test_a_model_without_a_price_is_named_once_where_there_are_money_budgets(
    desk: Desk, said: Said
) -> None:
    keeper = desk.keeper()
    for model in ("m", "free", "free", "m:version"):
        request = asked_by(budgeted=True, model=model)
        keeper.settle(await keeper.reserve(request, MOST), SPENT, outcome=Outcome.OK)
    assert said.events == [("budget.unpriced", {"model": "free"})]


async def test_what_is_reserved_keeps_the_price_that_it_was_reserved_at(
    desk: Desk, keeps: Keeps
) -> None:
    keeper = desk.keeper()
    reserved = await keeper.reserve(BUDGETED, MOST)
    keeper.prices = Prices(by_model={"m": Price(prompt=10**6, completion=10**6)})
    keeper.settle(reserved, SPENT, outcome=Outcome.OK)
    await keeper.close()
    assert keeps.settled[0].spent.nanos == 430


async def test_an_overrun_is_counted_and_said(desk: Desk, keeps: Keeps, said: Said) -> None:
    keeper = desk.keeper()
    reserved = await keeper.reserve(BUDGETED, MOST)
    keeps.overruns = 1
    keeper.settle(reserved, Cost(completion_tokens=10_000), outcome=Outcome.OK)
    await keeper.close()
    assert keeper.stats().overruns == 1
    assert said.names == ["budget.overrun"]


async def test_what_is_held_is_listed_until_it_is_settled(desk: Desk) -> None:
    keeper = desk.keeper()
    await keeper.reserve(RICH, MOST)
    reserved = await keeper.reserve(BUDGETED, MOST)
    (holding,) = keeper.holdings()
    assert (holding.kind, holding.owner, holding.tenant) == ("reservation", "req-1", "acme")
    assert (holding.amount, holding.since, holding.expires) == (55, 100.0, 190.0)
    assert (keeper.stats().reservations, keeper.stats().reserved_tokens) == (1, 55)
    keeper.settle(reserved, SPENT, outcome=Outcome.OK)
    assert list(keeper.holdings()) == []


async def test_two_requests_of_one_id_are_two_reservations(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    for _ in range(2):
        keeper.settle(await keeper.reserve(BUDGETED, MOST), SPENT, outcome=Outcome.OK)
    await keeper.close()
    assert len({each.id for each in keeps.settled}) == 2
    assert len(keeps.settled) == 2


async def test_reservations_of_dead_gateways_are_looked_for(desk: Desk, keeps: Keeps) -> None:
    keeper = desk.keeper()
    await keeper.reserve(BUDGETED, MOST)
    await keeper.close()
    assert keeps.sweeps >= 1
