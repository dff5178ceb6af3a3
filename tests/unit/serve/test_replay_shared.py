import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from forebay.core.clock import MONOTONIC, ManualClock
from forebay.core.errors import Draining, EngineError
from forebay.core.request import Event, Priority, Request, Reuse, Source
from forebay.serve.cache import CacheConfig, MemoryCache
from forebay.serve.replay import Replay
from forebay.serve.replay_config import ReplayConfig
from tests.support.generations import (
    Generations,
    asking,
    begun_of,
    eventually,
    outcome,
    read,
    shown,
    source_of,
    text_of,
)

REUSE = Reuse(read=True, write=True)


def repeatable(name: str = "a", /, **facts: Any) -> Request:
    """Return a request that asks for the same answer every time."""
    return asking(name, **({"repeatable": True} | facts))


def reusing(name: str = "a", /, **facts: Any) -> Request:
    """Return a repeatable request that an answer made before may serve."""
    return repeatable(name, **({"reuse": REUSE} | facts))


async def together(replay: Replay, made: Generations, *requests: Request) -> list[list[Event]]:
    """Read the answers of requests that come at once."""
    return await asyncio.gather(*(read(replay.attach(request, made)) for request in requests))


async def test_a_plain_request_is_passed_on_as_it_is(replay: Replay, made: Generations) -> None:
    request = asking()
    events = replay.attach(request, made)
    assert type(events) is type(made(request))
    answer = await read(events)
    assert made.asked[-1] is request
    assert text_of(answer)
    assert not replay.counts.flights


async def test_fifty_equal_repeatable_requests_make_one_generation(
    replay: Replay, made: Generations
) -> None:
    answers = await together(replay, made, *(repeatable(f"{index}") for index in range(50)))
    assert len(made.asked) == 1
    assert all(shown(events) == shown(answers[0]) for events in answers)
    assert [source_of(events) for events in answers] == [Source.ENGINE] + [Source.JOINED] * 49
    assert [begun_of(events).completion_id for events in answers] == [
        f"chatcmpl-{index}" for index in range(50)
    ]
    assert not any(begun_of(events).resumable for events in answers)


@pytest.mark.parametrize(
    "facts",
    [
        {"tenant": "other"},
        {"imprint": "fp_other"},
        {"priority": Priority.BATCH},
        {"repeatable": False},
        {"model": "other"},
    ],
)
async def test_what_is_not_equal_is_not_shared(
    replay: Replay, made: Generations, facts: dict[str, Any]
) -> None:
    await together(replay, made, repeatable("a"), repeatable("b", **facts))
    assert len(made.asked) == 2


async def test_a_whole_answer_joins_a_stream_and_not_the_other_way(made: Generations) -> None:
    for first, second, generations in ((True, False, 1), (False, True, 2), (False, False, 1)):
        made.asked.clear()
        requests = repeatable("a", stream=first), repeatable("b", stream=second)
        await together(Replay(), made, *requests)
        assert len(made.asked) == generations, (first, second)


async def test_switched_off_nothing_is_shared(made: Generations) -> None:
    replay = Replay(ReplayConfig(coalesce=False))
    await together(replay, made, repeatable("a"), repeatable("b"))
    await together(replay, made, reusing("a", tenant="b"), reusing("b", tenant="b"))
    assert len(made.asked) == 4


async def test_the_last_reader_s_leaving_ends_the_generation(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    tasks = [
        asyncio.create_task(read(replay.attach(repeatable(f"{index}"), made))) for index in range(3)
    ]
    await eventually(lambda: made.held == 1)
    for task in tasks[:2]:
        task.cancel()
    await asyncio.sleep(0.005)
    assert made.held == 1
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await eventually(lambda: made.held == 0)
    assert not list(replay.holdings())


async def test_who_comes_while_a_flight_is_being_closed_begins_anew(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    first = asyncio.create_task(read(replay.attach(repeatable("a"), made)))
    await eventually(lambda: made.held == 1)
    first.cancel()
    made.gate.set()
    second = asyncio.create_task(read(replay.attach(repeatable("b"), made)))
    assert text_of(await second) == "2.0 2.1 2.2 "


async def test_a_failure_is_every_reader_s_and_nobody_s_after(
    replay: Replay, made: Generations
) -> None:
    made.failures.append(EngineError("broken"))
    requests = [reusing(f"{index}") for index in range(3)]
    texts = await asyncio.gather(*(outcome(replay.attach(each, made)) for each in requests))
    assert texts == ["EngineError"] * 3
    assert await outcome(replay.attach(reusing("later"), made)) == "2.0 2.1 2.2 "


async def test_who_has_more_time_than_the_first_one_begins_anew(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    hurried = repeatable("a", deadline=MONOTONIC() + 0.3)
    first = asyncio.create_task(outcome(replay.attach(hurried, made)))
    await eventually(lambda: made.held == 1)
    later = MONOTONIC() + 0.5
    others = [
        asyncio.create_task(read(replay.attach(repeatable(f"{index}", deadline=later), made)))
        for index in range(5)
    ]
    assert await first == "DeadlineExceeded"
    made.gate.set()
    answers = await asyncio.gather(*others)
    assert {text_of(events) for events in answers} == {"2.0 2.1 2.2 "}
    assert len(made.asked) == 2


async def test_nobody_ends_with_the_deadline_of_one_who_has_far_less_time(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    hurried = repeatable("a", deadline=MONOTONIC() + 0.05)
    first = asyncio.create_task(outcome(replay.attach(hurried, made)))
    await eventually(lambda: made.held == 1)
    others = [asyncio.create_task(outcome(replay.attach(repeatable(name), made))) for name in "bc"]
    await eventually(lambda: made.held == 2)
    assert await first == "DeadlineExceeded"
    made.gate.set()
    assert await asyncio.gather(*others) == ["2.0 2.1 2.2 "] * 2
    assert len(made.asked) == 2


async def test_who_has_seen_a_part_ends_with_the_first_one_s_deadline(
    replay: Replay, made: Generations
) -> None:
    made.gate.clear()
    hurried = repeatable("a", deadline=MONOTONIC() + 0.3)
    first = asyncio.create_task(outcome(replay.attach(hurried, made)))
    await eventually(lambda: made.held == 1)
    later = repeatable("b", deadline=MONOTONIC() + 0.4)
    second = asyncio.create_task(outcome(replay.attach(later, made)))
    await asyncio.sleep(0)
    made.gate.set()
    await asyncio.sleep(0)
    made.gate.clear()
    assert await second == "DeadlineExceeded"
    assert await first == "DeadlineExceeded"
    assert len(made.asked) == 1


async def test_a_slow_reader_slows_nobody(replay: Replay, made: Generations) -> None:
    async with aclosing(replay.attach(repeatable("slow"), made)) as slow:
        await anext(slow)
        quick = await read(replay.attach(repeatable("quick"), made))
        assert text_of(quick) == "1.0 1.1 1.2 "
        assert made.finished == 1
        rest = [event async for event in slow]
    assert text_of(rest) == "1.0 1.1 1.2 "


async def test_a_stop_ends_shared_readers_too(made: Generations) -> None:
    replay = Replay()
    made.gate.clear()
    reader = asyncio.create_task(read(replay.attach(repeatable(), made)))
    await eventually(lambda: made.held == 1)
    await replay.stop()
    with pytest.raises(Draining):
        await reader


async def test_beyond_the_most_flights_a_request_goes_its_own_way(made: Generations) -> None:
    replay = Replay(ReplayConfig(flights_max=1))
    made.gate.clear()
    first = asyncio.create_task(read(replay.attach(repeatable("a"), made)))
    await eventually(lambda: made.held == 1)
    other = repeatable("b", tenant="other")
    second = asyncio.create_task(read(replay.attach(other, made)))
    await eventually(lambda: made.held == 2)
    made.gate.set()
    assert text_of(await first) == "1.0 1.1 1.2 "
    assert text_of(await second) == "2.0 2.1 2.2 "


async def test_an_answer_serves_again_whole_or_as_a_stream(
    replay: Replay, made: Generations
) -> None:
    first = await read(replay.attach(reusing("a"), made))
    for stream in (True, False):
        request = reusing("b", stream=stream, shape="usage")
        again = await read(replay.attach(request, made))
        assert shown(again) == shown(first)
        assert source_of(again) is Source.CACHED
        assert begun_of(again).completion_id == "chatcmpl-b"
        assert begun_of(again).shape == "usage"
        assert not begun_of(again).resumable
    assert len(made.asked) == 1
    assert (replay.counts.cache_hits, replay.counts.cache_misses) == (2, 1)


@pytest.mark.parametrize(
    "facts", [{"tenant": "other"}, {"imprint": "fp_other"}, {"model": "other"}]
)
async def test_an_answer_serves_its_own_tenant_and_model_only(
    replay: Replay, made: Generations, facts: dict[str, Any]
) -> None:
    await read(replay.attach(reusing("a"), made))
    await read(replay.attach(reusing("b", **facts), made))
    assert len(made.asked) == 2


async def test_what_may_not_be_read_or_written_is_not(replay: Replay, made: Generations) -> None:
    await read(replay.attach(repeatable("a", reuse=Reuse(read=True)), made))
    await read(replay.attach(reusing("b"), made))
    assert len(made.asked) == 2
    await read(replay.attach(repeatable("c", reuse=Reuse(write=True)), made))
    assert len(made.asked) == 3
    newest = await read(replay.attach(reusing("d"), made))
    assert text_of(newest) == "3.0 3.1 3.2 "


async def test_an_answer_serves_no_longer_than_asked_and_than_it_is_kept(
    made: Generations,
) -> None:
    clock = ManualClock(MONOTONIC())
    replay = Replay(cache=MemoryCache(CacheConfig(ttl_s=100.0), clock))
    await read(replay.attach(reusing("a"), made))
    clock.advance(50.0)
    await read(replay.attach(reusing("b"), made))
    assert len(made.asked) == 1
    await read(replay.attach(reusing("c", reuse=Reuse(read=True, age_s_max=49.0)), made))
    assert len(made.asked) == 2
    clock.advance(50.0)
    await read(replay.attach(reusing("d"), made))
    assert len(made.asked) == 3


async def test_any_answer_may_be_kept_where_the_client_asks(
    replay: Replay, made: Generations
) -> None:
    first = await read(replay.attach(reusing("a", repeatable=False), made))
    again = await read(replay.attach(reusing("b", repeatable=False), made))
    assert shown(again) == shown(first)
    assert len(made.asked) == 1


async def test_an_answer_that_failed_or_was_left_is_not_kept(
    replay: Replay, made: Generations
) -> None:
    made.failures.append(EngineError("broken"))
    await outcome(replay.attach(reusing("a"), made))
    async with aclosing(replay.attach(reusing("b"), made)) as events:
        await anext(events)
    assert text_of(await read(replay.attach(reusing("c"), made))).startswith("3.")


async def test_an_answer_that_is_too_long_is_not_kept_and_read_to_its_end() -> None:
    made = Generations(tokens=100)
    replay = Replay(ReplayConfig(flight_bytes_max=4_096))
    assert await outcome(replay.attach(reusing("a"), made)) == "".join(
        f"1.{index} " for index in range(100)
    )
    assert (await outcome(replay.attach(reusing("b"), made))).startswith("2.0 ")


async def test_garbage_in_a_cache_is_a_miss(made: Generations) -> None:
    class Garbage:
        async def get(self, name: str, age_s_max: float) -> bytes | None:
            return b"\xc1 garbage"

        async def put(self, name: str, blob: bytes) -> None:
            """Forget it."""

        def reconfigure(self, config: CacheConfig) -> None:
            """Stay as it is."""

    replay = Replay(cache=Garbage())
    assert await outcome(replay.attach(reusing("a"), made)) == "1.0 1.1 1.2 "
    assert replay.counts.cache_misses == 1


async def test_sharing_can_be_switched_off_while_it_runs(made: Generations) -> None:
    replay = Replay()
    replay.reconfigure(ReplayConfig(coalesce=False), CacheConfig(enabled=False))
    await together(replay, made, repeatable("a"), repeatable("a"))
    assert replay.counts.flights == 0
    await replay.stop()
