import asyncio
from contextlib import aclosing

import pytest

from forebay.core.errors import EngineError, Gone, Invalid
from forebay.core.request import Delta, Source
from forebay.serve.replay import Replay
from forebay.serve.replay_config import ReplayConfig
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


async def test_an_answer_that_is_too_long_is_read_to_its_end_and_not_kept() -> None:
    made = Generations(tokens=100)
    replay = Replay(ReplayConfig(flight_bytes_max=4_096))
    reading = asyncio.create_task(read(replay.attach(keyed(), made)))
    await eventually(lambda: replay.counts.flights == 1)
    assert text_of(await reading).startswith("1.0 1.1 ")
    assert replay.counts.overflowed == 1
    assert (await outcome(replay.attach(keyed("b"), made))).startswith("2.0 ")
    assert await outcome(replay.attach(keyed("c", resume_after=3), made)) == "Gone"


async def test_an_answer_that_became_too_long_cannot_be_joined() -> None:
    made = Generations(tokens=100)
    replay = Replay(ReplayConfig(flight_bytes_max=4_096))
    async with aclosing(replay.attach(keyed(), made)) as events:
        async for event in events:
            if isinstance(event, Delta) and event.text == "1.50 ":
                break
        assert await outcome(replay.attach(keyed("b"), made)) == "Conflict"
        assert await outcome(replay.reopen("chatcmpl-a", "anonymous")) == "Gone"
        assert made.held == 1
    await eventually(lambda: made.held == 0)
    assert len(made.asked) == 1


async def test_a_stream_is_reopened_while_it_runs_and_after(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    first = asyncio.create_task(read(replay.attach(keyed(), made)))
    await eventually(lambda: made.held == 1)
    again = asyncio.create_task(read(replay.reopen("chatcmpl-a", "anonymous")))
    await asyncio.sleep(0)
    made.gate.set()
    assert shown(await again) == shown(await first)
    assert source_of(await again) is Source.JOINED
    later = await read(replay.reopen("chatcmpl-a", "anonymous"))
    assert shown(later) == shown(await first)
    assert source_of(later) is Source.REPLAYED
    assert begun_of(later).completion_id == "chatcmpl-a"


async def test_nobody_reopens_another_tenant_s_stream(replay: Replay, made: Generations) -> None:
    made.gate.clear()
    reading = asyncio.create_task(read(replay.attach(keyed(), made)))
    await eventually(lambda: made.held == 1)
    for name, tenant in (("chatcmpl-a", "other"), ("chatcmpl-b", "anonymous"), ("", "")):
        with pytest.raises(Invalid) as refusal:
            await read(replay.reopen(name, tenant))
        assert refusal.value.status == 404
    made.gate.set()
    await reading
    with pytest.raises(Invalid) as refusal:
        await read(replay.reopen("chatcmpl-a", "other"))
    assert refusal.value.status == 404


async def test_a_stream_that_failed_is_gone(replay: Replay, made: Generations) -> None:
    made.failures.append(EngineError("broken"))
    await outcome(replay.attach(keyed(), made))
    with pytest.raises(Gone) as refusal:
        await read(replay.reopen("chatcmpl-a", "anonymous"))
    assert refusal.value.status == 410


async def test_resuming_joins_or_replays_and_never_begins(
    replay: Replay, made: Generations
) -> None:
    with pytest.raises(Gone) as refusal:
        await read(replay.attach(keyed(resume_after=2), made))
    assert refusal.value.status == 410
    assert not made.asked
    made.gate.clear()
    first = asyncio.create_task(read(replay.attach(keyed(), made)))
    await eventually(lambda: made.held == 1)
    second = asyncio.create_task(read(replay.attach(keyed("b", resume_after=2), made)))
    await asyncio.sleep(0)
    made.gate.set()
    assert shown(await second) == shown(await first)
    third = await read(replay.attach(keyed("c", resume_after=0), made))
    assert shown(third) == shown(await first)
    assert len(made.asked) == 1
    other = keyed("d", resume_after=0, shape="usage")
    assert await outcome(replay.attach(other, made)) == "Conflict"


async def test_a_generation_that_lingers_and_becomes_too_long_to_be_read_is_ended() -> None:
    made = Generations(tokens=1_000)
    replay = Replay(ReplayConfig(flight_bytes_max=4_096))
    async with aclosing(replay.attach(keyed(), made)) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    assert made.held == 1
    await eventually(lambda: made.held == 0)
    assert made.finished == 0
    assert not list(replay.holdings())


@pytest.mark.parametrize("pressed", [False, True])
async def test_nobody_waits_long_for_a_generation_that_nobody_reads(*, pressed: bool) -> None:
    made = Generations(tokens=10_000)
    config = ReplayConfig(linger_s=600.0, linger_pressed_s=0.0)
    replay = Replay(config, is_pressed=lambda: pressed)
    async with aclosing(replay.attach(keyed(), made)) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    for _ in range(10):
        await asyncio.sleep(0)
    assert made.held == (0 if pressed else 1)
    assert made.finished == 0
    await replay.stop()


async def test_who_comes_back_ends_the_lingering() -> None:
    made = Generations()
    replay = Replay(ReplayConfig(linger_s=0.03))
    made.gate.clear()
    first = asyncio.create_task(read(replay.attach(keyed("a"), made)))
    await eventually(lambda: made.held == 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    again = asyncio.create_task(read(replay.attach(keyed("b"), made)))
    await asyncio.sleep(0.06)
    made.gate.set()
    assert text_of(await again) == "1.0 1.1 1.2 "
    await replay.stop()
