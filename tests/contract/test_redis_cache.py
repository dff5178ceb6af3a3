import asyncio
import math
from collections.abc import AsyncIterator

import pytest

from forebay.core.clock import MONOTONIC
from forebay.drill.redis_server import RedisServer
from forebay.serve.cache import CacheConfig, MemoryCache
from forebay.serve.cache_redis import RedisCache
from forebay.serve.redis_link import RedisLink
from tests.support.redis import a_link, a_running_redis, needs_redis

pytestmark = needs_redis

server = pytest.fixture(scope="module")(a_running_redis)


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[RedisLink]:
    server.flush()
    link = a_link(server.url)
    await link.open()
    yield link
    await link.close()


def a_cache(link: RedisLink, **facts: float) -> RedisCache:
    config = CacheConfig(**facts)  # type: ignore[arg-type]  # the tests name real fields
    return RedisCache(link, MemoryCache(config, MONOTONIC), config)


async def test_what_one_server_puts_another_gets(link: RedisLink) -> None:
    answer = bytes(range(256))
    await a_cache(link).put("name", answer)
    assert await a_cache(link).get("name", math.inf) == answer
    assert await a_cache(link).get("another", math.inf) is None


async def test_the_newest_answer_counts_and_so_does_its_size(
    link: RedisLink, server: RedisServer
) -> None:
    cache = a_cache(link)
    for answer in (b"older", b"new", b"newest"):
        await cache.put("name", answer)
        assert await cache.get("name", math.inf) == answer
    assert server.say("GET forebay:answers:bytes") == b"$1\r\n6\r\n"
    assert server.say("ZCARD forebay:answers") == b":1\r\n"


async def test_an_answer_ends_after_its_time_to_live(link: RedisLink) -> None:
    cache = a_cache(link, ttl_s=0.05)
    await cache.put("name", b"answer")
    assert await cache.get("name", math.inf) == b"answer"
    await asyncio.sleep(0.06)
    assert await cache.get("name", math.inf) is None


async def test_an_answer_that_is_older_than_asked_for_is_not_given(link: RedisLink) -> None:
    cache = a_cache(link)
    await cache.put("name", b"answer")
    await asyncio.sleep(0.05)
    assert await cache.get("name", 0.03) is None
    assert await cache.get("name", 30.0) == b"answer"


async def test_the_oldest_make_room_and_what_is_too_large_is_not_kept(link: RedisLink) -> None:
    cache = a_cache(link, bytes_max=1_000, entries_max=3)
    for index in range(5):
        await cache.put(f"name-{index}", bytes(100))
    kept = [await cache.get(f"name-{index}", math.inf) is not None for index in range(5)]
    assert kept == [False, False, True, True, True]
    await cache.put("large", bytes(950))
    assert await cache.get("large", math.inf) == bytes(950)
    assert await cache.get("name-4", math.inf) is None
    await cache.put("too large", bytes(1_001))
    assert await cache.get("too large", math.inf) is None
    assert await cache.get("large", math.inf) == bytes(950)


async def test_while_redis_is_away_this_process_remembers_by_itself() -> None:
    link = a_link("redis://127.0.0.1:1", timeout_s=0.05)
    await link.open()
    cache = a_cache(link)
    await cache.put("name", b"answer")
    assert await cache.get("name", math.inf) == b"answer"
    await link.close()


async def test_an_answer_that_would_keep_others_waiting_is_remembered_here_alone(
    link: RedisLink, server: RedisServer
) -> None:
    cache, large = a_cache(link), bytes(300_000)
    await cache.put("large", large)
    assert await cache.get("large", math.inf) == large
    assert await a_cache(link).get("large", math.inf) is None
    assert server.say("DBSIZE") == b":0\r\n"
