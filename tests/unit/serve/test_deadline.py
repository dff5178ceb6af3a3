import asyncio
from contextlib import aclosing

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import DeadlineExceeded
from forebay.core.request import Event, Events
from forebay.serve.deadline import until
from tests.support.engines import PuppetEngine
from tests.support.requests import a_request


def soon() -> float:
    return MONOTONIC() + 0.01


async def read(events: Events) -> list[Event]:
    async with aclosing(events):
        return [event async for event in events]


async def test_events_in_time_pass_through() -> None:
    engine = PuppetEngine(lambda _: "ddf")
    events = await read(until(MONOTONIC() + 60.0, engine.generate(a_request())))
    assert len(events) == 4
    assert engine.held == 0


async def test_a_hanging_engine_is_closed_when_time_is_up() -> None:
    engine = PuppetEngine(lambda _: "dh")
    with pytest.raises(DeadlineExceeded):
        await read(until(soon(), engine.generate(a_request())))
    assert engine.held == 0


async def test_the_reader_is_not_struck_while_it_is_busy_elsewhere() -> None:
    engine = PuppetEngine(lambda _: "dddddf")
    read_so_far: list[Event] = []

    async def read_slowly() -> None:
        async with aclosing(until(soon(), engine.generate(a_request()))) as events:
            async for event in events:
                read_so_far.append(event)
                await asyncio.sleep(0.02)

    with pytest.raises(DeadlineExceeded):
        await read_slowly()
    assert len(read_so_far) == 1
    assert engine.held == 0


async def test_a_cancellation_from_outside_stays_a_cancellation() -> None:
    engine = PuppetEngine(lambda _: "h")
    reader = asyncio.create_task(read(until(MONOTONIC() + 60.0, engine.generate(a_request()))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert engine.held == 0


async def test_after_the_deadline_the_task_is_not_left_cancelled() -> None:
    engine = PuppetEngine(lambda _: "h")
    with pytest.raises(DeadlineExceeded):
        await read(until(soon(), engine.generate(a_request())))
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_an_outer_timeout_that_strikes_first_is_not_mistaken_for_the_deadline() -> None:
    engine = PuppetEngine(lambda _: "h")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await read(until(MONOTONIC() + 60.0, engine.generate(a_request())))
    assert engine.held == 0
