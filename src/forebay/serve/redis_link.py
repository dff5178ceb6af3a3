"""One way to Redis for everything that shares it: bounded, and left alone while it is away.

Whoever asks gets an answer or StoreAway, soon: a question has `timeout_s`, and after
`failures_max` failures nobody is asked until a probe of our own has been answered
(`policy/breaker.py`).  While it is away a question costs nothing but the raise.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

from forebay.core.clock import Clock
from forebay.core.knob import knob
from forebay.core.record import EventLog
from forebay.policy.breaker import Breaker
from forebay.serve.store import StoreAway

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool, Redis

Answer = TypeVar("Answer")

SCHEMES: Final = ("redis://", "rediss://", "unix://")
NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""Script: `now` is the server's clock in milliseconds, the only one that all of us share."""

# A list is a sorted set of `bytes:NAME` by the moment each ends, and their sum beside it.  A few
# make room at a time: those that have ended may be many, and each call adds only one.
MAKE_ROOM: Final = """
local function unlist(list, sum, name, size)
  if redis.call('ZREM', list, size .. ':' .. name) == 1 then redis.call('DECRBY', sum, size) end
end
local function enlist(list, sum, name, size, ends)
  if redis.call('ZADD', list, string.format('%.0f', ends), size .. ':' .. name) == 1 then
    redis.call('INCRBY', sum, size)
  end
end
local function make_room(list, sum, now, bytes_max, entries_max, prefix)
  for _ = 1, 16 do
    local oldest = redis.call('ZRANGE', list, 0, 0, 'WITHSCORES')
    if not oldest[1] then return end
    local ended = tonumber(oldest[2]) <= now
    if not ended and tonumber(redis.call('GET', sum) or 0) <= tonumber(bytes_max)
       and redis.call('ZCARD', list) <= tonumber(entries_max) then return end
    local size, name = string.match(oldest[1], '^(%d+):(.*)$')
    unlist(list, sum, name, size)
    if not ended then redis.call('DEL', prefix .. name) end
  end
end
"""
"""Script: the oldest of a list make room for new ones."""

_SLICES: Final = 5
"""Parts of a time-out.  One long turn of our own loop uses up one of them, not all."""
_CONNECT_S_MAX: Final = 5.0
_CLOSING_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Where several gateways share keys and answers, and how long one waits for it."""

    url: str = knob(
        "",
        "Redis that several servers share, as redis://user:password@host:6379/0; rediss:// for "
        "TLS, unix:// for a socket. Empty: this server keeps its keys in a file of its own.",
        secret=True,
    )
    prefix: str = knob("forebay", "First part of every name in Redis.")
    timeout_s: float = knob(
        0.05,
        "Longest wait for one answer of Redis, in seconds; then we go on without it.",
        minimum=0.005,
        maximum=10.0,
    )
    failures_max: int = knob(
        3, "Failures in a row after which Redis is left alone.", minimum=1, maximum=1_000
    )
    rest_s: float = knob(
        0.5,
        "How long Redis is left alone before it is probed again, in seconds.",
        minimum=0.05,
        maximum=60.0,
    )
    questions_max: int = knob(
        32, "Questions to Redis at once, and connections; more wait.", minimum=1, maximum=1_024
    )


def misfit(url: str) -> str | None:
    """Say what is wrong with a store's address, without showing it; None if nothing is."""
    if not url.startswith(SCHEMES):
        return f"store.url must begin with one of {', '.join(SCHEMES)}; found ***."
    try:
        if any(not option.startswith("ssl_") for option in parse_qs(urlsplit(url).query)):
            return "store.url may set options that begin with ssl_ only; the others are ours."
        pool = _pool(StoreConfig(url=url))
        pool.connection_class(**pool.connection_kwargs)
    except ImportError:
        return "store.url needs the Redis client: pip install 'forebay[redis]'."
    except (ValueError, TypeError):
        return "store.url cannot be read; write it as redis://user:password@host:6379/0."
    return None


def _pool(config: StoreConfig) -> "ConnectionPool":
    """Return the connections, none of which is open yet; ValueError, TypeError for a bad URL."""
    from redis.asyncio import ConnectionPool  # noqa: PLC0415 - only where one is configured
    from redis.asyncio.retry import Retry  # noqa: PLC0415 - as above
    from redis.backoff import NoBackoff  # noqa: PLC0415 - as above

    # How long is waited is decided by us; what we have given up is closed.
    tcp = {"socket_connect_timeout": _CONNECT_S_MAX, "socket_keepalive": True}
    return ConnectionPool.from_url(
        config.url,
        max_connections=2 * config.questions_max,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,
        health_check_interval=0,
        protocol=2,
        driver_info=None,  # two questions less for each new connection
        **({} if config.url.startswith("unix:") else tcp),
    )


class RedisLink:
    """Asks Redis within bounds, and notices when it goes and when it is back."""

    def __init__(self, config: StoreConfig, *, now: Clock, log: EventLog) -> None:
        """Ask at `config.url`; `log` hears of its comings and goings."""
        self.prefix = config.prefix
        self._config = config
        self._now = now
        self._log = log
        # The whole mutable state: the client, its breaker, the room for questions, the tasks
        # under way, and counts: of all failures, and of those since it was last back.
        self._client: Redis | None = None
        self._breaker = Breaker(failures_max=config.failures_max, rest_s=config.rest_s)
        self._room = asyncio.Semaphore(config.questions_max)
        self._under_way: set[asyncio.Future[Any]] = set()
        self._probing: asyncio.Task[None] | None = None
        self.failures = 0
        self._failures_lately = 0

    @property
    def away(self) -> bool:
        """Whether it is left alone."""
        return not self._breaker.closed

    async def open(self) -> None:
        """Get ready; nothing is connected before the first question."""
        if self._client is not None:
            return
        from redis.asyncio import Redis  # noqa: PLC0415 - only where one is configured

        self._client = Redis.from_pool(_pool(self._config))

    async def close(self) -> None:
        """Drop every connection; what is under way ends."""
        under_way = [*self._under_way, *([self._probing] if self._probing else [])]
        for task in under_way:
            task.cancel()
        if under_way:
            await asyncio.wait(under_way, timeout=_CLOSING_S)
        client, self._client = self._client, None
        if client is not None:
            await client.aclose(close_connection_pool=True)

    async def run(
        self,
        script: str,
        keys: tuple[str, ...],
        values: tuple[Any, ...],
        *,
        more_s: float = 0.0,
    ) -> Any:  # noqa: ANN401 - as Redis answers
        """Run a script, which is all or nothing; raise StoreAway like `ask`."""

        def question(client: "Redis") -> Any:  # noqa: ANN401 - as above
            return client.register_script(script)(keys=keys, args=values)

        return await self.ask(question, more_s=more_s)

    async def ask(
        self, question: "Callable[[Redis], Awaitable[Answer]]", *, more_s: float = 0.0
    ) -> Answer:
        """Return what Redis answers; raise StoreAway if it does not, or is left alone.

        `more_s` is for what is large.
        """
        async with self._room:
            if self.away:
                raise StoreAway
            try:
                answer = await self._within(question, self._config.timeout_s + more_s)
            except StoreAway:
                self.failures += 1
                self._failures_lately += 1
                if self._breaker.failed(self._now()):
                    self._left_alone()
                raise
            self._breaker.succeeded()
            return answer

    async def _within(
        self, question: "Callable[[Redis], Awaitable[Answer]]", seconds: float
    ) -> Answer:
        from redis.exceptions import RedisError  # noqa: PLC0415 - loaded already, by `open`

        assert self._client is not None, "the link is not open"
        asked = asyncio.ensure_future(question(self._client))
        self._under_way.add(asked)
        asked.add_done_callback(self._ended)
        try:
            for _ in range(_SLICES):
                await asyncio.wait({asked}, timeout=seconds / _SLICES)
                if asked.done():
                    return asked.result()
        except (RedisError, OSError, EOFError) as error:
            raise StoreAway from error
        finally:
            asked.cancel()  # redis-py drops a connection whose answer nobody awaits
        raise StoreAway

    def _ended(self, asked: "asyncio.Future[Any]") -> None:
        self._under_way.discard(asked)
        if not asked.cancelled():
            asked.exception()  # an answer that came too late is nobody's any more

    def _left_alone(self) -> None:
        self._log("store.away", level="warning", failures=self._failures_lately)
        self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        opened = self._breaker.opened
        assert opened is not None, "what is probed was left alone"
        while self.away:
            await asyncio.sleep(max(0.0, self._breaker.probe_in_s(self._now())))
            if self._breaker.probe(self._now()):
                self._breaker.probed(self._now(), answered=await self._answers())
        self._failures_lately = 0
        self._log("store.back", away_s=round(self._now() - opened, 3))

    async def _answers(self) -> bool:
        """Whether Redis takes a write, and in half the time that a question has.

        A server that is full or read-only answers a PING, and one at the edge of the time-out
        would come and go.
        """
        began, limit_s = self._now(), self._config.timeout_s
        name = f"{self.prefix}:probe:{secrets.token_hex(8)}"
        try:
            await self._within(lambda client: client.set(name, b"", px=1_000), limit_s)
        except StoreAway:
            return False
        return self._now() - began <= limit_s / 2
