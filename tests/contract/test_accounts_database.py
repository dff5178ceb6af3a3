import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from forebay.accounts.config import AccountsAway, AnotherSchema, RowRefused, default_url
from forebay.accounts.database import Database
from forebay.accounts.schema import METADATA, TENANTS, VERSION_TABLE
from tests.support.accounts import a_database, quick
from tests.support.postgres import PostgresServer, missing, running_postgres

TENANT = {"name": "acme", "disabled": False, "created": 1.0}


@pytest.fixture
def broken() -> Iterator[PostgresServer]:
    """Run a server that a test may break."""
    if lacking := missing():
        pytest.skip(lacking)
    with running_postgres() as server:
        yield server


def migrate(url: str) -> None:
    database = Database(quick(url))
    try:
        database.migrate()
    finally:
        database.close()


def tenants(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(TENANTS.c.name)).scalars())


def add_tenant(database: Database, name: str = "acme") -> None:
    with database.writing() as connection:
        connection.execute(sa.insert(TENANTS), TENANT | {"name": name})


@pytest.mark.filterwarnings(r"ignore:.*expression-based index:")
def test_migrations_make_the_tables_that_the_code_asks(accounts_url: str) -> None:
    with a_database(accounts_url) as database, database.reading() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        found = [
            each for each in compare_metadata(context, METADATA) if "lower_name" not in str(each)
        ]
    assert found == []


def test_a_second_migration_changes_nothing(accounts_url: str) -> None:
    with a_database(accounts_url) as database:
        add_tenant(database)
        database.migrate()
        assert tenants(database) == ["acme"]


def test_gateways_that_start_at_once_bring_up_one_schema(accounts_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    starting = [spawn.Process(target=migrate, args=(accounts_url,)) for _ in range(4)]
    for process in starting:
        process.start()
    for process in starting:
        process.join()
    assert [process.exitcode for process in starting] == [0] * 4
    with a_database(accounts_url) as database:
        assert tenants(database) == []


def test_threads_that_start_at_once_bring_up_one_schema(accounts_url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrate, [accounts_url] * 6))
    with a_database(accounts_url) as database, database.reading() as connection:
        versions = connection.execute(sa.text("SELECT version_num FROM forebay_schema")).all()
        assert versions == [("0001",)]


def test_tables_of_a_newer_version_are_refused_in_words(accounts_url: str) -> None:
    with a_database(accounts_url) as database:
        with database.writing() as connection:
            connection.execute(sa.text("UPDATE forebay_schema SET version_num = '9999'"))
        with pytest.raises(AnotherSchema, match=r"newer version .* at 9999, .* up to 0001"):
            database.migrate()


def test_what_raises_in_a_transaction_undoes_it(accounts_url: str) -> None:
    with a_database(accounts_url) as database:
        with pytest.raises(KeyError), database.writing() as connection:
            _ = [connection.execute(sa.insert(TENANTS), TENANT), {"a": 1}["b"]]
        assert tenants(database) == []


@pytest.mark.parametrize(
    "unfit",
    [
        {},
        {"name": None},
        {"name": "nul\0", "created": None},
        {"name": "\ud800"},
        {"name": "b", "concurrent": 2**70},
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_the_database_is_not_away(
    accounts_url: str, unfit: dict[str, object]
) -> None:
    with a_database(accounts_url) as database:
        add_tenant(database)
        with pytest.raises(RowRefused), database.writing() as connection:
            connection.execute(sa.insert(TENANTS), TENANT | unfit)
        assert tenants(database) == ["acme"]


def test_writers_that_read_before_they_write_wait_for_each_other(accounts_url: str) -> None:
    def count(database: Database) -> None:
        for _ in range(10):
            with database.writing() as connection:
                row = sa.select(TENANTS.c.concurrent).where(TENANTS.c.name == "acme")
                found = connection.execute(row.with_for_update()).scalar_one() or 0
                connection.execute(sa.update(TENANTS).values(concurrent=found + 1))

    with a_database(accounts_url, timeout_s=20.0) as database:
        add_tenant(database)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(count, [database] * 6))
        with database.reading() as connection:
            assert connection.execute(sa.select(TENANTS.c.concurrent)).scalar_one() == 60


def test_who_finds_no_free_connection_is_told_in_time(accounts_url: str) -> None:
    with a_database(accounts_url, connections_max=1, timeout_s=0.1) as database:
        began = time.monotonic()
        with database.reading(), pytest.raises(AccountsAway), database.reading():
            pytest.fail("there is one connection")
        assert time.monotonic() - began < 5.0


def test_a_writer_that_waits_too_long_for_another_is_told_in_time(accounts_url: str) -> None:
    with a_database(accounts_url, timeout_s=0.2) as database:
        add_tenant(database)
        lock = sa.select(TENANTS).with_for_update()
        with database.writing() as holder:
            holder.execute(lock)
            with pytest.raises(AccountsAway), database.writing() as other:
                other.execute(lock)
        assert tenants(database) == ["acme"]


def test_nothing_secret_is_shown(accounts_url: str) -> None:
    config = replace(quick(accounts_url), url="postgresql://me:hunter2@127.0.0.1:1/x")
    database = Database(config)
    with pytest.raises(AccountsAway) as caught, database.reading():
        pytest.fail("nobody listens there")
    for text in (repr(config), repr(database), str(caught.value), repr(caught.value)):
        assert "hunter2" not in text


def test_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    umask = os.umask(0)
    try:
        with a_database(default_url(folder)) as database:
            add_tenant(database)
            modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    finally:
        os.umask(umask)
    assert modes == dict.fromkeys(
        ("accounts.sqlite", "accounts.sqlite-wal", "accounts.sqlite-shm"), 0o600
    )
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    migrate(default_url(tmp_path))
    path = tmp_path / "accounts.sqlite"
    path.chmod(0o644)
    migrate(default_url(tmp_path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_commits_on_sqlite_are_on_the_disk_before_anybody_is_told(tmp_path: Path) -> None:
    with a_database(default_url(tmp_path)) as database, database.reading() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "trusted_schema")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
    }


WRITER = """
import sys
import sqlalchemy as sa
from forebay.accounts.config import AccountsConfig
from forebay.accounts.database import Database
from forebay.accounts.schema import TENANTS
database = Database(AccountsConfig(url=sys.argv[1]))
for number in range(100_000):
    with database.writing() as connection:
        row = {"name": str(number), "disabled": False, "created": 1.0}
        connection.execute(sa.insert(TENANTS), row)
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_a_sound_database_with_all_that_it_told_of(
    accounts_url: str,
) -> None:
    migrate(accounts_url)
    command = [sys.executable, "-c", WRITER, accounts_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [line for line, _ in zip(writer.stdout, range(30), strict=False)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.readlines()
    with a_database(accounts_url) as database:
        kept = set(tenants(database))
        assert len(kept) - len(told) in {0, 1}
        assert {line.strip() for line in told} <= kept
        add_tenant(database, "after")
        if database.sqlite:
            with database.reading() as connection:
                check = connection.exec_driver_sql("PRAGMA integrity_check")
                assert check.scalars().all() == ["ok"]


def test_what_is_no_database_is_away_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "accounts.sqlite"
    path.write_bytes(b"This is a letter, and no database at all. " * 100)
    with pytest.raises(AccountsAway):
        migrate(default_url(tmp_path))
    assert path.read_bytes().startswith(b"This is a letter")


def test_a_folder_that_cannot_be_written_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AccountsAway):
        migrate(default_url(tmp_path / "file" / "folder"))


def test_a_full_disk_is_away_and_is_found_again(tmp_path: Path) -> None:
    with a_database(default_url(tmp_path)) as database:
        with database.reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        with database.writing() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            row = TENANT | {"name": "x" * 100_000}
            with pytest.raises(sa.exc.OperationalError, match="full"):
                connection.execute(sa.insert(TENANTS), row)
            connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")
        add_tenant(database)
        assert tenants(database) == ["acme"]


def test_a_server_that_was_restarted_is_found_again(broken: PostgresServer) -> None:
    with a_database(broken.new_database()) as database:
        add_tenant(database)
        broken.crash()
        with pytest.raises(AccountsAway):
            tenants(database)
        broken.start()
        assert tenants(database) == ["acme"]


def test_an_idle_connection_that_was_lost_is_replaced_unnoticed(
    broken: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.accounts.database._FRESH_S", 0.0)
    with a_database(broken.new_database()) as database:
        add_tenant(database)
        broken.crash()
        broken.start()
        assert tenants(database) == ["acme"]


def test_a_server_that_hangs_is_away_in_time_and_found_again(broken: PostgresServer) -> None:
    with a_database(broken.new_database(), timeout_s=0.25, connections_max=2) as database:
        add_tenant(database)
        broken.hang()
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(AccountsAway):
                tenants(database)
        assert time.monotonic() - began < 20.0
        broken.wake()
        assert tenants(database) == ["acme"]


def test_a_statement_that_takes_too_long_is_given_up(postgres: PostgresServer) -> None:
    with a_database(postgres.new_database(), timeout_s=0.1) as database:
        with pytest.raises(AccountsAway), database.reading() as connection:
            connection.execute(sa.text("SELECT pg_sleep(10)"))
        assert tenants(database) == []


def test_servers_see_by_name_who_asks(postgres: PostgresServer) -> None:
    with a_database(postgres.new_database()) as database, database.reading() as connection:
        assert connection.execute(sa.text("SHOW application_name")).scalar() == "forebay"


def test_no_thread_and_no_descriptor_is_left_behind(accounts_url: str) -> None:
    migrate(accounts_url)
    threads, descriptors = threading.active_count(), len([*Path("/proc/self/fd").iterdir()])
    for _ in range(3):
        with a_database(accounts_url) as database:
            assert tenants(database) == []
    limit = time.monotonic() + 20.0
    while threading.active_count() > threads and time.monotonic() < limit:
        time.sleep(0.05)
    assert threading.active_count() <= threads
    assert len([*Path("/proc/self/fd").iterdir()]) <= descriptors


def test_a_sqlite_file_opens_with_any_sqlite(tmp_path: Path) -> None:
    with a_database(default_url(tmp_path / "with space and ü%")) as database:
        add_tenant(database)
    plain = sqlite3.connect(tmp_path / "with space and ü%" / "accounts.sqlite")
    assert plain.execute("SELECT name FROM tenants").fetchall() == [("acme",)]
    plain.close()
    assert urlsplit(default_url(tmp_path)).scheme == "sqlite"
