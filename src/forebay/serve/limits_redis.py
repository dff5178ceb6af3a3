"""Rates that several servers keep together: in Redis, and each for itself while Redis is away.

Layout: `PREFIX:limit:NAME` is the moment at which an account owes nothing, in microseconds of the
server's clock since 2026, and ends at that moment: who owes nothing is not there.  All that one
request asks for is judged and taken by one script, so it is all or nothing however many ask.

A limiter that is not answered cannot know whether the script ran: what it may have taken comes
free with time.  What is to be given back is kept for as long as that takes, and no longer.
"""

import asyncio
import math
import secrets
from dataclasses import dataclass
from typing import Final

from forebay.core.caller import Rate
from forebay.core.clock import Clock
from forebay.core.record import EventLog
from forebay.policy.gcra import Ask, Verdict, price_fs, weigh
from forebay.serve.limiter import Limiter, MemoryLimiter, Taken
from forebay.serve.limits_config import LimitsConfig
from forebay.serve.redis_link import RedisLink, StoreConfig
from forebay.serve.store import StoreAway

_FS_PER_US: Final = 10**9
_FORGIVEN_US: Final = 0.4
"""What doubles lose of a moment, and more; the script forgives 0.5."""
_BATCH_MAX: Final = 64
"""Accounts in one script that gives back: it holds the server up for some 100 us."""
_PATIENCE_S: Final = 0.25
"""Pause before what is owed is offered again.  While Redis is away that costs nothing."""

# Doubles hold a microsecond of this century to 4 ns if counted from 2026 (1767225600).
_CLOCK: Final = """
local time = redis.call('TIME')
local now = (time[1] - 1767225600) * 1000000 + time[2]
local function set(name, moment)
  redis.call('SET', name, string.format('%.17g', moment), 'PX', math.ceil((moment - now) / 1000))
end
"""

# KEYS: an account for each ask.  ARGV: all of period (us), amount, cost of each, as one text.
# Answers whether all was taken, and what each owed before, in us, as one text.
_TAKE: Final = f"""{_CLOCK}
local numbers = string.gmatch(ARGV[1], '%S+')
local owed, after, costs, passed = {{}}, {{}}, {{}}, 1
for i, name in ipairs(KEYS) do
  local period, amount = tonumber(numbers()), tonumber(numbers())
  local moment = tonumber(redis.call('GET', name) or 0)
  local owes = math.max(moment - now, 0)
  if owes > period then
    owes = period
    set(name, now + owes)
  end
  costs[i] = tonumber(numbers())
  owed[i] = string.format('%.3f', owes)
  after[i] = owes + costs[i] * period / amount
  if after[i] > period + 0.5 then passed = 0 end
end
if passed == 1 then
  for i, name in ipairs(KEYS) do
    if costs[i] > 0 then set(name, now + after[i]) end
  end
end
return passed .. ' ' .. table.concat(owed, ' ')
"""

# KEYS: a mark, accounts.  ARGV: how far each moment moves back, in us; below 0: on.
# What was done though nobody heard of it is offered again: the mark says that it was.
_GIVE_BACK: Final = f"""{_CLOCK}
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', 60) then return 0 end
for i = 2, #KEYS do
  local moment = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now) - ARGV[i - 1]
  if moment > now then set(KEYS[i], moment) else redis.call('DEL', KEYS[i]) end
end
return 1
"""


@dataclass(slots=True)
class _Owed:
    """What is to be given back to one account."""

    us: float
    expires: float
    """When it has come free by itself, monotonic seconds."""


class RedisLimiter:
    """Keeps rates in Redis; raises StoreAway where it cannot ask."""

    def __init__(self, link: RedisLink, config: LimitsConfig, now: Clock) -> None:
        """Owe at most `config.accounts_max` accounts what is to be given back."""
        self._link = link
        self._now = now
        self._owed_max = config.accounts_max
        # The whole mutable state: what is to be given back by account, what of it is being
        # offered, and tasks under way.
        self._owed: dict[str, _Owed] = {}
        self._offered: dict[str, _Owed] = {}
        self._paying: asyncio.Task[None] | None = None
        self._asking: set[asyncio.Task[Taken]] = set()

    @property
    def alone(self) -> bool:
        """Never: where it cannot ask it raises."""
        return False

    @property
    def owed(self) -> int:
        """Accounts that something is to be given back to."""
        return len(self._owed) + len(self._offered)

    async def open(self) -> None:
        """Get ready; nothing is connected before the first question."""
        await self._link.open()

    async def close(self) -> None:
        """Drop every connection; what is owed comes free with time."""
        tasks = [*self._asking, *([self._paying] if self._paying else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._link.close()

    async def take(self, asks: tuple[Ask, ...]) -> Taken:
        """Take all or nothing; raises StoreAway."""
        asking = asyncio.create_task(self._take(asks))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            # The script may have run or be about to: what it takes is nobody's.
            asking.add_done_callback(self._unwanted)
            raise

    def give_back(self, taken: Taken, costs: tuple[int, ...]) -> None:
        """Give back so many units of each ask, soon."""
        now = self._now()
        for ask, cost in zip(taken.asks, costs, strict=True):
            if not cost:
                continue
            us = price_fs(ask.rate, cost) / _FS_PER_US
            owed = self._owed.get(ask.name)
            if owed is None:
                if len(self._owed) >= self._owed_max:
                    continue
                owed = self._owed[ask.name] = _Owed(0.0, 0.0)
            owed.us += us
            owed.expires = max(owed.expires, now + ask.rate.period_s)
        if self._owed and (self._paying is None or self._paying.done()):
            self._paying = asyncio.create_task(self._pay())

    def reconfigure(self, config: LimitsConfig) -> None:
        """Go by `config` from now on."""
        self._owed_max = config.accounts_max

    async def _take(self, asks: tuple[Ask, ...]) -> Taken:
        numbers = " ".join(
            f"{ask.period_fs // _FS_PER_US} {ask.rate.amount} {ask.cost}" for ask in asks
        )
        keys = tuple(self._key(ask.name) for ask in asks)
        answer: bytes = await self._link.run(_TAKE, keys, (numbers,))
        passed, *owed_us = answer.split()
        verdicts = (
            _verdict(ask, float(us), taken=passed == b"1")
            for ask, us in zip(asks, owed_us, strict=True)
        )
        return Taken(asks=asks, verdicts=tuple(verdicts))

    def _unwanted(self, asking: "asyncio.Task[Taken]") -> None:
        if asking.cancelled() or asking.exception() is not None:
            return
        taken = asking.result()
        if taken.passed:
            self.give_back(taken, tuple(ask.cost for ask in taken.asks))

    async def _pay(self) -> None:
        while self._owed:
            names = [*self._owed][:_BATCH_MAX]
            self._offered = {name: self._owed.pop(name) for name in names}
            mark = self._key(f"given:{secrets.token_hex(8)}")
            while self._offered and not await self._given(mark):
                await asyncio.sleep(_PATIENCE_S)
                now, offered = self._now(), self._offered
                self._offered = {name: owed for name, owed in offered.items() if owed.expires > now}
            self._offered = {}

    async def _given(self, mark: str) -> bool:
        """Give back what is offered, once however often it is tried; False: not yet."""
        keys = (mark, *(self._key(name) for name in self._offered))
        prices = tuple(f"{owed.us:.3f}" for owed in self._offered.values())
        try:
            await self._link.run(_GIVE_BACK, keys, prices)
        except StoreAway:
            return False
        return True

    def _key(self, name: str) -> str:
        return f"{self._link.prefix}:limit:{name}"


def _verdict(ask: Ask, owed_us: float, *, taken: bool) -> Verdict:
    """Say what the script's answer means.

    It forgives a little less than the script, so that of what was refused one is refused here too.
    """
    owed_fs = int((owed_us - _FORGIVEN_US) * _FS_PER_US)
    if taken:
        after_fs = min(max(owed_fs, 0) + ask.price_fs, ask.period_fs)
        return Verdict(passed=True, ask=ask, owed_fs=after_fs, name=ask.name)
    verdict = weigh(ask, owed_fs, ask.name)
    return weigh(ask.of(0), owed_fs, ask.name) if verdict.passed else verdict


class ShelteredLimiter:
    """Asks the limiter that all servers share, and judges alone while that is away.

    Then a server allows its part of each rate: what all may take, divided by the servers.  Who
    asks for more at once than a part, and no more than the whole, takes the part.
    """

    def __init__(
        self, far: RedisLimiter, near: MemoryLimiter, config: LimitsConfig, *, log: EventLog
    ) -> None:
        """Be one of `config.replicas_max`; `log` hears of each absence, once."""
        self._far = far
        self._near = near
        self._replicas = config.replicas_max
        self._log = log
        # The whole mutable state: whether the newest answer was our own, and how many were.
        self._alone = False
        self.answers_alone = 0

    @property
    def alone(self) -> bool:
        """Whether the newest answer was our own."""
        return self._alone

    async def open(self) -> None:
        """Get both ready."""
        await self._far.open()

    async def close(self) -> None:
        """Close both."""
        await self._far.close()

    async def take(self, asks: tuple[Ask, ...]) -> Taken:
        """Take all or nothing, there or here."""
        try:
            taken = await self._far.take(asks)
        except StoreAway:
            self.answers_alone += 1
            if not self._alone:
                self._alone = True
                self._log("limits.alone", level="warning", replicas=self._replicas)
            parts = tuple(_part(ask, self._replicas) for ask in asks)
            found = await self._near.take(parts)
            return Taken(asks=parts, verdicts=found.verdicts, near=True)
        if self._alone:
            self._alone = False
            self._log("limits.shared", answers_alone=self.answers_alone)
        return taken

    def give_back(self, taken: Taken, costs: tuple[int, ...]) -> None:
        """Give back where it was taken."""
        (self._near if taken.near else self._far).give_back(taken, costs)

    def reconfigure(self, config: LimitsConfig) -> None:
        """Go by `config` from now on."""
        self._replicas = config.replicas_max
        self._far.reconfigure(config)
        self._near.reconfigure(config)


def _part(ask: Ask, replicas: int) -> Ask:
    amount = max(1, math.floor(ask.rate.amount / replicas))
    whole = ask.cost > ask.rate.amount
    return Ask(
        name=ask.name,
        crowd=ask.crowd,
        rate=Rate(amount=amount, period_s=ask.rate.period_s),
        cost=ask.cost if whole else min(ask.cost, amount),
    )


def limiter(config: LimitsConfig, store: StoreConfig, *, now: Clock, log: EventLog) -> Limiter:
    """Return the limiter that the settings ask for; nothing is connected yet."""
    near = MemoryLimiter(config, now)
    if not store.url:
        return near
    far = RedisLimiter(RedisLink(store, now=now, log=log), config, now)
    return ShelteredLimiter(far, near, config, log=log)
