"""What a caller is told whose budget is spent, over HTTP: real books on SQLite, in one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from forebay.accounts.budgets import Books
from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.prices import Prices
from forebay.accounts.spending import Charged
from forebay.core.caller import RIGHTS, Account, Caller, Level, Role
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Outcome
from forebay.gateway.config import GatewayConfig
from forebay.serve.allowance import Allowance
from forebay.serve.bookkeeping import Bookkeeper, BudgetsConfig
from forebay.serve.cache import CacheConfig
from forebay.serve.limiter import MemoryLimiter
from forebay.serve.limits import Limits
from forebay.serve.limits_config import LimitsConfig
from forebay.serve.pipeline import Pipeline
from tests.support.asgi import Exchange, ask
from tests.support.books import named
from tests.support.gateways import CHAT, Stage, a_stage, chat, keys

ANN = Charged(level=Level.USER, account="ann")
CALLER = Caller(
    tenant="acme",
    user="ann",
    rights=RIGHTS[Role.USER],
    accounts=(Account(level=Level.USER, id="ann", budgeted=True),),
)
LIMIT = 1_000


@dataclass
class Shop:
    """A closed gateway whose one caller has a budget of `LIMIT` tokens a day."""

    stage: Stage
    books: Books
    keeper: Bookkeeper

    async def say(self, **fields: Any) -> Exchange:
        gateway = self.stage.gateway
        return await ask(gateway, "POST", CHAT, chat(**fields), authorization="Bearer ann")

    def left(self) -> int:
        (budget,) = self.books.find({ANN})
        return budget.remaining


@asynccontextmanager
async def a_shop(folder: Path) -> AsyncIterator[Shop]:
    database = Database(AccountsConfig(url=default_url(folder), timeout_s=20.0))
    database.migrate()
    books = Books(database)
    books.set_limit(named(ANN), LIMIT)
    keeper = Bookkeeper(
        books,
        Prices(),
        config=BudgetsConfig(answer_s_max=20.0),
        now=MONOTONIC,
        log=lambda *_, **__: None,
    )
    keeper.open()
    limits = Limits(MemoryLimiter(LimitsConfig(), MONOTONIC), LimitsConfig(), MONOTONIC)
    stage = a_stage(credentials=keys({"ann": CALLER}), limits=limits)
    pipeline = stage.gateway.pipeline
    assert isinstance(pipeline, Pipeline)
    allowance = Allowance(limits, keeper, MONOTONIC, most=lambda _: 50)
    stage.gateway.pipeline = replace(pipeline, allowance=allowance)
    stage.gateway.reconfigure(GatewayConfig(), CacheConfig())
    try:
        yield Shop(stage, books, keeper)
    finally:
        await keeper.close()
        database.close()


async def test_who_is_over_budget_is_told_so_in_openais_words(tmp_path: Path) -> None:
    async with a_shop(tmp_path) as shop:
        refused = await shop.say(max_tokens=LIMIT)
        assert refused.status == 429
        assert refused.json["error"]["code"] == "insufficient_quota"
        assert refused.json["error"]["type"] == "insufficient_quota"
        assert (
            f"of the {LIMIT} tokens that the user ann may spend" in refused.json["error"]["message"]
        )
        assert "retry-after" not in refused.headers, "clients would try for hours"
        assert shop.stage.record.outcome is Outcome.OVER_BUDGET
        assert shop.left() == LIMIT


async def test_an_answer_costs_its_budget_what_it_took_and_no_more(tmp_path: Path) -> None:
    async with a_shop(tmp_path) as shop:
        answer = await shop.say(max_tokens=500)
        assert answer.status == 200
        used = answer.json["usage"]["total_tokens"]
        await shop.keeper.close()  # what is settled is written behind its caller
        assert 0 < used < LIMIT / 2
        assert shop.left() == LIMIT - used
