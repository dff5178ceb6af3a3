import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from forebay.core.clock import MONOTONIC
from forebay.drill.redis_server import RedisServer
from forebay.serve.store import (
    Differs,
    Done,
    Expired,
    Fresh,
    MemoryStore,
    Running,
    Store,
    StoreAway,
)
from forebay.serve.store_redis import RedisStore
from forebay.testing.store_contract import StoreContract, a_wish
from tests.support.redis import a_link, a_running_redis, needs_redis

pytestmark = needs_redis

server = pytest.fixture(scope="module")(a_running_redis)


def a_store(
    server: RedisServer, bytes_max: int = 1_000_000, entries_max: int = 1_000
) -> RedisStore:
    return RedisStore(a_link(server.url), bytes_max=bytes_max, entries_max=entries_max)


class TestRedisStore(StoreContract):
    LEASE_S = 0.1

    @pytest.fixture
    async def store(self, server: RedisServer) -> AsyncIterator[Store]:
        server.flush()
        store = a_store(server)
        await store.open()
        yield store
        await store.close()

    @pytest.fixture
    async def other(self, server: RedisServer) -> AsyncIterator[Store]:
        store = a_store(server)
        await store.open()
        yield store
        await store.close()


async def finish_some(store: Store, count: int, size: int, **facts: object) -> None:
    for index in range(count):
        wish = a_wish(f"name-{index}", f"owner-{index}", **facts)
        await store.claim(wish)
        assert await store.finish(wish, bytes(size))


async def test_the_oldest_answers_make_room_and_leases_do_not(server: RedisServer) -> None:
    server.flush()
    store = a_store(server, bytes_max=1_000, entries_max=3)
    await store.open()
    await store.claim(a_wish("leased", "leased"))
    await finish_some(store, 5, 100)
    kept = [isinstance(await store.look(f"name-{index}"), Done) for index in range(5)]
    assert kept == [False, False, True, True, True]
    assert isinstance(await store.look("leased"), Running)
    assert await store.find("owner-0") == Expired()
    assert await store.finish(a_wish("leased", "leased"), bytes(950))
    assert isinstance(await store.look("leased"), Done)
    assert await store.look("name-4") is None
    assert server.say("GET forebay:bytes") == b"$3\r\n950\r\n"
    await store.close()


async def test_what_ended_by_itself_makes_room_without_taking_what_came_after(
    server: RedisServer,
) -> None:
    server.flush()
    store = a_store(server, bytes_max=1_000, entries_max=100)
    await store.open()
    await finish_some(store, 5, 100, ttl_s=0.01)
    while await store.look("name-4") is not None:
        pass
    await finish_some(store, 3, 200)
    for index in range(3):
        assert isinstance(await store.look(f"name-{index}"), Done)
    assert server.say("GET forebay:bytes") == b"$3\r\n600\r\n"
    assert server.say("ZCARD forebay:made") == b":3\r\n"
    await store.close()


async def test_nothing_in_redis_is_without_an_end_but_the_two_sums(server: RedisServer) -> None:
    server.flush()
    store = a_store(server)
    await store.open()
    await store.claim(a_wish("claimed", "owner"))
    await finish_some(store, 2, 10)
    keys = ["name:claimed", "stream:owner", "name:name-0", "stream:owner-0"]
    for key in keys:
        assert milliseconds_left(server, key) > 0
    assert server.say("DBSIZE") == b":8\r\n"
    await store.close()


async def test_a_stream_is_remembered_twice_as_long_from_its_claim_and_again_from_its_end(
    server: RedisServer,
) -> None:
    server.flush()
    store = a_store(server)
    await store.open()
    wish = a_wish(ttl_s=10.0)
    await store.claim(wish)
    assert 19_000 < milliseconds_left(server, "stream:owner-1") <= 20_000
    await asyncio.sleep(0.1)
    claimed_ms = milliseconds_left(server, "stream:owner-1")
    await store.finish(wish, b"answer")
    assert claimed_ms < milliseconds_left(server, "stream:owner-1") <= 20_000
    await store.close()


def milliseconds_left(server: RedisServer, key: str) -> int:
    return int(server.say(f"PTTL forebay:{key}").strip().lstrip(b":"))


async def test_servers_with_other_prefixes_do_not_meet(server: RedisServer) -> None:
    server.flush()
    mine = a_store(server)
    link = a_link(server.url, prefix="others")
    theirs = RedisStore(link, bytes_max=1_000, entries_max=10)
    for store in (mine, theirs):
        await store.open()
        await finish_some(store, 1, 10)
        await store.close()
    assert server.say("DBSIZE") == b":8\r\n"


async def test_a_store_that_is_full_or_read_only_is_away(server: RedisServer) -> None:
    server.flush()
    store = a_store(server)
    await store.open()
    server.say("CONFIG SET maxmemory 1")
    try:
        with pytest.raises(StoreAway):
            await store.claim(a_wish())
    finally:
        server.say("CONFIG SET maxmemory 0")
    await store.claim(a_wish())
    await store.close()


async def test_an_answer_of_megabytes_is_kept_within_the_usual_time_out(
    server: RedisServer,
) -> None:
    link = a_link(server.url, timeout_s=0.02)
    store = RedisStore(link, bytes_max=100_000_000, entries_max=100)
    await store.open()
    blob = bytes(range(256)) * 4 * 4_096
    assert await store.claim(a_wish("large")) == Fresh()
    assert await store.finish(a_wish("large"), blob)
    whole = Done(fingerprint="f", blob=blob)
    assert await store.look("large") == whole
    assert await store.claim(a_wish("large", "owner-2")) == whole
    assert await store.claim(a_wish("large", "owner-2", fingerprint="g")) == Differs()
    assert await store.find("owner-1") == whole
    await store.close()


def told(found: object) -> object:
    """What must be equal in both: all but the milliseconds of a lease."""
    return replace(found, lease_left_s=0.0) if isinstance(found, Running) else found


@pytest.mark.parametrize("seed", range(10))
async def test_whatever_is_asked_it_answers_as_memory_does(server: RedisServer, seed: int) -> None:
    server.flush()
    dice = random.Random(seed)
    redis = a_store(server)
    memory = MemoryStore(MONOTONIC, bytes_max=1_000_000, entries_max=1_000)
    await redis.open()
    owners = [
        a_wish(f"name-{number % 3}", f"owner-{number}", fingerprint=dice.choice("ffg"))
        for number in range(12)
    ]
    for step in range(150):
        wish, act = dice.choice(owners), dice.randrange(6)
        blob = f"{wish.owner} {step}".encode()
        answers = []
        for store in (redis, memory):
            asked: tuple[Callable[[], Awaitable[object]], ...] = (
                partial(store.claim, wish),
                partial(store.renew, wish),
                partial(store.finish, wish, blob),
                partial(store.abandon, wish),
                partial(store.look, wish.name),
                partial(store.find, wish.owner),
            )
            answers.append(told(await asked[act]()))
        assert answers[0] == answers[1], f"step {step}: {asked[act]}"
    await redis.close()
