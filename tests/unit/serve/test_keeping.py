import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.request import Source
from forebay.serve.keeping import KeepingConfig, keeping
from forebay.serve.replay import Replay
from forebay.serve.replay_config import ReplayConfig
from tests.support.events import EventList
from tests.support.generations import (
    Generations,
    begun_of,
    eventually,
    keyed,
    outcome,
    read,
    shown,
    source_of,
    text_of,
)


@asynccontextmanager
async def a_gateway(path: Path, **facts: float) -> AsyncIterator[Replay]:
    """One process's replay over a file."""
    config = ReplayConfig(path=str(path), poll_s=0.005, **facts)  # type: ignore[arg-type]
    replay = Replay(
        config, store=keeping(KeepingConfig(replay=config), MONOTONIC, EventList()).store
    )
    await replay.start()
    try:
        yield replay
    finally:
        await replay.stop()


async def test_a_key_s_answer_survives_a_restart(tmp_path: Path) -> None:
    made = Generations()
    async with a_gateway(tmp_path / "r") as replay:
        first = await read(replay.attach(keyed("a"), made))
        assert not begun_of(first).degraded
    async with a_gateway(tmp_path / "r") as replay:
        second = await read(replay.attach(keyed("b"), made))
        third = await read(replay.reopen("chatcmpl-a", "anonymous"))
    assert len(made.asked) == 1
    assert source_of(second) is Source.REPLAYED
    assert shown(first) == shown(second) == shown(third)
    assert begun_of(second).completion_id == begun_of(third).completion_id == "chatcmpl-a"


async def test_two_processes_make_one_answer(tmp_path: Path) -> None:
    made = Generations()
    made.gate.clear()
    async with a_gateway(tmp_path / "r") as one, a_gateway(tmp_path / "r") as two:
        tasks = [
            asyncio.create_task(read(gateway.attach(keyed(f"{index}"), made)))
            for index, gateway in enumerate([one, two] * 3)
        ]
        await eventually(lambda: made.held == 1)
        await asyncio.sleep(0.05)
        made.gate.set()
        answers = await asyncio.gather(*tasks)
    assert len(made.asked) == 1
    assert all(shown(events) == shown(answers[0]) for events in answers)
    assert {begun_of(events).completion_id for events in answers} == {
        begun_of(answers[0]).completion_id
    }


async def test_another_process_s_stream_is_reopened_when_it_is_done(tmp_path: Path) -> None:
    made = Generations()
    made.gate.clear()
    async with a_gateway(tmp_path / "r") as one, a_gateway(tmp_path / "r") as two:
        first = asyncio.create_task(read(one.attach(keyed("a"), made)))
        await eventually(lambda: made.held == 1)
        again = asyncio.create_task(read(two.reopen("chatcmpl-a", "anonymous")))
        resumed = asyncio.create_task(read(two.attach(keyed("b", resume_after=1), made)))
        waiting = asyncio.create_task(outcome(two.attach(keyed("c", attach=False), made)))
        assert await waiting == "Conflict"
        made.gate.set()
        assert shown(await again) == shown(await first) == shown(await resumed)
    assert len(made.asked) == 1


async def test_a_process_that_died_loses_its_key_when_its_lease_ends(tmp_path: Path) -> None:
    made = Generations()
    made.gate.clear()
    async with a_gateway(tmp_path / "r", lease_s=0.2) as dead, a_gateway(tmp_path / "r") as heir:
        first = asyncio.create_task(read(dead.attach(keyed("a"), made)))
        await eventually(lambda: made.held == 1)
        await dead._keys.leases.stop()  # it renews nothing any more: as good as dead
        second = asyncio.create_task(read(heir.attach(keyed("b"), made)))
        await eventually(lambda: len(made.asked) == 2)
        made.gate.set()
        answer = await second
        assert source_of(answer) is Source.ENGINE
        assert heir.counts.taken_over == 1
        with pytest.raises(Exception, match="took this key over"):
            await first
        assert dead.counts.fenced == 1
        assert shown(await read(dead.attach(keyed("c"), made))) == shown(answer)
    assert len(made.asked) == 2


async def test_a_slow_owner_that_renews_keeps_its_key(tmp_path: Path) -> None:
    made = Generations()
    made.gate.clear()
    async with a_gateway(tmp_path / "r", lease_s=0.4) as slow, a_gateway(tmp_path / "r") as other:
        first = asyncio.create_task(read(slow.attach(keyed("a"), made)))
        await eventually(lambda: made.held == 1)
        second = asyncio.create_task(read(other.attach(keyed("b"), made)))
        await asyncio.sleep(1.0)
        made.gate.set()
        assert shown(await second) == shown(await first)
    assert len(made.asked) == 1


async def test_a_key_that_another_took_stops_its_late_generation(tmp_path: Path) -> None:
    made = Generations()
    made.gate.clear()
    async with a_gateway(tmp_path / "r", lease_s=0.3) as late:
        first = asyncio.create_task(read(late.attach(keyed("a"), made)))
        await eventually(lambda: made.held == 1)
        with closing(sqlite3.connect(tmp_path / "r", isolation_level=None)) as connection:
            connection.execute("UPDATE names SET owner = 'another'")
        with pytest.raises(Exception, match="took this key over"):
            await first
        assert made.held == 0
        assert late.counts.fenced == 1


async def test_without_a_file_this_process_goes_on_and_says_so(tmp_path: Path) -> None:
    made = Generations()
    (tmp_path / "r").mkdir()
    async with a_gateway(tmp_path / "r") as replay:
        answers = await asyncio.gather(
            *(read(replay.attach(keyed(f"{index}"), made)) for index in range(3))
        )
        later = await read(replay.attach(keyed("later"), made))
    assert len(made.asked) == 1
    assert {text_of(events) for events in [*answers, later]} == {"1.0 1.1 1.2 "}
    assert all(begun_of(events).degraded for events in answers)


async def test_a_thousand_keys_of_five_duplicates_make_a_thousand_answers(tmp_path: Path) -> None:
    made = Generations(tokens=2)
    async with a_gateway(tmp_path / "r") as one, a_gateway(tmp_path / "r") as two:
        tasks = [
            asyncio.create_task(
                read((one, two)[copy % 2].attach(keyed(f"{key}-{copy}", key=f"key-{key}"), made))
            )
            for copy in range(5)
            for key in range(1_000)
        ]
        answers = await asyncio.gather(*tasks)
    assert len(made.asked) == made.finished == 1_000
    for key in range(1_000):
        copies = answers[key::1_000]
        assert len(copies) == 5
        assert all(shown(events) == shown(copies[0]) for events in copies)


async def test_the_memory_store_touches_no_file(tmp_path: Path) -> None:
    config = ReplayConfig(store="memory", path=str(tmp_path / "r"))
    replay = Replay(
        config, store=keeping(KeepingConfig(replay=config), MONOTONIC, EventList()).store
    )
    await replay.start()
    await read(replay.attach(keyed(), Generations()))
    await replay.stop()
    assert not config.file().exists()


def test_the_file_lies_in_the_folder_of_state() -> None:
    environ = {"XDG_STATE_HOME": "/states"}
    assert ReplayConfig().file(environ) == Path("/states/forebay/replay.sqlite")
    assert ReplayConfig(path="/here/it").file(environ) == Path("/here/it")
    assert ReplayConfig().file({}).parts[-4:] == (".local", "state", "forebay", "replay.sqlite")
