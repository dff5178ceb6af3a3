"""The store in a file: SQLite with a write-ahead log, shared by the processes of one machine.

Layout
------
`names`: a row per name that is not free; while it is claimed `size` and `blob` are null and
`ends` is the lease's, then the answer's.  `streams`: which name an owner claimed.  Moments are
the machine's wall clock, for processes share it and it survives a restart.  A lease that seems to
end later than any lease can was taken before the clock was set back, and counts as ended.

Each question is one statement where it can be; triggers do the rest.  Between two statements the
interpreter's lock changes hands, and a loop that is busy holds it for `sys.getswitchinterval()`.
"""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from forebay.core.record import EventLog
from forebay.serve.sqlite_writer import SqliteWriter
from forebay.serve.store import (
    Claim,
    Differs,
    Done,
    Expired,
    Found,
    Fresh,
    Running,
    Sight,
    Wish,
)

_VERSION: Final = 1
_ROW_BYTES: Final = 1_024
"""More than a row and its index entries take beside the blob."""
_TIDIED_MAX: Final = 200
"""Rows that one round of tidying deletes: a few milliseconds."""
_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS names (
        name TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, owner TEXT NOT NULL,
        ends REAL NOT NULL, lease REAL NOT NULL, remembered REAL NOT NULL,
        size INTEGER, blob BLOB)""",
    "CREATE INDEX IF NOT EXISTS done ON names (ends, size) WHERE size IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS claimed ON names (ends) WHERE size IS NULL",
    """CREATE TABLE IF NOT EXISTS streams (
        owner TEXT PRIMARY KEY, name TEXT NOT NULL, ends REAL NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS ending ON streams (ends)",
    # A trigger's own REPLACE would be overruled by the conflict clause of what set it off.
    """CREATE TRIGGER IF NOT EXISTS begun AFTER INSERT ON names BEGIN
        DELETE FROM streams WHERE owner = NEW.owner;
        INSERT INTO streams VALUES (NEW.owner, NEW.name, NEW.remembered); END""",
    """CREATE TRIGGER IF NOT EXISTS went_on AFTER UPDATE OF remembered ON names BEGIN
        DELETE FROM streams WHERE owner = NEW.owner;
        INSERT INTO streams VALUES (NEW.owner, NEW.name, NEW.remembered); END""",
)
# A name is taken if it is free, if its time is over, or by the one who has claimed it already.
_CLAIM: Final = """
    INSERT INTO names VALUES (:name, :fingerprint, :owner, :ends, :lease, :remembered, NULL, NULL)
    ON CONFLICT (name) DO UPDATE SET
        fingerprint = :fingerprint, owner = :owner, ends = :ends, lease = :lease,
        remembered = :remembered, size = NULL, blob = NULL
    WHERE ends <= :now
        OR size IS NULL AND (owner = :owner OR ends > :now + 2 * lease)"""
# A claim whose lease ended six leases ago has no owner who could still come.
_OVER: Final = (
    """DELETE FROM names WHERE rowid IN
        (SELECT rowid FROM names WHERE size IS NOT NULL AND ends <= ? LIMIT ?)""",
    """DELETE FROM names WHERE rowid IN
        (SELECT rowid FROM names WHERE size IS NULL AND ends + 6 * lease <= ? LIMIT ?)""",
    "DELETE FROM streams WHERE owner IN (SELECT owner FROM streams WHERE ends <= ? LIMIT ?)",
)


class AnotherVersionError(sqlite3.DatabaseError):
    """The file was written by a version of this program with another layout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteFile:
    """Where the file is, how much it may keep, and how long it may take to answer."""

    path: Path
    bytes_max: int
    entries_max: int
    answer_s_max: float = 1.0


class SqliteStore:
    """Claims names and keeps answers in a file."""

    def __init__(
        self, file: SqliteFile, log: EventLog, *, wall: Callable[[], float] = time.time
    ) -> None:
        """Use `file`; moments are Unix seconds of `wall`."""
        self._file = file
        self._wall = wall
        self._writer = SqliteWriter(
            file.path, self._prepare, self._tidy, answer_s_max=file.answer_s_max, log=log
        )

    @property
    def away(self) -> bool:
        """Whether the last question had no answer."""
        return self._writer.away

    async def open(self) -> None:
        """Start the thread; the file is opened when something is asked."""
        self._writer.open()

    async def close(self) -> None:
        """Answer what was asked, and close the file."""
        await self._writer.close()

    async def claim(self, wish: Wish) -> Claim:
        """Take a name, or say who has it."""
        return await self._writer.ask(partial(self._claim, wish))

    async def renew(self, wish: Wish) -> bool:
        """Lengthen the owner's lease."""
        return await self._writer.ask(partial(self._renew, wish))

    async def finish(self, wish: Wish, blob: bytes) -> bool:
        """Keep the answer."""
        return await self._writer.ask(partial(self._finish, wish, blob))

    async def abandon(self, wish: Wish) -> None:
        """Free a name."""
        await self._writer.ask(partial(_abandon, wish))

    async def look(self, name: str) -> Sight:
        """See what is under a name."""
        return await self._writer.ask(partial(self._look, name))

    async def find(self, owner: str) -> Found:
        """See what became of an owner's claim."""
        return await self._writer.ask(partial(self._find, owner))

    # What follows runs in the writer's thread, inside a transaction.

    def _prepare(self, connection: sqlite3.Connection) -> None:
        bytes_max = 2 * self._file.bytes_max + _ROW_BYTES * self._file.entries_max
        connection.execute("PRAGMA page_size=4096")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a finish that was told survives a crash
        connection.execute("PRAGMA journal_size_limit=16777216")
        connection.execute(f"PRAGMA max_page_count={bytes_max // 4096 + 64}")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in {0, _VERSION}:
            raise AnotherVersionError("the file has another layout")
        connection.execute("BEGIN IMMEDIATE")
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("PRAGMA user_version=1")
        connection.execute("COMMIT")

    def _claim(self, wish: Wish, connection: sqlite3.Connection) -> Claim:
        now = self._wall()
        facts = {
            "name": wish.name,
            "fingerprint": wish.fingerprint,
            "owner": wish.owner,
            "lease": wish.lease_s,
            "now": now,
            "ends": now + wish.lease_s,
            "remembered": now + 2 * wish.ttl_s,
        }
        if connection.execute(_CLAIM, facts).rowcount == 1:
            return Fresh()
        sight = self._look(wish.name, connection)
        if sight is None:  # its time was over between the two moments
            return self._claim(wish, connection)
        return sight if sight.fingerprint == wish.fingerprint else Differs()

    def _renew(self, wish: Wish, connection: sqlite3.Connection) -> bool:
        renewed = connection.execute(
            "UPDATE names SET ends = ? WHERE name = ? AND owner = ? AND size IS NULL",
            (self._wall() + wish.lease_s, wish.name, wish.owner),
        )
        return renewed.rowcount == 1

    def _finish(self, wish: Wish, blob: bytes, connection: sqlite3.Connection) -> bool:
        now, size = self._wall(), len(blob)
        finished = connection.execute(
            "UPDATE names SET ends = ?, remembered = ?, size = ?, blob = ?"
            " WHERE name = ? AND owner = ? AND size IS NULL",
            (now + wish.ttl_s, now + 2 * wish.ttl_s, size, blob, wish.name, wish.owner),
        )
        if finished.rowcount == 1:
            return True
        before = connection.execute(
            "SELECT 1 FROM names WHERE name = ? AND owner = ?", (wish.name, wish.owner)
        )
        return before.fetchone() is not None

    def _look(self, name: str, connection: sqlite3.Connection) -> Sight:
        row = connection.execute(
            "SELECT fingerprint, owner, ends, lease, blob FROM names WHERE name = ?", (name,)
        ).fetchone()
        return self._sight(row)

    def _find(self, owner: str, connection: sqlite3.Connection) -> Found:
        row = connection.execute(
            "SELECT streams.ends, fingerprint, names.owner, names.ends, lease, blob FROM streams"
            " LEFT JOIN names ON names.name = streams.name WHERE streams.owner = ?",
            (owner,),
        ).fetchone()
        if row is None or row[0] <= self._wall():
            return None
        return (self._sight(row[1:]) if row[2] == owner else None) or Expired()

    def _sight(self, row: tuple[str, str, float, float, bytes | None] | None) -> Sight:
        if row is None:
            return None
        fingerprint, _, ends, lease_s, blob = row
        left_s = ends - self._wall()
        if left_s <= 0.0:
            return None
        if blob is not None:
            return Done(fingerprint=fingerprint, blob=blob)
        if left_s > 2 * lease_s:
            return None
        return Running(fingerprint=fingerprint, lease_left_s=min(left_s, lease_s))

    def _tidy(self, connection: sqlite3.Connection) -> bool:
        """Delete what is over, then the oldest answers while there are too many of them."""
        now = self._wall()
        rows = sum(connection.execute(over, (now, _TIDIED_MAX)).rowcount for over in _OVER)
        return self._make_room(connection) or rows >= _TIDIED_MAX

    def _make_room(self, connection: sqlite3.Connection) -> bool:
        count, size = connection.execute(
            "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM names WHERE size IS NOT NULL"
        ).fetchone()
        if count <= self._file.entries_max and size <= self._file.bytes_max:
            return False
        oldest = connection.execute(
            "SELECT rowid, size FROM names WHERE size IS NOT NULL ORDER BY ends LIMIT ?",
            (_TIDIED_MAX,),
        ).fetchall()
        for rowid, its_size in oldest:
            if count <= self._file.entries_max and size <= self._file.bytes_max:
                return False
            connection.execute("DELETE FROM names WHERE rowid = ?", (rowid,))
            count, size = count - 1, size - its_size
        return True


def _abandon(wish: Wish, connection: sqlite3.Connection) -> None:
    connection.execute(
        "DELETE FROM names WHERE name = ? AND owner = ? AND size IS NULL", (wish.name, wish.owner)
    )
