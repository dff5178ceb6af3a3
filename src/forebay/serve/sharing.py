"""What several gateways share, put together: one link, and on it keys and cached answers."""

from dataclasses import dataclass

from forebay.core.clock import Clock
from forebay.core.record import EventLog
from forebay.serve.cache import AnswerCache, CacheConfig, MemoryCache
from forebay.serve.cache_redis import RedisCache
from forebay.serve.redis_link import RedisLink, StoreConfig
from forebay.serve.replay_config import ReplayConfig
from forebay.serve.store import MemoryStore
from forebay.serve.store_redis import RedisStore
from forebay.serve.store_shelter import ShelteredStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Keys and answers in Redis; opening and closing the store does the same for the rest."""

    link: RedisLink
    store: ShelteredStore
    cache: AnswerCache


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedConfig:
    """Where it is, and how much of what is kept there."""

    store: StoreConfig
    replay: ReplayConfig
    cache: CacheConfig


def share(config: SharedConfig, now: Clock, log: EventLog) -> Shared:
    """Put together what shares `config.store.url`; nothing is connected yet."""
    replay, link = config.replay, RedisLink(config.store, now=now, log=log)
    far = RedisStore(link, bytes_max=replay.store_bytes_max, entries_max=replay.entries_max)
    near = MemoryStore(now, bytes_max=replay.memory_bytes_max, entries_max=replay.entries_max)
    return Shared(
        link=link,
        store=ShelteredStore(far, near, owed_max=replay.entries_max),
        cache=RedisCache(link, MemoryCache(config.cache, now), config.cache),
    )
