"""The slot between the reader of frames and the generator: in order, bounded, never lost."""

import asyncio

import pytest

from forebay.core.errors import EngineError
from forebay.core.request import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Scheduled,
    TokenLogprob,
    Usage,
)
from forebay.engine.outbox import Outbox

FINISHED = Finished(Usage(3, 2))


async def rest_of(outbox: Outbox) -> list[Event]:
    events: list[Event] = []
    while not events or not isinstance(events[-1], Finished):
        events.append(await outbox.take())
    return events


async def test_scheduled_comes_with_the_first_delta_and_wakes_nobody_before() -> None:
    outbox = Outbox(8)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.schedule(3)
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put(Delta("a"))
    assert await taking == Scheduled(3)
    assert await outbox.take() == Delta("a")


async def test_more_says_that_the_next_event_is_waiting() -> None:
    outbox = Outbox(8)
    outbox.put(Delta("a"))
    outbox.put(Delta("b"))
    first, second = await outbox.take(), await outbox.take()
    assert isinstance(first, Delta)
    assert isinstance(second, Delta)
    assert (first.more, second.more) == (True, False)


async def test_who_waits_is_woken() -> None:
    outbox = Outbox(8)
    taking = asyncio.create_task(rest_of(outbox))
    for letter in "abc":
        await asyncio.sleep(0)
        outbox.put(Delta(letter))
    outbox.finish(FINISHED)
    events = await taking
    assert [event.text for event in events if isinstance(event, Delta)] == ["a", "b", "c"]


async def test_a_slow_reader_costs_a_bounded_number_of_objects_and_loses_nothing() -> None:
    outbox = Outbox(8)
    outbox.schedule(1)
    for number in range(1_000):
        entry = TokenLogprob("x", b"x", -float(number))
        outbox.put(Delta(f"{number} ", 1, number % 2, None, (entry,)))
        assert len(outbox) <= 9
    outbox.put(Delta("", 0, 0, FinishReason.STOP))
    outbox.finish(FINISHED)
    events = await rest_of(outbox)
    deltas = [event for event in events if isinstance(event, Delta)]
    assert events[0] == Scheduled(1)
    assert sum(delta.tokens for delta in deltas) == 1_000
    for choice in (0, 1):
        own = [delta for delta in deltas if delta.choice == choice]
        said = "".join(delta.text for delta in own)
        assert said == "".join(f"{number} " for number in range(choice, 1_000, 2))
        odds = [entry.logprob for delta in own for entry in delta.logprobs]
        assert odds == [-float(number) for number in range(choice, 1_000, 2)]
    assert [delta.finish_reason for delta in deltas if delta.choice == 0][-1] is FinishReason.STOP


async def test_a_failure_is_raised_after_what_waits() -> None:
    outbox = Outbox(8)
    outbox.put(Delta("a"))
    outbox.fail(EngineError("lost"))
    assert isinstance(await outbox.take(), Delta)
    with pytest.raises(EngineError):
        await outbox.take()


async def test_a_failure_wakes_who_waits() -> None:
    outbox = Outbox(8)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    outbox.fail(EngineError("lost"))
    with pytest.raises(EngineError):
        await taking


async def test_what_has_ended_does_not_fail_afterwards() -> None:
    outbox = Outbox(8)
    outbox.finish(FINISHED)
    outbox.fail(EngineError("lost"))
    assert await outbox.take() == FINISHED


async def test_a_reader_that_is_cancelled_leaves_the_events_there() -> None:
    outbox = Outbox(8)
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    outbox.put(Delta("a"))
    assert await outbox.take() == Delta("a")
