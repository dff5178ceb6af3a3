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
    StoreAway,
    Wish,
)

_SIGHT: Final = """
local function sight(kept)
  if not kept[1] then return {'none'} end
  if kept[4] then return {'done', kept[1], kept[4]} end
  local left = tonumber(kept[3]) - now
  if left <= 0 then return {'none'} end
  return {'running', kept[1], left}
end
"""

# KEYS: name, stream.  ARGV: name, fingerprint, owner, lease, keep, remember (milliseconds).
_CLAIM: Final = f"""{NOW}{_SIGHT}
local kept = redis.call('HMGET', KEYS[1], 'fingerprint', 'owner', 'ends', 'blob')
local seen = sight(kept)
if seen[1] == 'none' or (not kept[4] and kept[2] == ARGV[3]) then
  redis.call('HSET', KEYS[1], 'fingerprint', ARGV[2], 'owner', ARGV[3],
             'ends', string.format('%.0f', now + ARGV[4]))
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[6])
  return {{'fresh'}}
end
if kept[1] ~= ARGV[2] then return {{'differs'}} end
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
return sight(redis.call('HMGET', KEYS[1], 'fingerprint', 'owner', 'ends', 'blob'))
"""

# KEYS: stream.  ARGV: owner, prefix of names.
_FIND: Final = f"""{NOW}{_SIGHT}
local name = redis.call('GET', KEYS[1])
if not name then return {{'unknown'}} end
local kept = redis.call('HMGET', ARGV[2] .. name, 'fingerprint', 'owner', 'ends', 'blob')
if kept[2] ~= ARGV[1] then return {{'none'}} end
return sight(kept)
"""


class RedisStore:
    """Claims names and keeps answers in Redis."""

    def __init__(self, link: RedisLink, *, bytes_max: int, entries_max: int) -> None:
        """Keep at most so many answers and so many bytes of them, whoever made them."""
        self._link = link
        self._bytes_max = bytes_max
        self._entries_max = entries_max

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
        sight = _sight(found)
        if sight is None:
            raise StoreAway
        return sight

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
        return bool(await self._link.run(_FINISH, keys, values))

    async def abandon(self, wish: Wish) -> None:
        """Free a name."""
        await self._link.run(_ABANDON, (self._name(wish.name),), (wish.owner,))

    async def look(self, name: str) -> Sight:
        """See what is under a name."""
        return _sight(await self._link.run(_LOOK, (self._name(name),), ()))

    async def find(self, owner: str) -> Found:
        """See what became of an owner's claim."""
        found = await self._link.run(_FIND, (self._stream(owner),), (owner, self._name("")))
        return None if found[0] == b"unknown" else _sight(found) or Expired()

    def _name(self, name: str) -> str:
        return f"{self._link.prefix}:name:{name}"

    def _stream(self, owner: str) -> str:
        return f"{self._link.prefix}:stream:{owner}"


def _sight(found: list[Any]) -> Sight:
    match found:
        case [b"running", fingerprint, left_ms]:
            return Running(fingerprint=fingerprint.decode(), lease_left_s=left_ms / 1_000)
        case [b"done", fingerprint, blob]:
            return Done(fingerprint=fingerprint.decode(), blob=blob)
        case _:
            return None


def _lives(wish: Wish) -> tuple[int, int]:
    """Return how long a claim and its stream's name are kept, milliseconds."""
    return _ms(max(wish.lease_s, wish.ttl_s)), _ms(2 * wish.ttl_s)


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1_000)
