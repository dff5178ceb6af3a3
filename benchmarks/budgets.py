"""What a budget costs a request: reserve and settle, by group commit and by one commit each.

Both run the same bookkeeper over the same kind of database, in turns; only in the second each ask
and each settlement is a transaction of its own.  Without an address (`python -m benchmarks.budgets
URL`) the database is a SQLite file on this machine's disk.

Predicted before the first run (2 cores, SQLite with synchronous=FULL, a commit of 2 to 4 ms): at
one request at a time no difference beyond noise, ratio 0.9 to 1.1, and 3 to 6 ms until reserved;
at 10 at once a ratio of 4 to 6; at 100 at once 10 to 20, some 2,000 requests/s against 130.  A
caller without a budget pays under 50 us, whatever the database does.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from forebay.accounts.budgets import Books, Written
from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.prices import Price, Prices
from forebay.accounts.spending import (
    Ask,
    BudgetName,
    Charged,
    Period,
    Reply,
    Settlement,
    Unit,
)
from forebay.bench.machine import facts
from forebay.bench.stats import median, percentile
from forebay.core.caller import Account, Caller, Level
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Outcome
from forebay.core.request import Chat, Message, Request, RequestId, Role, Route, Sampling
from forebay.serve.allowance import Cost
from forebay.serve.bookkeeping import Bookkeeper, BudgetsConfig

AT_ONCE: Final = (1, 10, 100)
ROUNDS: Final = 3
SECONDS: Final = 2.0
_MOST: Final = Cost(prompt_tokens=100, completion_tokens=400)
_SPENT: Final = Cost(prompt_tokens=90, completion_tokens=120)
_LEVELS: Final = (Level.KEY, Level.USER, Level.TENANT)


class OneEach:
    """Books that make a transaction of each ask and of each settlement."""

    def __init__(self, books: Books) -> None:
        """Write to `books`."""
        self._books = books

    def write(self, asks: Sequence[Ask] = (), settlements: Sequence[Settlement] = ()) -> Written:
        """Settle and reserve, one after another."""
        replies: list[Reply] = []
        for settlement in settlements:
            self._books.write((), (settlement,))
        for ask in asks:
            replies += self._books.write((ask,)).replies
        return Written(replies=tuple(replies), rows=0, overruns=0, late=0)

    def sweep(self) -> int:
        """Sweep nothing."""
        return 0

    def prune(self, keep_s: int, rows_max: int) -> int:  # noqa: ARG002 - as the books do
        """Delete nothing."""
        return 0


def run(url: str = "") -> dict[str, Any]:
    """Measure each number of requests at once, both ways in turns; return what was found."""
    with tempfile.TemporaryDirectory(prefix="forebay-budgets-") as folder:
        database = Database(AccountsConfig(url=url or default_url(Path(folder)), timeout_s=30.0))
        database.migrate()
        books = Books(database)
        for level in _LEVELS:
            for unit in Unit:
                of = Charged(level=level, account="bench")
                name = BudgetName(of=of, unit=unit, period=Period.MONTH)
                books.set_limit(name, 10**15)
        rows = [
            {"at_once": at_once, "round": number, "way": way}
            | asyncio.run(_measure(at_once, keeps))
            for at_once in AT_ONCE
            for number in range(ROUNDS)
            for way, keeps in (("grouped", books), ("one each", OneEach(books)))
        ]
        rich = asyncio.run(_rich(books))
        database.close()
    return {"machine": facts(), "database": repr(database), "rows": rows, "unbudgeted_us": rich}


async def _measure(at_once: int, keeps: Books | OneEach) -> dict[str, float]:
    keeper = _keeper(keeps)
    until, waits = time.perf_counter() + SECONDS, list[float]()
    request = _request(budgeted=True)

    async def client() -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            reserved = await keeper.reserve(request, _MOST)
            waits.append(time.perf_counter() - began)
            keeper.settle(reserved, _SPENT, outcome=Outcome.OK)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_once)))
    await keeper.close()
    took_s = time.perf_counter() - began
    waits.sort()
    return {
        "per_s": len(waits) / took_s,
        "reserve_ms_p50": 1_000 * percentile(waits, 0.5),
        "reserve_ms_p99": 1_000 * percentile(waits, 0.99),
    }


async def _rich(books: Books) -> float:
    """Return what a caller without budgets pays for its row, in microseconds."""
    keeper, request, count = _keeper(books), _request(budgeted=False), 5_000
    began = time.perf_counter()
    for _ in range(count):
        keeper.settle(await keeper.reserve(request, _MOST), _SPENT, outcome=Outcome.OK)
    took_s = time.perf_counter() - began
    await keeper.close()
    return 1e6 * took_s / count


def _keeper(keeps: Books | OneEach) -> Bookkeeper:
    config = BudgetsConfig(answer_s_max=60.0, closing_s=60.0)
    prices = Prices(by_model={"m": Price(prompt=150, completion=600)})
    keeper = Bookkeeper(keeps, prices, config=config, now=MONOTONIC, log=_quiet)
    keeper.open()
    return keeper


def _quiet(event: str, /, **fields: str | float | bool | None) -> None:
    """Say nothing: nothing is expected to go wrong."""


def _request(*, budgeted: bool) -> Request:
    accounts = tuple(Account(level=level, id="bench", budgeted=budgeted) for level in _LEVELS)
    return Request(
        id=RequestId("bench"),
        route=Route.CHAT_COMPLETIONS,
        model="m",
        prompt=Chat(messages=(Message(role=Role.USER, content="hello"),)),
        sampling=Sampling(),
        received=0.0,
        deadline=MONOTONIC() + 600.0,
        caller=Caller(tenant="bench", user="bench", key_id="bench", accounts=accounts),
    )


def report(measured: dict[str, Any]) -> str:
    """Return a table: medians of the rounds."""
    lines = [
        f"Reserve and settle, six budgets a request, {measured['database']}",
        "",
        "| at once | way | requests/s | reserved in, p50 ms | p99 ms | ratio |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for at_once in AT_ONCE:
        slow = 0.0
        for way in ("one each", "grouped"):
            rows = [
                row for row in measured["rows"] if (row["at_once"], row["way"]) == (at_once, way)
            ]
            per_s, p50, p99 = (
                median([row[name] for row in rows])
                for name in ("per_s", "reserve_ms_p50", "reserve_ms_p99")
            )
            slow = slow or per_s
            lines.append(
                f"| {at_once} | {way} | {per_s:,.0f} | {p50:.1f} | {p99:.1f} | {per_s / slow:.1f} |"
            )
    lines += ["", f"Without a budget: {measured['unbudgeted_us']:.0f} us a request."]
    return "\n".join(lines)


if __name__ == "__main__":
    found = run(*sys.argv[1:2])
    text = report(found)
    kind = "budgets-postgresql" if sys.argv[1:] else "budgets"
    print(text)
    print(f"\n{machine.save(kind, found, text)}")
