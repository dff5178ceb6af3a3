"""One thread that owns the work on budgets, and writes what has gathered meanwhile together.

Theory of operation
-------------------
Three queues lead to the thread.  *Asks* have somebody who waits.  *Settlements* of what was
reserved have nobody, but free room for others: both are taken at once, and while one commit waits
for the disk the next batch gathers.  *Rows* of callers without budgets free nothing: they wait up
to `flush_s` for company.

A settlement leaves its queue only once it is written.  If the database is away, asks are told so
at once, and settlements stay; the thread tries again every `_REST_S`.  Of rows at most `rows_max`
are kept, and those that come later are counted as lost.  Settlements of reservations are not
bounded here: there are no more of them than requests that had one.

One row that the database refuses would keep all others from it for ever: then each is written by
itself, and the one is lost.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from forebay.accounts.config import AccountsAway
from forebay.accounts.spending import Ask, Reply, Settlement, Unfit
from forebay.core.record import EventLog

BATCH_MAX: Final = 256
"""Most asks, and most settlements, in one transaction: other gateways wait for its locks."""
_ASKS_MAX: Final = 8_192
_REST_S: Final = 0.25
_SWEEP_S: Final = 5.0
"""Pause between two looks for reservations of gateways that died."""
_PRUNE_S: Final = 600.0
_PRUNED_MAX: Final = 1_000
"""Most old rows that are deleted in one go."""
_OVERRUN_S: Final = 60.0
"""Pause between two lines about engines that make more than was forecast: one may always do."""


class Wrote(Protocol):
    """What one transaction did; see `accounts.budgets.Written`."""

    @property
    def replies(self) -> Sequence[Reply]:
        """One per ask, in their order."""

    @property
    def overruns(self) -> int:
        """Settlements that cost more than was reserved."""

    @property
    def late(self) -> int:
        """Settlements whose reservation had expired."""


class Keeps(Protocol):
    """Where budgets are kept: `accounts.budgets.Books`.  Each call is one transaction.

    1. What it returns is durable.  2. If it raises, nothing happened, or it is not known whether.
    3. A settlement that was written before changes nothing.
    """

    def write(self, asks: Sequence[Ask] = (), settlements: Sequence[Settlement] = ()) -> Wrote:
        """Settle, then reserve; raises AccountsAway, or Unfit."""

    def sweep(self) -> int:
        """Give expired reservations back; raises AccountsAway."""

    def prune(self, keep_s: int, rows_max: int) -> int:
        """Delete some rows older than that, and return how many; raises AccountsAway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterBounds:
    """How much is kept, and for how long."""

    rows_max: int
    flush_s: float
    closing_s: float
    usage_s_max: float


@dataclass(frozen=True, slots=True)
class _Asked:
    ask: Ask
    future: asyncio.Future[Reply]


class BookWriter:
    """Writes asks and settlements; `ask` and `settle` never block."""

    def __init__(self, keeps: Keeps, bounds: WriterBounds, *, log: EventLog) -> None:
        """Write to `keeps`, from a thread that `open` starts."""
        self._keeps = keeps
        self._bounds = bounds
        self._log = log
        # The whole mutable state.  Counters are changed by the thread or under the lock, and read
        # by anybody.  `away`: the last thing that was tried failed.
        self.away = False
        self.lost = self.overruns = self.late = 0
        self._said_lost = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ending_at: float | None = None
        # Under the lock.
        self._change = threading.Condition()
        self._asks: deque[_Asked] = deque()
        self._settlements: deque[Settlement] = deque()
        self._rows: deque[Settlement] = deque()
        self._flush_at = 0.0
        # Of the thread.
        self._retry_at = self._sweep_at = self._prune_at = self._overrun_at = 0.0

    @property
    def pending(self) -> int:
        """Settlements that are not written yet."""
        return len(self._settlements) + len(self._rows)

    def open(self) -> None:
        """Start the thread."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="forebay-books", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Write what is left and end the thread; what cannot be written in time is lost."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._change:
            self._ending_at = time.monotonic() + self._bounds.closing_s
            self._change.notify()
        await asyncio.to_thread(thread.join, self._bounds.closing_s + 1.0)
        if left := self.pending:
            self._said_lost = False
            self._lose(left, "the database was away at the end")

    def ask(self, ask: Ask) -> asyncio.Future[Reply]:
        """Have something reserved; raises AccountsAway where nobody would get to it."""
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            raise AccountsAway
        if len(self._asks) >= _ASKS_MAX:
            raise AccountsAway
        future: asyncio.Future[Reply] = self._loop.create_future()
        with self._change:
            self._asks.append(_Asked(ask, future))
            self._change.notify()
        return future

    def settle(self, settlement: Settlement) -> None:
        """Have something settled."""
        with self._change:
            if settlement.shares or settlement.unreserved:
                self._settlements.append(settlement)
            elif len(self._rows) < self._bounds.rows_max:
                if not self._rows:
                    self._flush_at = time.monotonic() + self._bounds.flush_s
                self._rows.append(settlement)
                if len(self._rows) not in (1, BATCH_MAX):
                    return
            else:
                self._lose(1, "more than budgets.rows_max wait")
                return
            self._change.notify()

    def _lose(self, rows: int, reason: str) -> None:
        """Count rows that will never be written; say so, once until the database is back."""
        with self._change:
            self.lost += rows
            said, self._said_lost = self._said_lost, True
        if not said:
            self._log("usage.lost", rows=rows, reason=reason)

    # What follows runs in the thread.

    def _run(self) -> None:
        while self._wait():
            asks, settlements = self._batch()
            if asks or settlements:
                self._write(asks, settlements)
            self._tidy()

    def _wait(self) -> bool:
        """Sleep until there is something to do; False: it is the end."""
        with self._change:
            while True:
                now = time.monotonic()
                due_s = self._due_s(now)
                if self._ending_at is not None:
                    if not (self._asks or self.pending) or now >= self._ending_at:
                        return False
                    due_s = max(0.0, self._retry_at - now) if self.away else 0.0
                if due_s <= 0.0:
                    return True
                self._change.wait(due_s)

    def _due_s(self, now: float) -> float:
        """Return the seconds until something is to be done, if nothing changes."""
        if self._asks:
            return 0.0
        due = min(self._sweep_at, self._prune_at)
        if self._settlements:
            due = now
        elif self._rows:
            due = min(due, now if len(self._rows) >= BATCH_MAX else self._flush_at)
        return max(due, self._retry_at) - now

    def _batch(self) -> tuple[list[_Asked], list[Settlement]]:
        """Take asks, and look at settlements, which stay until they are written."""
        with self._change:
            asks = [self._asks.popleft() for _ in range(min(len(self._asks), BATCH_MAX))]
            settlements = list(islice(self._settlements, BATCH_MAX))
            settlements += islice(self._rows, BATCH_MAX - len(settlements))
        return [each for each in asks if not each.future.done()], settlements

    def _written(self, settlements: Sequence[Settlement]) -> None:
        with self._change:
            for each in settlements:
                held = each.shares or each.unreserved
                (self._settlements if held else self._rows).popleft()
            self._flush_at = time.monotonic() + self._bounds.flush_s

    def _write(self, asks: Sequence[_Asked], settlements: Sequence[Settlement]) -> None:
        if time.monotonic() < self._retry_at:
            self._tell(asks, None)
            return
        try:
            wrote = self._keeps.write([each.ask for each in asks], settlements)
        except AccountsAway as error:
            self._note(error)
            self._tell(asks, None)
        except Unfit:
            self._write_one_by_one(asks, settlements)
        else:
            self._note(None)
            self._written(settlements)
            self._count(wrote)
            self._tell(asks, wrote.replies)

    def _write_one_by_one(self, asks: Sequence[_Asked], settlements: Sequence[Settlement]) -> None:
        """Find what cannot be written, and go on without it."""
        if len(asks) + len(settlements) > 1:
            for settlement in settlements:
                if not self.away:
                    self._write((), (settlement,))
            for asked in asks:
                self._write((asked,), ())
            return
        self._tell(asks, None)
        if settlements:
            self._written(settlements)
            self._lose(1, "the database does not take it")

    def _count(self, wrote: Wrote) -> None:
        self.late += wrote.late
        if wrote.overruns:
            self.overruns += wrote.overruns
            if (now := time.monotonic()) >= self._overrun_at:
                self._overrun_at = now + _OVERRUN_S
                self._log("budget.overrun", requests=self.overruns)

    def _tell(self, asks: Sequence[_Asked], replies: Sequence[Reply] | None) -> None:
        """Answer those who asked; without replies, that the database is away."""
        if asks:
            assert self._loop is not None
            with contextlib.suppress(RuntimeError):  # the loop is gone, and who asked with it
                self._loop.call_soon_threadsafe(_deliver, asks, replies)

    def _note(self, error: BaseException | None) -> None:
        """Log that the database went away, or came back; rest before it is asked again."""
        self._retry_at = 0.0 if error is None else time.monotonic() + _REST_S
        if self.away == (error is not None):
            return
        self.away = error is not None
        if error is None:
            self._said_lost = False
            self._log("books.back", pending=self.pending, lost=self.lost)
        else:
            reason = type(error.__cause__ or error).__name__
            self._log("books.away", level="warning", reason=reason, pending=self.pending)

    def _tidy(self) -> None:
        """Give back what dead gateways left, and delete what is too old."""
        now = time.monotonic()
        if self._ending_at is not None or now < self._retry_at:
            return
        try:
            if now >= self._sweep_at:
                self._sweep_at = now + _SWEEP_S
                if swept := self._keeps.sweep():
                    self._log("budget.swept", reservations=swept)
                if self.away:  # with nothing to write, nobody else would find out
                    self._note(None)
            if now >= self._prune_at:
                pruned = self._keeps.prune(int(self._bounds.usage_s_max), _PRUNED_MAX)
                # Most are gone within one go; while they are not, others get their turn between.
                self._prune_at = now + (_REST_S if pruned == _PRUNED_MAX else _PRUNE_S)
        except AccountsAway as error:
            self._note(error)


def _deliver(asks: Sequence[_Asked], replies: Sequence[Reply] | None) -> None:
    for index, asked in enumerate(asks):
        if asked.future.done():
            continue
        if replies is None:
            asked.future.set_exception(AccountsAway())
        else:
            asked.future.set_result(replies[index])
