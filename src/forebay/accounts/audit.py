"""The audit log: rows that are only added, each sealed with a digest over all before it.

A row's digest is SHA-256 over the digest before it and its own canonical JSON, so whoever changes
or takes out a row has to write every later one anew.  Triggers refuse that on both databases.
Whoever owns the database may drop the triggers and compute the chain again: against that, and only
so, helps a digest of `verify` that was kept elsewhere.

One row of another table, `audit_head`, names the last of the chain.  Whoever adds holds it, so
several gateways write one chain and never two.
"""

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, update

from forebay.accounts.audit_event import Action, AuditEvent, Detail, tidied, tidied_details
from forebay.accounts.database import Database
from forebay.accounts.schema import AUDIT, AUDIT_HEAD

PAGE_MAX: Final = 1_000
_SEALED: Final = (
    *("id", "at", "action", "actor", "target", "outcome", "address", "request_id", "details"),
)
_LAST: Final = select(AUDIT_HEAD.c.id, AUDIT_HEAD.c.digest).with_for_update()
_MOVE: Final = update(AUDIT_HEAD).values(id=bindparam("new_id"), digest=bindparam("new_digest"))
_ENDS: Final = select(
    AUDIT_HEAD.c.id,
    AUDIT_HEAD.c.digest,
    select(func.max(AUDIT.c.id)).scalar_subquery().label("rows"),
)
_FOLLOWING: Final = (
    select(AUDIT)
    .where(AUDIT.c.id > bindparam("after"), AUDIT.c.id <= bindparam("last"))
    .order_by(AUDIT.c.id)
    .limit(PAGE_MAX)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """An event as it was written."""

    id: int
    at: float
    """Unix seconds, to the millisecond."""
    action: str
    actor: str
    target: str
    outcome: str
    address: str
    request_id: str
    details: Mapping[str, Detail]
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the chain holds.  Keep `rows` and `digest` elsewhere: a later chain has them too."""

    rows: int
    digest: str
    """Of the last row."""
    broken_at: int | None = None
    """The first row that is missing, changed, or not the one that it should be."""


class Audit:
    """Writes and reads the log; safe to use from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, events: Sequence[tuple[float, AuditEvent]]) -> None:
        """Write events with the moments at which they happened, all or none; raises AccountsAway.

        If that was raised while it ended, they may stand there all the same.
        """
        with self._database.writing() as connection:
            id, digest = connection.execute(_LAST).one()
            rows = []
            for at, event in events:
                id += 1
                row = _row(id, at, event)
                row |= {"previous": digest, "digest": _digest(digest, row)}
                digest = row["digest"]
                rows.append(row)
            if rows:
                connection.execute(insert(AUDIT), rows)
                connection.execute(_MOVE, {"new_id": id, "new_digest": digest})

    def page(
        self,
        before: int | None = None,
        count: int = 100,
        *,
        actor: str | None = None,
        action: Action | None = None,
    ) -> list[AuditRow]:
        """Return the latest rows first, those before an id; of one actor, of one action."""
        statement = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(min(count, PAGE_MAX))
        if before is not None:
            statement = statement.where(AUDIT.c.id < min(before, 2**63 - 1))
        if actor is not None:
            statement = statement.where(AUDIT.c.actor == tidied(actor))
        if action is not None:
            statement = statement.where(AUDIT.c.action == action.value)
        with self._database.reading() as connection:
            return [_read(row) for row in connection.execute(statement).mappings()]

    def verify(self, keep: Mapping[int, str] | None = None) -> Verdict:
        """Read the whole chain; `keep` are digests of rows, by id, that were kept elsewhere."""
        with self._database.reading() as connection:
            last, head, highest = connection.execute(_ENDS).one()
        digest, id = "", 0
        for row in self._rows(last):
            id += 1
            kept = (keep or {}).get(id, row["digest"])
            if row["id"] != id or not _follows(digest, row) or not _same(row["digest"], kept):
                return Verdict(rows=last, digest=head, broken_at=id)
            digest = row["digest"]
        whole = id == last and _same(digest, head) and (highest or 0) <= last
        missing = [kept for kept in keep or {} if kept > last]
        broken_at = min([id + 1, *missing]) if not whole or missing else None
        return Verdict(rows=last, digest=head, broken_at=broken_at)

    def _rows(self, last: int) -> Iterator[RowMapping]:
        """Yield rows in order, a page per transaction, so that nobody waits for a long reading."""
        after = 0
        while True:
            with self._database.reading() as connection:
                rows = _page(connection, after, last)
            yield from rows
            if len(rows) < PAGE_MAX:
                return
            after = rows[-1]["id"]


def _page(connection: Connection, after: int, last: int) -> Sequence[RowMapping]:
    return connection.execute(_FOLLOWING, {"after": after, "last": last}).mappings().all()


def _row(id: int, at: float, event: AuditEvent) -> dict[str, Any]:
    return {
        "id": id,
        "at": round(at, 3),
        "action": event.action.value,
        "actor": tidied(event.actor),
        "target": tidied(event.target),
        "outcome": event.outcome.value,
        "address": tidied(event.address),
        "request_id": tidied(event.request_id),
        "details": json.dumps(tidied_details(event.details), sort_keys=True),
    }


def _digest(previous: str, row: Mapping[Any, Any]) -> str:
    sealed = {name: row[name] for name in _SEALED}
    text = json.dumps(sealed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def _follows(previous: str, row: RowMapping) -> bool:
    """Whether a row is sealed over the one before it."""
    return _same(row["previous"], previous) and _same(row["digest"], _digest(previous, row))


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _read(row: RowMapping) -> AuditRow:
    facts = {name: row[name] for name in (*_SEALED, "digest")}
    return AuditRow(**{**facts, "details": json.loads(row["details"])})
