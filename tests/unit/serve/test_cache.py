import math

from forebay.core.clock import ManualClock
from forebay.serve.cache import CacheConfig, MemoryCache


async def test_what_nobody_asked_for_the_longest_goes_first() -> None:
    cache = MemoryCache(CacheConfig(entries_max=3), ManualClock())
    for name in "abc":
        await cache.put(name, name.encode())
    await cache.get("a", math.inf)
    await cache.put("d", b"d")
    kept = [name for name in "abcd" if await cache.get(name, math.inf) is not None]
    assert kept == ["a", "c", "d"]


async def test_the_bytes_are_bounded_and_counted() -> None:
    cache = MemoryCache(CacheConfig(bytes_max=10_000), ManualClock())
    for index in range(100):
        await cache.put(f"{index}", bytes(600))
        assert cache.bytes_kept <= 10_000
    assert len(cache) == 10
    await cache.put("0", bytes(10_000))
    assert await cache.get("0", math.inf) is None
    assert len(cache) == 10


async def test_an_answer_that_is_put_again_replaces_the_first() -> None:
    clock = ManualClock()
    cache = MemoryCache(CacheConfig(ttl_s=10.0), clock)
    await cache.put("a", bytes(100))
    clock.advance(9.0)
    await cache.put("a", b"new")
    clock.advance(9.0)
    assert await cache.get("a", math.inf) == b"new"
    assert await cache.get("a", 8.0) is None
    clock.advance(1.0)
    assert await cache.get("a", math.inf) is None
    assert (len(cache), cache.bytes_kept) == (0, 0)


async def test_a_cache_of_no_bytes_keeps_nothing() -> None:
    cache = MemoryCache(CacheConfig(bytes_max=0), ManualClock())
    await cache.put("a", b"")
    assert await cache.get("a", math.inf) is None


async def test_a_smaller_cache_lets_go_of_the_oldest_at_once() -> None:
    clock = ManualClock()
    cache = MemoryCache(CacheConfig(), clock)
    for name in "abc":
        await cache.put(name, name.encode())
    cache.reconfigure(CacheConfig(entries_max=1, ttl_s=5.0))
    assert len(cache) == 1
    clock.advance(5.0)
    assert await cache.get("c", math.inf) is None
