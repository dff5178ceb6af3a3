"""The store that several gateways share, in Redis.

Layout
------
`PREFIX:name:NAME` is a hash: `fingerprint` and `owner`, then `ends` (of the lease, milliseconds
of the server's clock) while it is claimed, or `blob` once it is done.  A claim outlives its lease,
so that an owner who is late, and whom nobody has replaced, can be told from one who gave up.
`PREFIX:stream:OWNER` is the name that this owner claimed.  `PREFIX:made` is a sorted set of
`bytes:NAME` by the moment at which each answer ends, and `PREFIX:bytes` their sum: with these the
oldest answers make room for new ones.  Everything else ends by itself.

Each promise is kept by one script, which Redis runs alone and by its own clock.  The scripts reach
names that they compute, so this is for one server (with replicas or a sentinel), not for a cluster.
"""

import math
from typing import Any, Final

from forebay.serve.redis_link import MAKE_ROOM, NOW, RedisLink
from forebay.serve.store import (
    Claim,
    Differs,
    Done,
    Expired,
    Found,
    Fresh,
    Running,
    Sight,
    Wish,
)

_AT_ONCE_BYTES: Final = 262_144
"""A larger answer is fetched by a second question, which is given the time that its size takes."""

_BYTES_A_SECOND: Final = 10_000_000
"""A tenth of what we measured of redis-py on one core with nothing else to do: 100 MB/s."""

_SIGHT: Final = f"""
local function sight(key, owner)
  local kept = redis.call('HMGET', key, 'fingerprint', 'owner', 'ends')
  if not kept[1] or (owner and kept[2] ~= owner) then return {{'none'}} end
  if not kept[3] then
    local size = redis.call('HSTRLEN', key, 'blob')
    if size > {_AT_ONCE_BYTES} then return {{'large', kept[1], size, key}} end
    return {{'done', kept[1], redis.call('HGET', key, 'blob')}}
  end
  local left = tonumber(kept[3]) - now
  if left <= 0 then return {{'none'}} end
  return {{'running', kept[1], left, kept[2]}}
end
"""

# KEYS: name, stream.  ARGV: name, fingerprint, owner, lease, keep, remember (milliseconds).
_CLAIM: Final = f"""{NOW}{_SIGHT}
local seen = sight(KEYS[1])
if seen[1] == 'none' or (seen[1] == 'running' and seen[4] == ARGV[3]) then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'owner', ARGV[3],
             'ends', string.format('%.0f', now + ARGV[4]))
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[6])
  return {{'fresh'}}
end
if seen[2] ~= ARGV[2] then return {{'differs'}} end
return seen
"""

# KEYS: name.  ARGV: owner, lease, keep.
_RENEW: Final = f"""{NOW}
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] or redis.call('HEXISTS', KEYS[1], 'blob') == 1
then return 0 end
redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

# KEYS: name, stream, made, bytes.
# ARGV: name, owner, blob, ttl, remember, bytes_max, entries_max, prefix of names.
_FINISH: Final = f"""{NOW}{MAKE_ROOM}
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 0 end
if redis.call('HEXISTS', KEYS[1], 'blob') == 1 then return 1 end
redis.call('HSET', KEYS[1], 'blob', ARGV[3])
redis.call('HDEL', KEYS[1], 'ends')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[5])
enlist(KEYS[3], KEYS[4], ARGV[1], #ARGV[3], now + ARGV[4])
make_room(KEYS[3], KEYS[4], now, ARGV[6], ARGV[7], ARGV[8])
return 1
"""

# KEYS: name.  ARGV: owner.
_ABANDON: Final = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] and redis.call('HEXISTS', KEYS[1], 'blob') == 0
then redis.call('DEL', KEYS[1]) end
return 1
"""

# KEYS: name.
_LOOK: Final = f"""{NOW}{_SIGHT}
return sight(KEYS[1])
"""

# KEYS: name.
_FETCH: Final = "return redis.call('HGET', KEYS[1], 'blob')"

# KEYS: stream.  ARGV: owner, prefix of names.
_FIND: Final = f"""{NOW}{_SIGHT}
local name = redis.call('GET', KEYS[1])
if not name then return {{'unknown'}} end
return sight(ARGV[2] .. name, ARGV[1])
"""


class RedisStore:
    """Claims names and keeps answers in Redis."""

    def __init__(self, link: RedisLink, *, bytes_max: int, entries_max: int) -> None:
        """Keep at most so many answers and so many bytes of them, whoever made them."""
        self._link = link
        self._bytes_max = bytes_max
        self._entries_max = entries_max

    @property
    def away(self) -> bool:
        """Whether Redis is left alone."""
        return self._link.away

    async def open(self) -> None:
        """Get ready to ask."""
        await self._link.open()

    async def close(self) -> None:
        """Drop the connections."""
        await self._link.close()

    async def claim(self, wish: Wish) -> Claim:
        """Take a name, or say who has it."""
        values = (wish.name, wish.fingerprint, wish.owner, _ms(wish.lease_s), *_lives(wish))
        found = await self._link.run(
            _CLAIM, (self._name(wish.name), self._stream(wish.owner)), values
        )
        match found[0]:
            case b"fresh":
                return Fresh()
            case b"differs":
                return Differs()
        # An answer that ended between two questions has left the name free.
        return await self._sight(found) or await self.claim(wish)

    async def renew(self, wish: Wish) -> bool:
        """Lengthen the owner's lease."""
        values = (wish.owner, _ms(wish.lease_s), _lives(wish)[0])
        return bool(await self._link.run(_RENEW, (self._name(wish.name),), values))

    async def finish(self, wish: Wish, blob: bytes) -> bool:
        """Keep the answer."""
        prefix = self._link.prefix
        keys = (
            self._name(wish.name),
            self._stream(wish.owner),
            f"{prefix}:made",
            f"{prefix}:bytes",
        )
        ttl, remember = _ms(wish.ttl_s), _ms(2 * wish.ttl_s)
        bounds = (self._bytes_max, self._entries_max, self._name(""))
        values = (wish.name, wish.owner, blob, ttl, remember, *bounds)
        return bool(await self._link.run(_FINISH, keys, values, more_s=_takes_s(len(blob))))

    async def abandon(self, wish: Wish) -> None:
        """Free a name."""
        await self._link.run(_ABANDON, (self._name(wish.name),), (wish.owner,))

    async def look(self, name: str) -> Sight:
        """See what is under a name."""
        return await self._sight(await self._link.run(_LOOK, (self._name(name),), ()))

    async def find(self, owner: str) -> Found:
        """See what became of an owner's claim."""
        found = await self._link.run(_FIND, (self._stream(owner),), (owner, self._name("")))
        return None if found[0] == b"unknown" else await self._sight(found) or Expired()

    async def _sight(self, found: list[Any]) -> Sight:
        match found:
            case [b"running", fingerprint, left_ms, _]:
                return Running(fingerprint=fingerprint.decode(), lease_left_s=left_ms / 1_000)
            case [b"done", fingerprint, blob]:
                return Done(fingerprint=fingerprint.decode(), blob=blob)
            case [b"large", fingerprint, size, key]:
                blob = await self._link.run(_FETCH, (key,), (), more_s=_takes_s(size))
                return Done(fingerprint=fingerprint.decode(), blob=blob) if blob else None
            case _:
                return None

    def _name(self, name: str) -> str:
        return f"{self._link.prefix}:name:{name}"

    def _stream(self, owner: str) -> str:
        return f"{self._link.prefix}:stream:{owner}"


def _takes_s(size: int) -> float:
    """Return how long an answer of so many bytes may be on its way, beside the question."""
    return size / _BYTES_A_SECOND


def _lives(wish: Wish) -> tuple[int, int]:
    """Return how long a claim and its stream's name are kept, milliseconds."""
    return _ms(max(wish.lease_s, wish.ttl_s)), _ms(2 * wish.ttl_s)


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1_000)
