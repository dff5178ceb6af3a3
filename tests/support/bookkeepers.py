"""Bookkeepers for tests, over a database in memory that may be away, slow or choosy."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from forebay.accounts.config import AccountsAway
from forebay.accounts.prices import Price, Prices
from forebay.accounts.spending import Ask, Granted, Reply, Settlement, Share, Unfit, Unit
from forebay.core.caller import Account, Caller
from forebay.core.clock import ManualClock
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

    async def close(self) -> None:
        """Let all of them write what is left."""
        self._keeps.open.set()
        self._keeps.away = False
        for keeper in self.opened:
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


async def reserve(keeper: Bookkeeper) -> object:
    """Reserve for somebody with budgets."""
    return await keeper.reserve(BUDGETED, MOST)
