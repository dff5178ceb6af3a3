import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from forebay.core.caller import Rate
from forebay.core.clock import MONOTONIC
from forebay.drill.redis_server import RedisServer
from forebay.serve.limiter import Limiter, MemoryLimiter
from forebay.serve.limits_config import LimitsConfig
from forebay.serve.limits_redis import RedisLimiter, ShelteredLimiter, limiter
from forebay.serve.redis_link import StoreConfig
from forebay.serve.store import StoreAway
from tests.support.limiter_contract import (
    HOURLY,
    LimiterContract,
    an_ask,
    only,
    remaining,
    until_left,
)
from tests.support.redis import Said, a_link, a_running_redis, needs_redis

server = pytest.fixture(scope="module")(a_running_redis)


class TestMemoryLimiter(LimiterContract):
    @pytest.fixture
    def limiter(self) -> MemoryLimiter:
        return MemoryLimiter(LimitsConfig(), MONOTONIC)

    @pytest.fixture
    def other(self, limiter: MemoryLimiter) -> MemoryLimiter:
        return limiter


def far_limiter(server: RedisServer, said: Said | None = None, **facts: Any) -> RedisLimiter:
    return RedisLimiter(a_link(server.url, said, **facts), LimitsConfig(), MONOTONIC)


@needs_redis
class TestRedisLimiter(LimiterContract):
    @pytest.fixture
    async def limiter(self, server: RedisServer) -> AsyncIterator[Limiter]:
        server.flush()
        found = far_limiter(server)
        await found.open()
        yield found
        await found.close()

    @pytest.fixture
    async def other(self, server: RedisServer) -> AsyncIterator[Limiter]:
        found = far_limiter(server)
        await found.open()
        yield found
        await found.close()


@needs_redis
class TestShelteredLimiter(LimiterContract):
    @pytest.fixture
    async def limiter(self, server: RedisServer) -> AsyncIterator[Limiter]:
        server.flush()
        found = sheltered(server)
        await found.open()
        yield found
        await found.close()

    other = TestRedisLimiter.other


def sheltered(
    server: RedisServer, said: Said | None = None, *, replicas: int = 1, **facts: Any
) -> ShelteredLimiter:
    config = LimitsConfig(replicas_max=replicas)
    near = MemoryLimiter(config, MONOTONIC)
    said = said or Said()
    return ShelteredLimiter(far_limiter(server, said, **facts), near, config, log=said)


BRISK: dict[str, Any] = {"timeout_s": 0.1, "rest_s": 0.05}


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
async def shelter(server: RedisServer, said: Said) -> AsyncIterator[ShelteredLimiter]:
    server.flush()
    found = sheltered(server, said, replicas=2, **BRISK)
    await found.open()
    yield found
    server.wake()
    await found.close()


async def until_shared(shelter: ShelteredLimiter) -> None:
    async with asyncio.timeout(5.0):
        while (await shelter.take((an_ask("nobody", cost=0),))).near:
            await asyncio.sleep(0.005)


TEN = Rate(amount=10, period_s=3_600.0)


@needs_redis
async def test_without_redis_each_server_allows_its_part_and_nobody_fails(
    shelter: ShelteredLimiter, server: RedisServer, said: Said
) -> None:
    assert (await shelter.take((an_ask(rate=TEN, cost=2),))).passed
    server.crash()
    try:
        asked = [await shelter.take((an_ask(rate=TEN),)) for _ in range(8)]
        assert [each.passed for each in asked] == [True] * 5 + [False] * 3
        assert all(each.near for each in asked)
        assert asked[-1].verdicts[0].retry_s <= 720.001, "a part comes free half as fast"
        assert shelter.answers_alone == 8
    finally:
        server.start()
    await until_shared(shelter)
    assert said.names.count("limits.alone") == 1
    assert said.names.count("limits.shared") == 1
    assert await remaining(shelter, rate=TEN) == 10, "a server that was ended forgot"


@needs_redis
async def test_alone_more_than_a_part_takes_the_part_and_more_than_the_whole_never_passes(
    shelter: ShelteredLimiter, server: RedisServer
) -> None:
    server.hang()
    taken = await shelter.take((an_ask(rate=TEN, cost=8),))
    assert (taken.passed, taken.near, taken.asks[0].cost) == (True, True, 5)
    assert not (await shelter.take((an_ask(rate=TEN),))).passed
    shelter.give_back(taken, (2,))
    assert (await shelter.take((an_ask(rate=TEN, cost=2),))).passed
    never = await shelter.take((an_ask("user:b", rate=TEN, cost=11),))
    assert never.verdicts[0].retry_s == float("inf")


@needs_redis
async def test_a_hung_redis_costs_three_their_time_out_and_then_nobody(
    shelter: ShelteredLimiter, server: RedisServer
) -> None:
    assert not (await shelter.take((an_ask(),))).near
    server.hang()
    began = time.monotonic()
    for _ in range(3):
        assert (await shelter.take((an_ask(),))).near
    assert time.monotonic() - began < 3 * BRISK["timeout_s"] + 1.0
    began = time.monotonic()
    for _ in range(50):
        assert (await shelter.take((an_ask("user:b", cost=0),))).near
    assert time.monotonic() - began < 50 * BRISK["timeout_s"] / 2


@needs_redis
async def test_a_redis_that_is_slower_than_its_time_out_is_done_without(
    shelter: ShelteredLimiter, server: RedisServer
) -> None:
    assert not (await shelter.take((an_ask(),))).near
    server.say("CLIENT PAUSE 400 ALL")
    alone = [(await shelter.take((an_ask("user:b"),))).near for _ in range(3)]
    assert alone == [True] * 3
    await until_shared(shelter)
    assert await remaining(shelter) == 4
    left = await remaining(shelter, "user:b")
    assert 2 <= left <= 5, "what timed out may have been taken there too, and nothing else was"


@needs_redis
async def test_what_is_given_back_while_redis_hangs_arrives_when_it_is_back(
    shelter: ShelteredLimiter, server: RedisServer
) -> None:
    taken = await shelter.take((an_ask(cost=5),))
    server.hang()
    shelter.give_back(taken, (3,))
    await asyncio.sleep(3 * BRISK["timeout_s"])
    server.wake()
    await until_shared(shelter)
    await until_left(shelter, 3)
    async with asyncio.timeout(5.0):
        while shelter._far.owed:
            await asyncio.sleep(0.01)
    assert await remaining(shelter) == 3, "it was offered twice and given back once"


@needs_redis
async def test_an_emptied_redis_forgets_debts_and_fails_nobody(
    shelter: ShelteredLimiter, server: RedisServer
) -> None:
    taken = await shelter.take((an_ask(cost=5),))
    server.flush()
    assert await remaining(shelter) == 5
    shelter.give_back(taken, (5,))
    async with asyncio.timeout(5.0):
        while shelter._far.owed:
            await asyncio.sleep(0.001)
    assert (await only(shelter, an_ask(cost=5))).passed
    server.say("SCRIPT FLUSH")
    assert await remaining(shelter) == 0, "a script that Redis forgot is told again"


@needs_redis
async def test_a_redis_that_is_full_or_read_only_is_away(
    shelter: ShelteredLimiter, server: RedisServer
) -> None:
    server.say("CONFIG SET maxmemory 1")
    try:
        assert (await shelter.take((an_ask(),))).near
    finally:
        server.say("CONFIG SET maxmemory 0")
    await until_shared(shelter)


@needs_redis
async def test_what_is_owed_for_longer_than_its_period_has_come_free_by_itself(
    server: RedisServer,
) -> None:
    server.flush()
    far = far_limiter(server, **BRISK)
    await far.open()
    short = an_ask(rate=replace(HOURLY, period_s=0.2))
    taken = await far.take((short, an_ask("user:b")))
    server.hang()
    try:
        with pytest.raises(StoreAway):
            await far.take((short,))
        far.give_back(taken, (1, 1))
        assert far.owed == 2
        async with asyncio.timeout(5.0):
            while far.owed != 1:
                await asyncio.sleep(0.01)
        assert list(far._offered) == ["user:b"]
    finally:
        server.wake()
        await far.close()


@needs_redis
async def test_nothing_in_redis_is_without_an_end_and_who_owes_nothing_is_not_there(
    server: RedisServer,
) -> None:
    server.flush()
    far = far_limiter(server)
    await far.open()
    taken = await far.take((an_ask(), an_ask("user:b"), an_ask("user:c", cost=0)))
    assert server.say("DBSIZE") == b":2\r\n"
    for name in ("a", "b"):
        left_ms = int(server.say(f"PTTL forebay:limit:user:{name}").strip().lstrip(b":"))
        assert 719_000 < left_ms <= 720_001
    far.give_back(taken, (1, 0, 0))
    await until_left(far, 5)
    assert server.say("DBSIZE") == b":2\r\n", "one account, and the mark of what was given back"
    mark = server.say("KEYS *:given:*").split(b"\r\n")[2].decode()
    assert 0 < int(server.say(f"TTL {mark}").strip().lstrip(b":")) <= 60
    await far.close()


def test_without_a_url_rates_are_kept_in_memory() -> None:
    store, said = StoreConfig(), Said()
    assert isinstance(limiter(LimitsConfig(), store, now=MONOTONIC, log=said), MemoryLimiter)
    shared = limiter(LimitsConfig(), replace(store, url="redis://x"), now=MONOTONIC, log=said)
    assert isinstance(shared, ShelteredLimiter)
