import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from forebay.serve.sqlite_writer import BATCH_MAX
from forebay.serve.store import Done, Expired, Fresh, Running, Store, StoreAway
from forebay.serve.store_sqlite import SqliteFile, SqliteStore
from forebay.testing.store_contract import StoreContract, a_wish
from tests.support.events import EventList


def a_store(path: Path, **facts: float) -> SqliteStore:
    bounds = {"bytes_max": 1_000_000, "entries_max": 1_000, "answer_s_max": 5.0} | facts
    return SqliteStore(SqliteFile(path=path, **bounds), EventList())  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "replay.sqlite"


class TestSqliteStore(StoreContract):
    @pytest.fixture
    async def store(self, path: Path) -> AsyncIterator[Store]:
        store = a_store(path)
        await store.open()
        yield store
        await store.close()

    @pytest.fixture
    async def other(self, path: Path) -> AsyncIterator[Store]:
        store = a_store(path)
        await store.open()
        yield store
        await store.close()


async def test_what_was_kept_is_there_after_a_restart_and_for_its_user_alone(path: Path) -> None:
    store = a_store(path)
    await store.open()
    await store.claim(a_wish())
    await store.finish(a_wish(), b"answer")
    await store.claim(a_wish("running", "owner-2"))
    modes = {part.stat().st_mode & 0o777 for part in path.parent.iterdir()}
    assert modes == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await store.close()
    store = a_store(path)
    await store.open()
    assert isinstance(await store.look("name"), Done)
    assert isinstance(await store.find("owner-1"), Done)
    assert isinstance(await store.look("running"), Running)
    await store.close()


async def test_questions_that_come_together_are_committed_together(path: Path) -> None:
    store = a_store(path)
    await store.open()
    wishes = [a_wish(f"name-{index}", f"owner-{index}") for index in range(500)]
    await store.look("nothing")
    commits = 0

    def count(statement: str) -> None:
        nonlocal commits
        commits += statement == "COMMIT"

    await store._writer.ask(lambda connection: connection.set_trace_callback(count))
    claims = await asyncio.gather(*(store.claim(wish) for wish in wishes))
    assert claims == [Fresh()] * 500
    assert commits < 50
    await store.close()


async def test_the_oldest_answers_make_room(path: Path) -> None:
    store = a_store(path, bytes_max=10_000, entries_max=6)
    await store.open()
    for index in range(20):
        wish = a_wish(f"name-{index:02}", f"owner-{index}")
        await store.claim(wish)
        await store.finish(wish, bytes(2_000))
    store._writer._tidy_at = 0.0
    await store.look("nothing")
    await store.look("nothing")
    kept = [isinstance(await store.look(f"name-{index:02}"), Done) for index in range(20)]
    assert kept == [False] * 15 + [True] * 5
    assert isinstance(await store.find("owner-0"), Expired)
    await store.close()


async def test_what_is_over_is_deleted(path: Path) -> None:
    now = 1_000_000.0
    file = SqliteFile(path=path, bytes_max=100_000, entries_max=1_000)
    store = SqliteStore(file, EventList(), wall=lambda: now)
    await store.open()
    for index in range(10):
        wish = a_wish(f"name-{index}", f"owner-{index}", lease_s=10.0, ttl_s=100.0)
        await store.claim(wish)
        if index % 2:
            await store.finish(wish, b"answer")
    now += 201.0
    store._writer._tidy_at = 0.0
    await store.look("nothing")
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        counts = [
            connection.execute("SELECT COUNT(*) FROM names").fetchone(),
            connection.execute("SELECT COUNT(*) FROM streams").fetchone(),
        ]
    assert counts == [(0,), (0,)]


async def test_a_lease_from_before_the_clock_was_set_back_has_ended(path: Path) -> None:
    now = 1_000_000.0
    file = SqliteFile(path=path, bytes_max=100_000, entries_max=1_000)
    store = SqliteStore(file, EventList(), wall=lambda: now)
    await store.open()
    await store.claim(a_wish(lease_s=10.0))
    now -= 5.0
    assert isinstance(await store.claim(a_wish(owner="owner-2", lease_s=10.0)), Running)
    now -= 3_600.0
    assert await store.claim(a_wish(owner="owner-2", lease_s=10.0)) == Fresh()
    await store.close()


async def test_a_full_disk_is_an_absence_that_ends(path: Path) -> None:
    events = EventList()
    store = SqliteStore(
        SqliteFile(path=path, bytes_max=40_000, entries_max=1, answer_s_max=5.0), events
    )
    await store.open()
    small, large = a_wish("small", "owner-s"), a_wish("large", "owner-l")
    await store.claim(small)
    await store.claim(large)
    assert await store.finish(small, bytes(100))
    with pytest.raises(StoreAway):
        await store.finish(large, bytes(500_000))
    assert store.away
    assert events.named("store.away") == [{"level": "warning", "reason": "SQLITE_FULL"}]
    await asyncio.sleep(0.3)
    assert isinstance(await store.look("small"), Done)
    assert isinstance(await store.look("large"), Running)
    assert events.named("store.back") == [{}]
    await store.close()


@pytest.mark.parametrize("obstacle", ["file", "folder", "garbage", "another"])
async def test_a_file_that_cannot_be_used_is_an_absence(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "state" / "replay.sqlite"
    match obstacle:
        case "file":
            path.parent.write_text("a file where the folder should be")
        case "folder":
            path.mkdir(parents=True)
        case "garbage":
            path.parent.mkdir()
            path.write_bytes(b"this is no database, and longer than its header\n" * 100)
        case "another":
            path.parent.mkdir()
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA user_version=99")
                connection.execute("CREATE TABLE names (other)")
    store = a_store(path)
    await store.open()
    for _ in range(2):
        with pytest.raises(StoreAway):
            await store.claim(a_wish())
    assert store.away
    await store.close()


async def test_a_disk_that_hangs_costs_one_wait_and_not_one_each(path: Path) -> None:
    store = a_store(path, answer_s_max=0.05)
    await store.open()
    await store.claim(a_wish())
    hanging, go_on = threading.Event(), threading.Event()

    def hang(_: sqlite3.Connection) -> None:
        hanging.set()
        go_on.wait(5.0)

    with pytest.raises(StoreAway):
        await store._writer.ask(hang)
    assert hanging.is_set()
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(20):
        with pytest.raises(StoreAway):
            await store.look("name")
    assert loop.time() - started < 0.04
    go_on.set()
    async with asyncio.timeout(5.0):
        while store._writer._hangs():
            await asyncio.sleep(0.01)
    assert isinstance(await store.look("name"), Running)
    await store.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from forebay.serve.store_sqlite import SqliteFile, SqliteStore
from forebay.testing.store_contract import a_wish

async def keep(store, lane):
    for index in range(1_000_000):
        name = f"{lane}-{index}"
        wish = a_wish(name, f"owner-{name}")
        await store.claim(wish)
        await store.finish(wish, name.encode() * 50)
        sys.stdout.write(name + "\\n")
        sys.stdout.flush()

async def main():
    file = SqliteFile(path=Path(sys.argv[1]), bytes_max=10**9, entries_max=10**6, answer_s_max=9.0)
    store = SqliteStore(file, lambda event, **_: None)
    await store.open()
    await asyncio.gather(*(keep(store, lane) for lane in range(8)))

asyncio.run(main())
"""


def told_before_it_was_killed(path: Path) -> list[str]:
    """Let a process keep answers, kill it amid them, and return what it was told is kept."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline().strip() for _ in range(300)]
        os.kill(writer.pid, signal.SIGKILL)
        told += [line.strip() for line in writer.stdout if line.endswith("\n")]
    return told


async def test_what_was_told_survives_a_process_that_is_killed_while_it_writes(
    tmp_path: Path,
) -> None:
    for folder in ("a", "b", "c"):
        path = tmp_path / folder / "replay.sqlite"
        told = await asyncio.to_thread(told_before_it_was_killed, path)
        assert len(told) >= 300
        store = a_store(path)
        await store.open()
        for name in told:
            found = await store.look(name)
            assert isinstance(found, Done), name
            assert found.blob == name.encode() * 50
        await store.close()
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY])
async def test_a_file_that_another_is_just_making_is_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """SQLite answers so at once, whatever its time-out, to one of two that change its mode."""
    store = a_store(path)
    real, times = store._writer._prepare, 3

    def prepare(connection: sqlite3.Connection) -> None:
        nonlocal times
        times -= 1
        if times:
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = code
            raise error
        real(connection)

    monkeypatch.setattr(store._writer, "_prepare", prepare)
    await store.open()
    assert await store.claim(a_wish()) == Fresh()
    await store.close()


async def test_no_question_is_lost_between_batches(path: Path) -> None:
    store = a_store(path)
    await store.open()
    go_on = threading.Event()
    blocking = asyncio.create_task(store._writer.ask(lambda _: go_on.wait(5.0)))
    count = 5 * BATCH_MAX
    asked = [asyncio.create_task(store.look(f"name-{index}")) for index in range(count)]
    await asyncio.sleep(0)
    go_on.set()
    async with asyncio.timeout(10.0):
        assert await asyncio.gather(*asked) == [None] * count
    await blocking
    await store.close()


async def test_what_was_asked_before_the_close_is_answered(path: Path) -> None:
    store = a_store(path)
    await store.open()
    wishes = [a_wish(f"name-{index}", f"owner-{index}") for index in range(100)]
    claiming = [asyncio.create_task(store.claim(wish)) for wish in wishes]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*claiming) == [Fresh()] * 100
    with pytest.raises(StoreAway):
        await store.look("name-0")


async def test_a_loop_that_is_late_does_not_make_the_store_look_away(path: Path) -> None:
    store = a_store(path, answer_s_max=0.05)
    await store.open()
    await store.look("nothing")
    asked = [asyncio.create_task(store.claim(a_wish(f"{i}", f"owner-{i}"))) for i in range(50)]
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - the loop does something else for long
    assert await asyncio.gather(*asked) == [Fresh()] * 50
    assert not store.away
    await store.close()


CLAIMER = """
import asyncio, sys
from pathlib import Path
from forebay.serve.store import Fresh
from forebay.serve.store_sqlite import SqliteFile, SqliteStore
from forebay.testing.store_contract import a_wish

async def main():
    file = SqliteFile(path=Path(sys.argv[1]), bytes_max=10**9, entries_max=10**6)
    store = SqliteStore(file, lambda event, **_: None)
    await store.open()
    async def claim(index):
        wish = a_wish(f"name-{index}", f"owner-{index}-{sys.argv[2]}")
        if isinstance(await store.claim(wish), Fresh):
            assert await store.finish(wish, sys.argv[2].encode())
            return index
    for start in range(0, 2_000, 200):
        won = await asyncio.gather(*(claim(index) for index in range(start, start + 200)))
        print(*(index for index in won if index is not None))
    await store.close()

asyncio.run(main())
"""


async def test_each_name_is_one_process_s_however_many_ask_at_once(path: Path) -> None:
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CLAIMER, str(path), str(number)), stdout=subprocess.PIPE
        )
        for number in range(3)
    ]
    won: list[int] = []
    for process in processes:
        output, _ = await process.communicate()
        assert process.returncode == 0
        won += [int(index) for index in output.split()]
    assert sorted(won) == list(range(2_000))
