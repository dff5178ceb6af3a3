"""The open loop: requests come when they are due, whatever the server does."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from forebay.bench.client import Target
from forebay.bench.open_loop import OpenLoop
from forebay.bench.workload import NUMBER, Encoded, Wave, arrivals

Answerer = Callable[[bytes], Awaitable[bytes]]
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
FULL = b"HTTP/1.1 503 x\r\nretry-after-ms: 100\r\nx-forebay-ticket: t1\r\ncontent-length: 0\r\n\r\n"


def wave(**fields: float) -> Wave:
    return Wave(name="w", body=f'{{"n": "{NUMBER}"}}', stream=False, **{"seconds": 1.0, **fields})  # type: ignore[arg-type] # numbers only


@asynccontextmanager
async def answering(answer: Answerer) -> AsyncIterator[Target]:
    """Serve each request with what `answer` makes of its bytes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                body = await reader.readexactly(len(NUMBER) + 9)
                writer.write(await answer(head + body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield Target(host="127.0.0.1", port=server.sockets[0].getsockname()[1])


def test_arrivals_are_as_many_as_asked_for_and_stay_within_their_wave() -> None:
    found = list(arrivals(wave(per_s=500.0, begins_s=2.0, seconds=4.0), random.Random(1)))
    assert 1_800 < len(found) < 2_200
    assert found == sorted(found)
    assert found[0] > 2.0
    assert found[-1] < 6.0


def test_each_request_is_another_one_of_the_same_length() -> None:
    encoded = Encoded(wave(), "h", 7)
    found = {encoded.request(number) for number in range(100)}
    assert len(found) == 100
    assert len({len(each) for each in found}) == 1


async def test_a_slow_server_is_asked_all_the_same_and_its_slowness_is_seen() -> None:
    async def slow(_: bytes) -> bytes:
        await asyncio.sleep(0.4)
        return GOOD

    async with answering(slow) as target:
        loop = OpenLoop(target, seed=1)
        await loop.run([wave(per_s=100.0, seconds=0.5)])
    assert 30 < len(loop.samples) < 80
    assert all(sample.ok for sample in loop.samples)
    assert min(sample.ended - sample.due for sample in loop.samples) > 0.39
    assert max(sample.sent - sample.due for sample in loop.samples) < 0.2


async def test_a_request_that_waits_for_a_connection_counts_its_wait() -> None:
    async def slow(_: bytes) -> bytes:
        await asyncio.sleep(0.05)
        return GOOD

    async with answering(slow) as target:
        loop = OpenLoop(target, seed=1, connections_max=1)
        await loop.run([wave(per_s=100.0, seconds=0.2)])
    assert len(loop.samples) > 5
    assert max(sample.ended - sample.due for sample in loop.samples) > 0.2


async def test_some_of_those_refused_come_back_when_told_to_with_their_ticket() -> None:
    tickets: list[bytes] = []

    async def full(request: bytes) -> bytes:
        tickets.extend([request] if b"x-forebay-ticket: t1" in request else [])
        return FULL

    async with answering(full) as target:
        loop = OpenLoop(target, seed=1)
        await loop.run([wave(per_s=50.0, seconds=0.5, retried_share=0.5)])
    retries = [sample for sample in loop.samples if sample.retry]
    first = [sample for sample in loop.samples if not sample.retry]
    assert 0 < len(retries) < len(first)
    assert len(tickets) == len(retries)
    assert all(sample.retry_after_ms == 100 for sample in loop.samples)
    assert max(sample.due for sample in loop.samples) < 0.55, "none after the load is over"


async def test_hands_ask_again_as_soon_as_they_are_answered() -> None:
    async def soon(_: bytes) -> bytes:
        await asyncio.sleep(0.02)
        return GOOD

    async with answering(soon) as target:
        loop = OpenLoop(target, seed=1)
        await loop.run([wave(hands=2, seconds=0.3)])
    assert 10 < len(loop.samples) < 34


@pytest.mark.parametrize("closing_s", [0.05])
async def test_what_is_not_answered_in_time_is_given_up_and_counted(closing_s: float) -> None:
    async def never(_: bytes) -> bytes:
        await asyncio.sleep(30)
        return GOOD

    async with answering(never) as target:
        loop = OpenLoop(target, seed=1)
        await loop.run([wave(per_s=50.0, seconds=0.1)], closing_s=closing_s)
    assert loop.samples
    assert {sample.error for sample in loop.samples} == {"given up"}
