"""One generation for equal wishes: keyed, shared, or remembered.

Theory of operation
-------------------
Three ways, and the straight one costs nothing.  *Keyed* (`Idempotency-Key`): the wish becomes a
name in the store, and its first arrival a flight (`flight.py`) that claims the name, makes the
answer and keeps it (`keys.py`); whoever comes with the same key reads the flight's log from the
first event, or the kept answer.  *Shared*: equal repeatable wishes of one tenant read one flight.
*Remembered*: an answer of the shared way serves again, from the cache.

What holds the promises.  The table of flights is the truth within this process and changes
without awaiting, so that duplicates that arrive together meet in it, and one of them alone asks
the store.  A key's answer is durable before any reader sees its end.  The store fences by owner:
of two that believe to own a key one alone is ever shown, the other's readers get an error and
find the winner's answer when they ask again.  Failures are not kept, and a name is given back
before the readers are told.

A reader that gives up leaves; nobody else is touched.  A flight has the deadline of whoever began
it; a reader with more time, that has been shown nothing, then begins anew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from functools import partial

from forebay.core.clock import MONOTONIC, Clock
from forebay.core.errors import DeadlineExceeded, Overloaded
from forebay.core.record import Holding
from forebay.core.request import (
    NO_REUSE,
    Admitted,
    Begun,
    Event,
    Events,
    Finished,
    Request,
    Scheduled,
    Source,
    begun,
    mark,
)
from forebay.serve import keys
from forebay.serve.cache import AnswerCache, CacheConfig, MemoryCache
from forebay.serve.deadline import until
from forebay.serve.flight import Flight, FlightPlan, Stage
from forebay.serve.flight_log import Allowance, FlightLog, Reader
from forebay.serve.keys import Generate, Keys, ReplayCounts
from forebay.serve.packing import Unreadable, packed, unpacked
from forebay.serve.replay_config import ReplayConfig
from forebay.serve.store import Done, Found, MemoryStore, Store, Wish

_RETRY_S = 1.0
_ENDING_S = 3.0
"""At a stop, how long finished answers get to reach the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seat:
    """How somebody reads a flight."""

    joined: bool
    """Another began it."""
    request: Request | None = None
    """What was asked; None where a stream is asked for by its name."""
    wish: Wish | None = None
    """What was asked under a key."""

    def named(self, flight: Flight) -> Begun:
        """Return how the answer is named to this reader: a key's always by whoever began it."""
        name = flight.begun
        assert name is not None, "its events follow its name"
        if flight.plan.wish is None:
            assert self.request is not None
            return begun(self.request, Source.JOINED if self.joined else Source.ENGINE)
        if self.joined and name.source is Source.ENGINE:
            complete = flight.stage >= Stage.ENDING
            return replace(name, source=Source.REPLAYED if complete else Source.JOINED)
        return name

    def has_time(self, now: float) -> bool:
        """Whether it may begin anew, when whoever began it had less time."""
        return self.joined and self.request is not None and now < self.request.deadline


class _AnewError(Exception):
    """A reader that has been shown nothing asks again."""


class Replay:
    """Decides whether a request's answer is made, joined or read again."""

    def __init__(
        self,
        config: ReplayConfig | None = None,
        *,
        store: Store | None = None,
        cache: AnswerCache | None = None,
        now: Clock = MONOTONIC,
        is_pressed: Callable[[], bool] = bool,
    ) -> None:
        """Keep keys' answers in `store` and repeatable ones in `cache`; without, in memory.

        `is_pressed` says whether requests wait for a place.
        """
        self._is_pressed = is_pressed
        self._config = config = config or ReplayConfig()
        self._now = now
        self._cache = MemoryCache(CacheConfig(), now) if cache is None else cache
        self._allowance = Allowance(bytes_max=config.flights_bytes_max)
        self.counts = ReplayCounts()
        if store is None:
            bounds = {"bytes_max": config.memory_bytes_max, "entries_max": config.entries_max}
            store = MemoryStore(now, **bounds)
        self._keys = Keys(store, config, self.counts, now=now)
        # The whole mutable state: flights to join, keyed ones by stream, and all that run.
        self._flights: dict[str, Flight] = {}
        self._streams: dict[str, Flight] = {}
        self._flying: set[Flight] = set()

    @property
    def degraded(self) -> bool:
        """Whether keys are known to this process only, for their store is away."""
        return self._keys.store.away

    def reconfigure(self, config: ReplayConfig, cache: CacheConfig) -> None:
        """Treat those who come from now on by what is live in these."""
        self._config = config
        self._keys.config = config
        self._cache.reconfigure(cache)

    async def start(self) -> None:
        """Open the store.  One that is away is found out when it is asked."""
        await self._keys.store.open()

    async def stop(self) -> None:
        """End every flight: keys are given back, and readers that are left get an error."""
        tasks = [flight.task for flight in self._flying]
        for flight in tuple(self._flying):
            flight.close()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING_S)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._keys.leases.stop()
        await self._keys.store.close()

    def attach(self, request: Request, generate: Generate) -> Events:
        """Return the events that answer a request; closing them lets go of its generation."""
        if request.key is not None and self._config.enabled:
            _looks(request)
            return until(request.deadline, self._keyed(request, generate))
        if request.resume_after is not None:
            raise keys.gone()  # keys are switched off: what it has the beginning of is not known
        if (request.repeatable and self._config.coalesce) or request.reuse is not NO_REUSE:
            _looks(request)
            return until(request.deadline, self._repeatable(request, generate))
        return generate(request)

    async def reopen(self, completion_id: str, tenant: str) -> Events:
        """Return the events of a keyed answer of this tenant, from the first.

        Raises Invalid (404) for a stream that this tenant never had, Gone for one that it had.
        """
        owner = keys.owner_of(completion_id, tenant)
        flight = self._streams.get(owner)
        if flight is None:
            told = self._kept(partial(self._keys.store.find, owner))
        elif flight.joinable:
            told = self._read(flight, _Seat(joined=True))
        else:
            raise keys.gone()
        async with aclosing(told) as events:
            async for event in events:
                yield event

    def holdings(self) -> Iterator[Holding]:
        """Yield what is held: flights, their readers, and leases of keys."""
        for flight in self._flying:
            owner, tenant = flight.plan.owner, flight.plan.tenant
            yield Holding(kind="flight", owner=owner, tenant=tenant, since=flight.plan.since)
            for reader in flight.log.readers:
                yield Holding(kind="reader", owner=owner, tenant=tenant, since=reader.since)
        yield from self._keys.leases.holdings()

    async def _keyed(self, request: Request, generate: Generate) -> Events:
        """Read the answer of a key, made now or before."""
        wish = keys.wish_of(request, self._config)
        while True:
            try:
                async with aclosing(self._answer(request, wish, generate)) as events:
                    async for event in events:
                        yield event
            except _AnewError:
                continue
            return

    def _answer(self, request: Request, wish: Wish, generate: Generate) -> Events:
        """Join the flight of a key, find its answer, or begin it; decided without awaiting."""
        flight = self._flights.get(wish.name)
        if flight is not None:
            if not flight.joinable:
                raise keys.runs() if request.resume_after is None else keys.gone()
            return self._read(flight, _Seat(joined=True, request=request, wish=wish))
        if request.resume_after is not None:
            return self._kept(partial(self._keys.store.look, wish.name), request, wish)
        if len(self._flying) >= self._config.flights_max:
            message = "Too many requests with keys are under way. Try again after Retry-After."
            raise Overloaded(message, retry_after_s=_RETRY_S)
        flight = self._flight(request, wish.name, wish)
        self._streams[wish.owner] = flight
        flight.depart(self._keys.make(flight, request, generate), self._let_go)
        return self._read(flight, _Seat(joined=False, request=request, wish=wish))

    async def _repeatable(self, request: Request, generate: Generate) -> Events:
        """Read an answer that was made before, is being made, or is made now for all who ask."""
        name = keys.cache_name(request)
        kept = await self._cached(request, name)
        if kept:
            yield begun(request, Source.CACHED)
            for event in kept:
                yield event
            return
        while True:
            try:
                async with aclosing(self._shared(request, name, generate)) as events:
                    async for event in events:
                        yield event
            except _AnewError:
                continue
            return

    async def _cached(self, request: Request, name: str) -> list[Event]:
        """Return the events of an answer that was made before; none without one."""
        if not request.reuse.read:
            self.counts.cache_bypasses += 1
            return []
        blob = await self._cache.get(name, request.reuse.age_s_max)
        if blob is not None:
            with suppress(Unreadable):
                _, events = await unpacked(blob)
                self.counts.cache_hits += 1
                return events
        self.counts.cache_misses += 1
        return []

    def _shared(self, request: Request, name: str, generate: Generate) -> Events:
        """Join a flight that makes the same, or begin it; decided without awaiting.

        Who reads a stream joins streams only: of a completion that is sent whole, an engine may
        say nothing before its end.  And nobody joins a flight of less priority than its own, or
        of one who has far less time.
        """
        may_join = self._config.coalesce and (request.repeatable or request.reuse.read)
        ways = (True,) if request.stream else (True, False)
        for way in ways if may_join else ():
            flight = self._flights.get(_shared_name(name, request, stream=way))
            if flight is not None and flight.suits(request.deadline):
                flight.keep |= request.reuse.write
                return self._read(flight, _Seat(joined=True, request=request))
        if len(self._flying) >= self._config.flights_max:
            return generate(request)
        own = _shared_name(name, request, stream=request.stream)
        flight = self._flight(request, own if may_join else f"{own} alone {id(request)}")
        flight.keep = request.reuse.write
        flight.depart(self._make_shared(flight, request, generate, name=name), self._let_go)
        return self._read(flight, _Seat(joined=False, request=request))

    async def _make_shared(
        self, flight: Flight, request: Request, generate: Generate, *, name: str
    ) -> None:
        """Fill a flight without a key; what it made may serve again."""
        answer = begun(request)
        flight.begin(answer)
        self.counts.flights += 1
        async with aclosing(generate(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    flight.move(Stage.ENDING)
                    if flight.log.whole and flight.keep:
                        blob = await packed(answer, flight.log.events, event.usage)
                        await self._cache.put(name, blob)
                    self._let_go(flight)  # it is over: who comes now asks the cache, or anew
                await flight.push(event)

    def _flight(self, request: Request, name: str, wish: Wish | None = None) -> Flight:
        plan = FlightPlan(
            name=name,
            owner=request.completion_id or request.id,
            tenant=request.tenant,
            since=self._now(),
            deadline=request.deadline,
            wish=wish,
            linger_s=self._config.linger_s,
            linger_pressed_s=self._config.linger_pressed_s,
            is_pressed=self._is_pressed,
        )
        log = FlightLog(self._allowance, bytes_max=self._config.flight_bytes_max)
        flight = Flight(plan, log, self._now)
        self._flights[name] = flight
        self._flying.add(flight)
        return flight

    def _let_go(self, flight: Flight) -> None:
        """Let nobody join any more; forget a flight that has ended."""
        plan = flight.plan
        if self._flights.get(plan.name) is flight:
            del self._flights[plan.name]
        if plan.wish is not None and self._streams.get(plan.wish.owner) is flight:
            del self._streams[plan.wish.owner]
        if flight.stage is Stage.ENDED:
            self._flying.discard(flight)

    async def _read(self, flight: Flight, seat: _Seat) -> Events:
        """Yield a flight's name and events; raises _AnewError where a new attempt is due."""
        with flight.reading() as reader:
            if seat.wish is not None:
                await self._check(flight, reader, seat)
            shown = False
            try:
                async with aclosing(flight.log.read(reader)) as events:
                    async for event in events:
                        if seat.joined and isinstance(event, Admitted | Scheduled):
                            continue  # those are stations of whoever began it
                        if not shown:
                            shown = True
                            self.counts.joined += seat.joined
                            yield seat.named(flight)
                        yield event
                        if isinstance(event, Finished):
                            return
            except DeadlineExceeded as error:
                if shown or not seat.has_time(self._now()):
                    raise
                raise _AnewError from error

    async def _check(self, flight: Flight, reader: Reader, seat: _Seat) -> None:
        """Refuse a wish that the key does not stand for, or that must not wait."""
        assert seat.wish is not None
        assert seat.request is not None
        assert flight.plan.wish is not None
        if seat.request.resume_of:
            name = await flight.named(reader)
            if name is not None and mark(name.completion_id) != seat.request.resume_of:
                raise keys.gone()
        await flight.settled(reader)
        if flight.plan.wish.fingerprint != seat.wish.fingerprint:
            if flight.begun is None and flight.stage is Stage.ENDED:
                raise _AnewError  # one of them was wrong; which one is not known yet
            self.counts.conflicts += 1
            raise keys.differs()
        if not seat.request.attach and (
            flight.stage is Stage.AWAITING or (flight.stage is Stage.RUNNING and seat.joined)
        ):
            self.counts.conflicts += 1
            raise keys.runs()

    async def _kept(
        self,
        see: Callable[[], Awaitable[Found]],
        request: Request | None = None,
        wish: Wish | None = None,
    ) -> Events:
        """Yield an answer that is kept; of another process, as soon as it is."""
        found = await self._keys.kept(see, None if wish is None else wish.fingerprint)
        if not isinstance(found, Done):
            raise keys.unknown() if found is None and wish is None else keys.gone()
        name, events = await keys.answer_of(found)
        if request is not None and request.resume_of not in {"", mark(name.completion_id)}:
            raise keys.gone()
        self.counts.replayed += 1
        yield name
        for event in events:
            yield event


def _looks(request: Request) -> None:
    if request.visit is not None:
        request.visit.looked = True


def _shared_name(name: str, request: Request, *, stream: bool) -> str:
    return f"{name} {'stream' if stream else 'whole'} {request.priority.name}"
