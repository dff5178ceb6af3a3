import asyncio
from contextlib import aclosing

import pytest

from forebay.core.errors import EngineError, Overloaded
from forebay.core.request import Delta, Event
from forebay.serve.flight_log import Allowance, FlightLog, Reader
from forebay.serve.packing import weight

PIECE = Delta("x" * 100)
BYTES_MAX = 10 * weight(PIECE)


@pytest.fixture
async def allowance() -> Allowance:
    return Allowance(bytes_max=1_000 * weight(PIECE))


@pytest.fixture
async def log(allowance: Allowance) -> FlightLog:
    return FlightLog(allowance, bytes_max=BYTES_MAX)


async def all_of(log: FlightLog, reader: Reader) -> list[Event]:
    """Read to the end."""
    async with aclosing(log.read(reader)) as events:
        found = [event async for event in events]
    log.leave(reader)
    return found


async def some_of(log: FlightLog, reader: Reader, count: int) -> None:
    """Read so many."""
    async with aclosing(log.read(reader)) as events:
        for _ in range(count):
            await anext(events)


async def test_each_reader_has_every_event_whenever_it_comes(log: FlightLog) -> None:
    early = asyncio.create_task(all_of(log, log.enter(0.0)))
    await log.append(PIECE)
    middle = asyncio.create_task(all_of(log, log.enter(0.0)))
    await asyncio.sleep(0)
    await log.append(PIECE)
    log.end(None)
    late = await all_of(log, log.enter(0.0))
    assert await early == await middle == late == [PIECE] * 2


async def test_a_failure_comes_after_the_events_and_to_each_its_own(log: FlightLog) -> None:
    readers = [log.enter(0.0) for _ in range(2)]
    await log.append(PIECE)
    log.end(Overloaded("full", retry_after_s=3.0))
    raised = []
    for reader in readers:
        with pytest.raises(Overloaded) as error:
            await all_of(log, reader)
        raised.append(error.value)
    assert raised[0] is not raised[1]
    assert [error.retry_after_s for error in raised] == [3.0, 3.0]


async def test_what_is_kept_is_given_back_when_all_have_read(
    log: FlightLog, allowance: Allowance
) -> None:
    readers = [log.enter(0.0) for _ in range(2)]
    for _ in range(5):
        await log.append(PIECE)
    log.end(None)
    assert allowance.bytes_kept == log.bytes_kept == 5 * weight(PIECE)
    log.leave(readers[0])
    assert len(await all_of(log, readers[1])) == 5
    assert allowance.bytes_kept == 0


async def test_the_log_of_a_generation_that_nobody_reads_is_dropped_at_its_end(
    log: FlightLog, allowance: Allowance
) -> None:
    await log.append(PIECE)
    log.end(None)
    assert allowance.bytes_kept == 0


async def test_beyond_its_bytes_a_log_keeps_only_what_is_still_to_be_read(
    log: FlightLog, allowance: Allowance
) -> None:
    reader = log.enter(0.0)
    reading = asyncio.create_task(all_of(log, reader))
    for index in range(100):
        await log.append(PIECE)
        assert log.whole == (index < 10)
        await asyncio.sleep(0)
        assert allowance.bytes_kept <= BYTES_MAX + weight(PIECE)
    log.end(None)
    assert len(await reading) == 100


async def test_the_only_reader_of_a_long_answer_is_waited_for(
    log: FlightLog, allowance: Allowance
) -> None:
    reader = log.enter(0.0)

    async def make() -> None:
        for _ in range(100):
            await log.append(PIECE)
        log.end(None)

    making = asyncio.create_task(make())
    await asyncio.sleep(0.01)
    assert allowance.bytes_kept == 2 * BYTES_MAX + weight(PIECE)
    assert not making.done()
    assert len(await all_of(log, reader)) == 100
    await making


async def test_whoever_waits_for_the_only_reader_goes_on_when_it_leaves(log: FlightLog) -> None:
    reader = log.enter(0.0)

    async def make() -> None:
        for _ in range(100):
            await log.append(PIECE)

    making = asyncio.create_task(make())
    await asyncio.sleep(0.01)
    assert not making.done()
    log.leave(reader)
    await asyncio.wait_for(making, 1.0)


async def test_of_several_the_slowest_is_cut_off_and_the_others_go_on(log: FlightLog) -> None:
    slow, quick = log.enter(0.0), log.enter(0.0)
    await log.append(PIECE)
    await some_of(log, slow, 1)
    reading = asyncio.create_task(all_of(log, quick))
    for _ in range(99):
        await log.append(PIECE)
        await asyncio.sleep(0)
    log.end(None)
    assert len(await reading) == 100
    assert slow.cut
    with pytest.raises(EngineError, match="too slowly"):
        await all_of(log, slow)


async def test_a_reader_that_is_behind_but_within_bounds_is_not_cut_off(log: FlightLog) -> None:
    slow, quick = log.enter(0.0), log.enter(0.0)
    reading = asyncio.create_task(all_of(log, quick))
    for _ in range(20):
        await log.append(PIECE)
        await asyncio.sleep(0)
    assert not log.whole
    log.end(None)
    assert len(await reading) == len(await all_of(log, slow)) == 20


async def test_logs_share_one_allowance() -> None:
    allowance = Allowance(bytes_max=15 * weight(PIECE))
    first, second = (FlightLog(allowance, bytes_max=BYTES_MAX) for _ in range(2))
    readers = first.enter(0.0), second.enter(0.0)
    for _ in range(8):
        await first.append(PIECE)
        await second.append(PIECE)
    assert [first.whole, second.whole] == [True, False]
    first.end(None)
    second.end(None)
    assert len(await all_of(first, readers[0])) == len(await all_of(second, readers[1])) == 8
    assert allowance.bytes_kept == 0


async def test_a_reader_that_is_cancelled_while_it_waits_leaves_the_others_waiting(
    log: FlightLog,
) -> None:
    tasks = [asyncio.create_task(all_of(log, log.enter(0.0))) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.sleep(0)
    await log.append(PIECE)
    log.end(None)
    assert await tasks[0] == await tasks[2] == [PIECE]


async def test_nobody_enters_a_log_whose_beginning_is_gone(log: FlightLog) -> None:
    for _ in range(20):
        await log.append(PIECE)
    with pytest.raises(AssertionError):
        log.enter(0.0)
