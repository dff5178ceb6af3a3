"""The link to Redis when Redis is killed, hung, slow or refused: what a question costs."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from forebay.drill.redis_server import RedisServer, running_redis
from forebay.drill.slow_link import slow_link
from forebay.serve.redis_link import RedisLink
from forebay.serve.store import StoreAway
from tests.support.redis import Said, a_link, needs_redis

pytestmark = needs_redis

TIMEOUT_S, REST_S = 0.05, 0.1
BUSY_S = 1.0
"""What a machine that is busy with other tests may add."""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
async def link(server: RedisServer, said: Said) -> AsyncIterator[RedisLink]:
    link = a_link(server.url, said, timeout_s=TIMEOUT_S, rest_s=REST_S)
    await link.open()
    yield link
    await link.close()


async def ask(link: RedisLink) -> bool:
    """Whether it answers."""
    try:
        return bool(await link.ask(lambda client: client.ping()))
    except StoreAway:
        return False


async def until(true: Callable[[], object], limit_s: float = 5.0) -> float:
    began = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not true():
            await asyncio.sleep(0.005)
    return time.monotonic() - began


async def failures_until_away(link: RedisLink) -> int:
    count = 0
    while not link.away:
        assert not await ask(link)
        count += 1
    return count


async def cost_s(link: RedisLink) -> float:
    began = time.monotonic()
    assert not await ask(link)
    return time.monotonic() - began


async def test_a_killed_server_is_left_alone_after_three_and_found_again(
    link: RedisLink, server: RedisServer, said: Said
) -> None:
    assert await ask(link)
    server.crash()
    assert await failures_until_away(link) <= 3
    assert await cost_s(link) < 0.005
    server.start()
    assert await until(lambda: not link.away) < 2.0
    assert await ask(link)
    server.crash()
    assert await failures_until_away(link) <= 3
    assert said.names == ["store.away", "store.back", "store.away"]
    assert [facts["failures"] for name, facts in said.events if name == "store.away"] == [3, 3]


async def test_a_hung_server_costs_each_of_three_its_time_out_and_then_nobody(
    link: RedisLink, server: RedisServer
) -> None:
    assert await ask(link)
    server.hang()
    began = time.monotonic()
    assert await failures_until_away(link) <= 3
    assert time.monotonic() - began < 3 * TIMEOUT_S + BUSY_S
    assert await cost_s(link) < 0.005
    await asyncio.sleep(3 * REST_S)
    assert link.away
    assert await until(lambda: len(link._under_way) <= 1) < BUSY_S, "only a probe may be out"
    assert await cost_s(link) < 0.005
    server.wake()
    assert await until(lambda: not link.away) < 2.0
    assert await ask(link)


async def test_a_crowd_before_a_hung_server_waits_for_one_time_out_only(
    link: RedisLink, server: RedisServer
) -> None:
    assert await ask(link)
    server.hang()
    began = time.monotonic()
    assert not any(await asyncio.gather(*(ask(link) for _ in range(2_000))))
    assert time.monotonic() - began < TIMEOUT_S + BUSY_S
    server.wake()


async def test_a_crowd_before_a_quick_server_is_answered(link: RedisLink) -> None:
    assert all(await asyncio.gather(*(ask(link) for _ in range(500))))


async def test_failures_that_are_far_apart_are_forgiven(link: RedisLink) -> None:
    async def fail() -> None:
        with pytest.raises(StoreAway):
            await link.run("return redis.error_reply('ERR no')", (), ())

    for _ in range(6):
        await fail()
        for _ in range(12):
            assert await ask(link)
    assert not link.away
    for _ in range(3):
        await fail()
    assert link.away


async def test_a_slow_server_is_away_until_it_is_quick(server: RedisServer, said: Said) -> None:
    async with slow_link(server.port) as slow:
        link = a_link(f"redis://127.0.0.1:{slow.port}", said, timeout_s=TIMEOUT_S, rest_s=REST_S)
        await link.open()
        assert await ask(link)
        slow.delay_s = 0.2
        assert await failures_until_away(link) <= 3
        await asyncio.sleep(5 * REST_S)
        assert said.names == ["store.away"]
        slow.delay_s = 0.0
        assert await until(lambda: not link.away) < 2.0
        await link.close()


async def test_one_at_the_edge_of_the_time_out_does_not_come_and_go(
    server: RedisServer, said: Said
) -> None:
    async with slow_link(server.port) as slow:
        link = a_link(f"redis://127.0.0.1:{slow.port}", said, timeout_s=TIMEOUT_S, rest_s=REST_S)
        await link.open()
        slow.delay_s = 0.2
        await failures_until_away(link)
        slow.delay_s = 0.8 * TIMEOUT_S
        await asyncio.sleep(8 * REST_S)
        assert said.names == ["store.away"]
        await link.close()


async def test_a_late_turn_of_our_own_loop_is_not_held_against_redis(link: RedisLink) -> None:
    assert await ask(link)
    asked = [asyncio.create_task(ask(link)) for _ in range(5)]
    await asyncio.sleep(0)
    time.sleep(4 * TIMEOUT_S)  # noqa: ASYNC251 - it is what the test is about
    assert all(await asyncio.gather(*asked))
    assert link.failures == 0


async def test_a_question_that_is_cancelled_harms_nobody_else(
    link: RedisLink, server: RedisServer
) -> None:
    assert await ask(link)
    server.hang()
    asked = [asyncio.create_task(ask(link)) for _ in range(20)]
    await asyncio.sleep(TIMEOUT_S / 5)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    server.wake()
    assert link.failures == 0
    echoes = await asyncio.gather(*(link.run("return ARGV[1]", (), (i,)) for i in range(50)))
    assert echoes == [str(i).encode() for i in range(50)]


async def test_where_nobody_listens_the_link_opens_and_closes_all_the_same() -> None:
    said = Said()
    link = a_link("redis://127.0.0.1:1", said, timeout_s=TIMEOUT_S, rest_s=REST_S)
    await link.open()
    assert await failures_until_away(link) <= 3
    await asyncio.sleep(2 * REST_S)
    await link.close()
    assert said.names == ["store.away"]


async def test_a_password_that_does_not_fit_is_an_absence_too(
    server: RedisServer, said: Said
) -> None:
    server.say("CONFIG SET requirepass secret")
    link = a_link(server.url, said, timeout_s=TIMEOUT_S, rest_s=REST_S)
    await link.open()
    assert await failures_until_away(link) <= 3
    await link.close()
    assert "secret" not in str(said.events)
