import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from forebay.accounts.audit import Audit
from forebay.accounts.audit_event import TEXT_MAX, Action, AuditEvent
from forebay.accounts.config import default_url
from forebay.accounts.database import Database, RowRefused
from forebay.accounts.schema import AUDIT, AUDIT_HEAD
from forebay.core.errors import Outcome
from tests.support.accounts import a_database
from tests.support.postgres import PostgresServer

TRIGGERS = ("audit_keeps_rows", "audit_loses_nothing", "audit_replaces_nothing")

# Rows that somebody writes by hand; what they are copied from is as it should be.
WITH_ANOTHER_PREVIOUS = (
    "INSERT OR REPLACE INTO audit SELECT id, at, action, 'mallory', target, outcome, address, "
    "request_id, details, 'x', digest FROM audit WHERE id = 2"
)
WITH_ANOTHER_ID = (
    "INSERT OR REPLACE INTO audit SELECT 9, at, action, 'mallory', target, outcome, address, "
    "request_id, details, previous, digest FROM audit WHERE id = 2"
)
BEYOND_THE_END = (
    "INSERT INTO audit SELECT 6, at, action, actor, target, outcome, address, request_id, "
    "details, 'x', digest FROM audit WHERE id = 5"
)


def event(actor: str = "alice", **facts: Any) -> AuditEvent:
    return AuditEvent(action=Action.LOGIN, actor=actor, **facts)


def add(audit: Audit, *actors: str) -> None:
    audit.add([(1_000.0 + index, event(actor)) for index, actor in enumerate(actors)])


def tamper(database: Database, *statements: str) -> None:
    """Do as somebody would who owns the database: without triggers."""
    with database.writing() as connection:
        if database.sqlite:
            for name in TRIGGERS:
                connection.execute(sa.text("DROP TRIGGER IF EXISTS " + name))
        else:
            connection.execute(sa.text("ALTER TABLE audit DISABLE TRIGGER ALL"))
        for statement in statements:
            connection.execute(sa.text(statement))


def test_an_event_is_read_as_it_was_written(database: Database) -> None:
    audit = Audit(database)
    written = event(
        target="key:abc",
        outcome=Outcome.UNAUTHENTICATED,
        address="192.0.2.7",
        request_id="req-1",
        details={"scopes": "infer", "count": 2, "admin": False, "until": None},
    )
    audit.add([(1_234.56789, written)])
    (row,) = audit.page()
    assert (row.id, row.at, row.action, row.actor) == (1, 1_234.568, "login", "alice")
    assert (row.target, row.outcome, row.address) == ("key:abc", "unauthenticated", "192.0.2.7")
    assert (row.request_id, row.details) == ("req-1", dict(written.details))
    assert audit.verify().broken_at is None


def test_pages_go_back_in_time_and_may_be_of_one_actor_or_action(database: Database) -> None:
    audit = Audit(database)
    add(audit, "alice", "bob", "alice", "bob", "alice")
    audit.add([(2_000.0, AuditEvent(action=Action.LOGOUT, actor="bob"))])
    assert [row.id for row in audit.page(count=2)] == [6, 5]
    assert [row.id for row in audit.page(before=5, count=2)] == [4, 3]
    assert [row.id for row in audit.page(actor="alice")] == [5, 3, 1]
    assert [row.id for row in audit.page(action=Action.LOGOUT)] == [6]
    assert audit.page(before=2**80) == audit.page()


def test_an_empty_log_holds(database: Database) -> None:
    verdict = Audit(database).verify()
    assert (verdict.rows, verdict.digest, verdict.broken_at) == (0, "", None)
    Audit(database).add([])
    assert Audit(database).verify() == verdict


def test_hostile_texts_are_kept_short_and_harmless(database: Database) -> None:
    audit = Audit(database)
    texts = ["x'); DROP TABLE audit; --", "nul\0", "\ud800", "\x1b[2J", "\u202e", "a" * 10_000]
    audit.add([(1.0, event(text, target=text, details={text: text})) for text in texts])
    rows = audit.page()
    assert len(rows) == len(texts)
    assert audit.verify().broken_at is None
    assert all(len(row.actor) <= TEXT_MAX for row in rows)
    assert not any(bad in row.actor for row in rows for bad in "\0\x1b\u202e\ud800")
    assert rows[-1].actor == texts[0]
    assert [row.id for row in audit.page(actor=texts[0])] == [1]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'mallory' WHERE id = 2",
        "DELETE FROM audit WHERE id = 2",
        "DELETE FROM audit",
        "UPDATE audit_head SET id = 1, digest = 'x'",
        "DELETE FROM audit_head",
    ],
)
def test_rows_are_neither_changed_nor_taken_out(database: Database, statement: str) -> None:
    audit = Audit(database)
    add(audit, "alice", "bob", "carol")
    with pytest.raises(RowRefused), database.writing() as connection:
        connection.execute(sa.text(statement))
    assert [row.actor for row in audit.page()] == ["carol", "bob", "alice"]
    assert audit.verify().broken_at is None


@pytest.mark.parametrize(
    "statement",
    [WITH_ANOTHER_PREVIOUS, WITH_ANOTHER_ID, "REPLACE INTO audit_head VALUES (1, 0, '')"],
)
def test_rows_are_not_replaced_on_sqlite(tmp_path: Path, statement: str) -> None:
    with a_database(default_url(tmp_path)) as database:
        audit = Audit(database)
        add(audit, "alice", "bob")
        with pytest.raises(RowRefused), database.writing() as connection:
            connection.execute(sa.text(statement))
        assert audit.verify().broken_at is None


@pytest.mark.parametrize("table", ["audit", "audit_head"])
def test_the_table_is_not_emptied_on_postgresql(postgres: PostgresServer, table: str) -> None:
    with a_database(postgres.new_database()) as database:
        add(Audit(database), "alice")
        with pytest.raises(RowRefused), database.writing() as connection:
            connection.execute(sa.text("TRUNCATE " + table))


@pytest.mark.parametrize(
    ("statement", "broken_at"),
    [
        ("UPDATE audit SET actor = 'mallory' WHERE id = 2", 2),
        ("UPDATE audit SET at = at + 1 WHERE id = 3", 3),
        ("UPDATE audit SET details = '{}' WHERE id = 1", 1),
        ("UPDATE audit SET digest = previous WHERE id = 4", 4),
        ("DELETE FROM audit WHERE id = 2", 2),
        ("DELETE FROM audit WHERE id = 5", 5),
        ("DELETE FROM audit", 1),
        ("UPDATE audit SET id = 9 WHERE id = 5", 5),
        (BEYOND_THE_END, 6),
    ],
)
def test_the_first_row_is_named_that_somebody_wrote_over(
    database: Database, statement: str, broken_at: int
) -> None:
    audit = Audit(database)
    audit.add([(float(at), event(details={"n": at})) for at in range(5)])
    assert audit.verify().broken_at is None
    tamper(database, statement)
    assert audit.verify().broken_at == broken_at


def test_a_chain_that_was_computed_again_betrays_itself_by_a_digest_kept_elsewhere(
    database: Database, tmp_path: Path
) -> None:
    audit = Audit(database)
    add(audit, "alice", "bob", "carol")
    kept = audit.verify()
    with a_database(default_url(tmp_path / "forged")) as other:
        forged = Audit(other)
        forged.add([(1_000.0 + at, event(who)) for at, who in enumerate(["alice", "mallory"])])
        forged.add([(1_002.0, event("carol"))])
        assert forged.verify().broken_at is None
        assert forged.verify({kept.rows: kept.digest}).broken_at == 3
        assert forged.verify({4: "x"}).broken_at == 4
    assert audit.verify({kept.rows: kept.digest}).broken_at is None


def test_a_chain_longer_than_a_page_is_read_to_its_end(database: Database) -> None:
    audit = Audit(database)
    audit.add([(float(at), event(str(at))) for at in range(2_500)])
    assert audit.verify().broken_at is None
    tamper(database, "UPDATE audit SET actor = '' WHERE id = 2400")
    assert audit.verify().broken_at == 2_400


def add_some(url: str, name: str) -> None:
    with a_database(url, timeout_s=20.0) as database:
        audit = Audit(database)
        for turn in range(20):
            audit.add([(float(turn), event(name)), (float(turn), event(name))])


def test_gateways_that_write_at_once_make_one_chain(accounts_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    with a_database(accounts_url) as database:
        writers = [spawn.Process(target=add_some, args=(accounts_url, name)) for name in "abc"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0, 0, 0]
        assert (Audit(database).verify().rows, Audit(database).verify().broken_at) == (120, None)


def test_threads_that_write_at_once_make_one_chain(database: Database) -> None:
    audit = Audit(database)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add(audit, f"{number}"), range(40)))
    assert (audit.verify().rows, audit.verify().broken_at) == (40, None)


def test_what_fails_in_the_middle_leaves_no_part_of_itself(database: Database) -> None:
    audit = Audit(database)
    add(audit, "alice")
    half = sa.update(AUDIT_HEAD).values(id=2, digest="x")
    refused = sa.delete(AUDIT)
    with pytest.raises(RowRefused), database.writing() as connection:
        _ = [connection.execute(each) for each in (half, refused)]
    assert (audit.verify().rows, audit.verify().broken_at) == (1, None)


def test_the_chain_is_what_a_plain_reader_of_the_file_can_check(tmp_path: Path) -> None:
    with a_database(default_url(tmp_path)) as database:
        add(Audit(database), "alice", "bob")
        digest = Audit(database).verify().digest
    with sqlite3.connect(tmp_path / "accounts.sqlite") as plain:
        rows = plain.execute("SELECT previous, digest FROM audit ORDER BY id").fetchall()
    plain.close()
    assert rows[0][0] == ""
    assert rows[1][0] == rows[0][1]
    assert rows[1][1] == digest


def test_a_last_row_that_was_sealed_anew_is_not_the_one_that_was_written(
    database: Database, tmp_path: Path
) -> None:
    audit = Audit(database)
    add(audit, "alice", "bob")
    with a_database(default_url(tmp_path / "forged")) as other:
        forged = Audit(other)
        add(forged, "alice", "mallory")
        last = forged.page(count=1)[0]
    tamper(database)
    anew = sa.text("UPDATE audit SET actor = 'mallory', digest = :digest WHERE id = 2")
    with database.writing() as connection:
        connection.execute(anew, {"digest": last.digest})
    assert audit.verify().broken_at == 3, "the table of the last row names another"
