"""Where answers are kept: in Redis with other servers, in a file of our own, or in memory."""

from dataclasses import dataclass, field

from forebay.core.clock import Clock
from forebay.core.record import EventLog
from forebay.serve.cache import AnswerCache, CacheConfig, MemoryCache
from forebay.serve.cache_redis import RedisCache
from forebay.serve.redis_link import RedisLink, StoreConfig
from forebay.serve.replay_config import ReplayConfig
from forebay.serve.store import MemoryStore, Store
from forebay.serve.store_redis import RedisStore
from forebay.serve.store_shelter import ShelteredStore
from forebay.serve.store_sqlite import SqliteFile, SqliteStore


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingConfig:
    """Where, and how much."""

    store: StoreConfig = field(default_factory=StoreConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where keys' answers are kept, and repeatable ones; opening the store opens both."""

    store: Store
    cache: AnswerCache


def keeping(config: KeepingConfig, now: Clock, log: EventLog) -> Keeping:
    """Put together what `config` asks for; no file is opened and nothing connected yet."""
    replay, cache = config.replay, MemoryCache(config.cache, now)
    near = MemoryStore(now, bytes_max=replay.memory_bytes_max, entries_max=replay.entries_max)
    bounds = {"bytes_max": replay.store_bytes_max, "entries_max": replay.entries_max}
    if config.store.url:
        link = RedisLink(config.store, now=now, log=log)
        return Keeping(
            store=ShelteredStore(RedisStore(link, **bounds), near, owed_max=replay.entries_max),
            cache=RedisCache(link, cache, config.cache),
        )
    if replay.store == "memory":
        return Keeping(store=near, cache=cache)
    file = SqliteFile(path=replay.file(), answer_s_max=replay.store_s_max, **bounds)
    store = ShelteredStore(SqliteStore(file, log), near, owed_max=replay.entries_max)
    return Keeping(store=store, cache=cache)
