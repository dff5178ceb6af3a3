"""Answers that may be given again, shared by several gateways through Redis.

Layout: `PREFIX:answer:NAME` is a string: 13 digits, the moment it was put (milliseconds of the
server's clock), and then the answer; it ends after its time to live.  `PREFIX:answers` is a sorted
set of `bytes:NAME` by the moment each ends, and `PREFIX:answers:bytes` their sum, so that the
oldest make room for new ones.  An answer is not kept longer for being asked for: a write for each
read would cost more than it saves.
"""

import math
from typing import Final

from forebay.serve.cache import CacheConfig, MemoryCache
from forebay.serve.redis_link import MAKE_ROOM, NOW, RedisLink
from forebay.serve.store import StoreAway

_STAMP_CHARS: Final = 13
_BLOB_BYTES_MAX: Final = 262_144
"""A larger answer is remembered by this process alone: others would wait too long for it."""

# KEYS: answer, answers, bytes.
# ARGV: name, blob, ttl (milliseconds), bytes_max, entries_max, prefix of answers.
_PUT: Final = f"""{NOW}{MAKE_ROOM}
local old = redis.call('STRLEN', KEYS[1])
if old > 0 then unlist(KEYS[2], KEYS[3], ARGV[1], old - {_STAMP_CHARS}) end
redis.call('SET', KEYS[1], string.format('%0{_STAMP_CHARS}.0f', now) .. ARGV[2], 'PX', ARGV[3])
enlist(KEYS[2], KEYS[3], ARGV[1], #ARGV[2], now + ARGV[3])
make_room(KEYS[2], KEYS[3], now, ARGV[4], ARGV[5], ARGV[6])
return 1
"""

# KEYS: answer.
_GET: Final = f"""{NOW}
local kept = redis.call('GET', KEYS[1])
if not kept then return {{}} end
return {{now - tonumber(string.sub(kept, 1, {_STAMP_CHARS})), kept}}
"""


class RedisCache:
    """Keeps answers in Redis, and in this process's own memory while Redis is away."""

    def __init__(self, link: RedisLink, near: MemoryCache, config: CacheConfig) -> None:
        """Keep what `config` allows; the sum is over all gateways that share it."""
        self._link = link
        self._near = near
        self._config = config

    async def get(self, name: str, age_s_max: float) -> bytes | None:
        """Return an answer, or None."""
        try:
            found = await self._link.run(_GET, (self._answer(name),), ())
        except StoreAway:
            return await self._near.get(name, age_s_max)
        if not found:
            return await self._near.get(name, age_s_max)
        if found[0] / 1_000 > age_s_max:
            return None
        blob: bytes = found[1]
        return blob[_STAMP_CHARS:]

    async def put(self, name: str, blob: bytes) -> None:
        """Keep an answer, unless it alone is more than may be kept."""
        config, prefix = self._config, self._link.prefix
        if len(blob) > min(config.bytes_max, _BLOB_BYTES_MAX):
            await self._near.put(name, blob)
            return
        keys = (self._answer(name), f"{prefix}:answers", f"{prefix}:answers:bytes")
        bounds = (config.bytes_max, config.entries_max, self._answer(""))
        try:
            await self._link.run(_PUT, keys, (name, blob, math.ceil(config.ttl_s * 1_000), *bounds))
        except StoreAway:
            await self._near.put(name, blob)

    def reconfigure(self, config: CacheConfig) -> None:
        """Keep what `config` allows; in Redis what is too much goes when the next answer comes."""
        self._config = config
        self._near.reconfigure(config)

    def _answer(self, name: str) -> str:
        return f"{self._link.prefix}:answer:{name}"
