"""One thread that owns one SQLite connection, and commits what was asked meanwhile together.

Theory of operation
-------------------
Questions queue.  The thread takes all that are there, runs them in one transaction, commits, and
only then tells anybody: what was answered is durable.  While one commit waits for the disk the
next batch gathers, so that a slow disk makes batches larger and not the queue longer.

Whatever SQLite raises ends the batch: nothing of it happened, everybody in it is told StoreAway,
and the connection is dropped.  The next batch connects again, at most every `_REST_S`; so a disk
that was full, read-only or gone is found again without being restarted.

Who asks waits as long as the thread gets on.  If one statement takes longer than `answer_s_max`
the thread hangs in the disk: then everybody is told, and those who come later at once.  The time
is the thread's own, for a loop that is busy or late must not make a store look away that is not.
"""

import asyncio
import contextlib
import itertools
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from forebay.core.record import EventLog
from forebay.serve.store import StoreAway

Answer = TypeVar("Answer")
Question = Callable[[sqlite3.Connection], Answer]

BATCH_MAX: Final = 512
"""Most questions in one transaction."""
_QUEUE_MAX: Final = 16_384
_REST_S: Final = 0.25
_BUSY_S: Final = 0.002
_BATCH_S_MAX: Final = 0.02
_TIDY_S: Final = 1.0
"""Pause between two rounds of `tidy`."""
_CLOSING_S: Final = 2.0


@dataclass(slots=True)
class _Asked:
    question: Question[Any]
    future: asyncio.Future[Any]


class SqliteWriter:
    """Answers questions about one file, in their order."""

    def __init__(
        self,
        path: Path,
        prepare: Callable[[sqlite3.Connection], None],
        tidy: Callable[[sqlite3.Connection], bool],
        *,
        answer_s_max: float,
        log: EventLog,
    ) -> None:
        """Connect to `path` when asked; `prepare` each connection, `tidy` now and then.

        `tidy` returns whether there is more to do.
        """
        self._path = path
        self._prepare = prepare
        self._tidy = tidy
        self._answer_s_max = answer_s_max
        self._log = log
        # The whole mutable state of the loop's side.
        self.away = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._asked: queue.Queue[_Asked | None] = queue.Queue(_QUEUE_MAX)
        # Of the thread's side; the other reads only since when it is busy, None while it is not.
        self._busy_since: float | None = None
        self._ending = False
        self._connection: sqlite3.Connection | None = None
        self._retry_at = 0.0
        self._tidy_at = 0.0

    def open(self) -> None:
        """Start the thread."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name="forebay-store", daemon=True)
            self._thread.start()

    async def close(self) -> None:
        """Let the thread answer what was asked, and end it; one that hangs is left behind."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with contextlib.suppress(queue.Full):
                self._asked.put_nowait(None)
            await asyncio.to_thread(thread.join, _CLOSING_S)

    async def ask(self, question: Question[Answer]) -> Answer:
        """Return the answer once it is durable; raises StoreAway if there is none, or too late."""
        assert self._loop is not None, "it is not open"
        future: asyncio.Future[Answer] = self._loop.create_future()
        try:
            self._put(_Asked(question, future))
            while not future.done() and not self._hangs():
                await asyncio.wait({future}, timeout=self._answer_s_max)
            return self._answer(future)
        except (StoreAway, queue.Full) as error:
            self._note(error.__cause__ or error)
            raise StoreAway from error
        finally:
            future.cancel()  # what nobody waits for any more need not be done

    @staticmethod
    def _answer(future: asyncio.Future[Answer]) -> Answer:
        if not future.done():
            raise StoreAway
        return future.result()

    def _put(self, asked: _Asked) -> None:
        """Hand a question over; raises where the thread would not get to it in time."""
        if self._thread is None or self._hangs():
            raise StoreAway
        self._asked.put_nowait(asked)

    def _hangs(self) -> bool:
        since = self._busy_since
        return since is not None and time.monotonic() - since > self._answer_s_max

    def _note(self, error: BaseException | None) -> None:
        """Log that the store went away, or came back."""
        if self.away == (error is not None):
            return
        self.away = error is not None
        if error is None:
            self._log("store.back")
        else:
            reason = getattr(error, "sqlite_errorname", type(error).__name__)
            self._log("store.away", level="warning", reason=reason)

    def _deliver(self, batch: list[_Asked], answers: list[Any], error: Exception | None) -> None:
        if error is None:
            self._note(None)
        for index, asked in enumerate(batch):
            if asked.future.done():
                continue
            if error is None:
                asked.future.set_result(answers[index])
            else:
                away = StoreAway()
                away.__cause__ = error
                asked.future.set_exception(away)

    # What follows runs in the thread.

    def _run(self) -> None:
        while not self._ending and (asked := self._asked.get()) is not None:
            self._settle(asked)
            self._tidy_up()
            self._busy_since = None
        self._disconnect()

    def _get_on(self) -> None:
        self._busy_since = time.monotonic()

    def _batch(self, asked: _Asked) -> Iterator[_Asked]:
        """Yield a question and those that came after it, for a while.

        Not for longer: meanwhile other processes wait for the file, and this one for answers.
        """
        until_s = time.monotonic() + _BATCH_S_MAX
        following: _Asked | None = asked
        for count in itertools.count(1):
            if following is None:
                self._ending = True
                return
            yield following
            if count == BATCH_MAX or time.monotonic() >= until_s or self._asked.empty():
                return
            following = self._asked.get()

    def _settle(self, first: _Asked) -> None:
        batch: list[_Asked] = []
        answers: list[Any] = []
        failure: Exception | None = None
        try:
            self._get_on()
            connection = self._connected()
            self._begin(connection)
            for asked in self._batch(first):
                batch.append(asked)
                self._get_on()
                gone = asked.future.done()  # whoever asked has given up
                answers.append(None if gone else asked.question(connection))
            self._get_on()
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            failure = error
            batch = batch or [first]
            self._disconnect()
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is gone, and who asked with it
            self._loop.call_soon_threadsafe(self._deliver, batch, answers, failure)

    def _tidy_up(self) -> None:
        """Tidy in a transaction of its own, after those who asked have been told."""
        now = time.monotonic()
        if self._connection is None or now < self._tidy_at:
            return
        try:
            self._get_on()
            self._begin(self._connection)
            more = self._tidy(self._connection)
            self._connection.execute("COMMIT")
            self._tidy_at = now if more else now + _TIDY_S
        except sqlite3.Error:
            self._disconnect()

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Take the file; other processes have it for `_BATCH_S_MAX` at a time, and give way.

        SQLite itself would ask ever more rarely, and find a busy file never free.
        """
        until_s = time.monotonic() + self._answer_s_max / 2
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() >= until_s:
                    raise
                time.sleep(_BUSY_S)
            else:
                return

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            now = time.monotonic()
            if now < self._retry_at:
                raise OSError("it was tried a moment ago")
            self._retry_at = now + _REST_S
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.touch(mode=0o600)
            self._connection = self._connect(now + self._answer_s_max / 2)
            self._tidy_at = 0.0
            self._tidy_up()  # before anything is asked: a file that is full must get room
            if self._connection is None:
                raise OSError("it cannot be tidied")
        return self._connection

    def _connect(self, until_s: float) -> sqlite3.Connection:
        """Connect and prepare; whoever makes the same file at this moment is waited for."""
        while True:
            connection = sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)
            try:
                self._prepare(connection)
            except sqlite3.Error as error:
                connection.close()
                if not _is_busy(error) or time.monotonic() >= until_s:
                    raise
                time.sleep(_BUSY_S)
            else:
                return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _is_busy(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
