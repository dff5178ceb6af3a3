"""Budgets for tests: databases of both kinds, asks and settlements, and processes that spend.

Run as a program (`python -m tests.support.books URL SEED THREADS AMOUNT`) it is a gateway that
spends from a budget until that is full, and says of each settlement what it spent, a line each:
a test may kill it at any moment.
"""

import contextlib
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import func, select

from forebay.accounts.budgets import Books
from forebay.accounts.config import AccountsAway, AccountsConfig
from forebay.accounts.database import Database
from forebay.accounts.schema import BUDGETS, RESERVATIONS, USAGE
from forebay.accounts.spending import (
    Ask,
    BudgetName,
    Charged,
    Full,
    Granted,
    Most,
    Period,
    Reply,
    Settlement,
    Unit,
    Usage,
)
from forebay.core.caller import Level

NOON: Final = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp())
MIDNIGHT: Final = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp())
ADA: Final = Charged(level=Level.USER, account="ada")
ACME: Final = Charged(level=Level.TENANT, account="acme")
KEY: Final = Charged(level=Level.KEY, account="k1")
_ROOT: Final = Path(__file__).parents[2]
_TRIES_MAX: Final = 200


class Wall:
    """A wall clock that moves when it is told to."""

    def __init__(self, at: int = NOON) -> None:
        self.at = at

    def __call__(self) -> float:
        return float(self.at)


def a_database(url: str, connections_max: int = 8) -> Database:
    """Return a database with its tables; patient, because machines are shared."""
    config = AccountsConfig(url=url, timeout_s=20.0, connections_max=connections_max)
    database = Database(config)
    database.migrate()
    return database


def named(of: Charged = ADA, unit: Unit = Unit.TOKENS, period: Period = Period.DAY) -> BudgetName:
    return BudgetName(of=of, unit=unit, period=period)


def an_ask(id: str, tokens: int, *charged: Charged, nanos: int = 0, lasts_s: int = 600) -> Ask:
    return Ask(
        id=id, charged=charged or (ADA,), most=Most(tokens=tokens, nanos=nanos), lasts_s=lasts_s
    )


def a_usage(id: str, tokens: int, **facts: Any) -> Usage:
    known: dict[str, Any] = {
        "id": id,
        "request_id": "chosen-by-the-client",
        "at": NOON,
        "tenant": "acme",
        "user": "ada",
        "key_id": "k1",
        "model": "chat",
        "outcome": "ok",
        "prompt_tokens": 0,
        "completion_tokens": tokens,
        "nanos": 0,
    }
    return Usage(**(known | facts))


def granted(reply: Reply) -> Granted:
    assert isinstance(reply, Granted), reply
    return reply


def refused(reply: Reply) -> Full:
    assert isinstance(reply, Full), reply
    return reply


def reserve(books: Books, ask: Ask) -> Reply:
    (reply,) = books.write([ask]).replies
    return reply


def settle(books: Books, id: str, reply: Reply, tokens: int, **facts: Any) -> None:
    """Settle a reservation; with 0 tokens it is only given back."""
    shares = granted(reply).shares
    facts = {"at": granted(reply).at} | facts
    usage = a_usage(id, tokens, **facts) if tokens else None
    books.write((), [Settlement(id=id, shares=shares, usage=usage)])


@dataclass(frozen=True, slots=True)
class Sums:
    """What stands in the tables, all budgets together."""

    spent: int
    reserved: int
    held: int
    """The sum of the reservations' rows."""
    used: int
    """The sum of the ledger's tokens."""
    rows: int


def sums(database: Database) -> Sums:
    made = USAGE.c.prompt_tokens + USAGE.c.completion_tokens
    with database.reading() as connection:

        def one(what: Any) -> int:
            return int(connection.scalar(select(what)) or 0)

        return Sums(
            spent=one(func.sum(BUDGETS.c.spent)),
            reserved=one(func.sum(BUDGETS.c.reserved)),
            held=one(func.sum(RESERVATIONS.c.amount)),
            used=one(func.sum(made)),
            rows=one(func.count(USAGE.c.id)),
        )


class Spender:
    """One of many who spend from the same budgets until they are full."""

    def __init__(self, books: Books, seed: int, *charged: Charged, wasteful: bool = False) -> None:
        self._books = books
        self._random = random.Random(seed)
        self._charged = charged
        self._wasteful = wasteful
        self.spent = 0

    def run(self, amount: int, said: Callable[[int], None] = lambda _: None) -> None:
        """Spend `amount` a time until it is refused; the wasteful leave having spent less."""
        while True:
            id = f"{self._random.getrandbits(128):032x}"
            ask = an_ask(id, amount, *self._charged)
            reply = self._patiently(id, partial(reserve, self._books, ask))
            if isinstance(reply, Full):
                return
            less = (amount, amount, amount - 1, 0)
            spent = self._random.choice(less) if self._wasteful else amount
            self._patiently("", partial(settle, self._books, id, reply, spent))
            said(spent)
            self.spent += spent

    def _patiently(self, release: str, act: Callable[[], Any]) -> Any:
        """Try again while others have the database; what may have been reserved is given back."""
        for _ in range(_TRIES_MAX):
            try:
                return act()
            except AccountsAway:
                if release:
                    back = Settlement(id=release, unreserved=self._charged)
                    self._patiently("", partial(self._books.write, (), [back]))
        raise AssertionError("the database is away")


def run_all(spenders: Sequence[Spender], amount: int) -> int:
    """Let all spend at once until all are refused; return what they have spent."""
    running = [threading.Thread(target=each.run, args=(amount,)) for each in spenders]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(each.spent for each in spenders)


class SpendingProcess:
    """A process of spenders on one budget; what it said until it ended or was killed."""

    def __init__(self, url: str, seed: int, *, threads: int, amount: int) -> None:
        command = [sys.executable, "-m", "tests.support.books", url]
        command += [str(each) for each in (seed, threads, amount)]
        self.process = subprocess.Popen(
            command, cwd=_ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin, self.process.stdout
        self.spent = 0

    def __enter__(self) -> Self:
        """Wait until it is ready."""
        assert self._out.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._out.close()
        with contextlib.suppress(BrokenPipeError):
            self._in.close()

    def go(self, *, wastefully: bool = False) -> None:
        """Let it begin."""
        self._in.write("go wastefully\n" if wastefully else "go\n")
        self._in.flush()

    def read(self, settlements: int) -> None:
        """Wait until it has said that so many more were settled, or until it ends."""
        for line in islice(self._out, settlements):
            self.spent += int(line)

    def end(self) -> int:
        """Wait until it ends; return its status."""
        for line in self._out:
            # A last line without an end was cut off by its death.
            self.spent += int(line) if line.endswith("\n") else 0
        return self.process.wait()


def _spend(url: str, seed: int, threads: int, amount: int) -> None:
    database = a_database(url)
    books = Books(database, clock=Wall())
    lock = threading.Lock()

    def said(spent: int) -> None:
        with lock:
            sys.stdout.write(f"{spent}\n")
            sys.stdout.flush()

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    wasteful = sys.stdin.readline() == "go wastefully\n"
    running = []
    for index in range(threads):
        spender = Spender(books, seed * 1_000 + index, ADA, wasteful=wasteful)
        running.append(threading.Thread(target=spender.run, args=(amount, said)))
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    database.close()


if __name__ == "__main__":
    _spend(sys.argv[1], *map(int, sys.argv[2:]))
