"""The answers of `Idempotency-Key`: who makes one, and how it is kept.

Names and fingerprints are digests, so that a store sees neither keys nor prompts' words.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import (
    Conflict,
    EngineError,
    Gone,
    Invalid,
    Overloaded,
)
from forebay.core.request import Begun, Event, Events, Finished, Request, begun, digest
from forebay.serve.flight import Flight, Stage
from forebay.serve.leases import Leases
from forebay.serve.packing import FORMAT, Unreadable, packed, unpacked
from forebay.serve.replay_config import ReplayConfig
from forebay.serve.store import (
    Claim,
    Differs,
    Done,
    Expired,
    Found,
    Fresh,
    Running,
    Store,
    StoreAway,
    Wish,
)

Generate = Callable[[Request], Events]

_BACKOFF: Final = 1.5
_POLLS_MAX: Final = 5.0
"""Another process's answer is asked for each `poll_s`, then more rarely, up to so many of it."""
_RETRY_S: Final = 1.0


@dataclass(slots=True)
class ReplayCounts:
    """What came of requests that could have shared an answer; only ever grows."""

    flights: int = 0
    """Generations that more than one may read; plain requests are not among them."""
    joined: int = 0
    replayed: int = 0
    conflicts: int = 0
    taken_over: int = 0
    """Keys whose owner ended without an answer while we waited: made here."""
    fenced: int = 0
    """Answers that came too late, for another had the key."""
    overflowed: int = 0
    """Answers that were too long to be read again."""
    degraded: int = 0
    """Keys that only this process knows, for the store was away."""
    stored: int = 0
    stored_bytes: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    cache_bypasses: int = 0


def wish_of(request: Request, config: ReplayConfig) -> Wish:
    """Return what a request with a key claims."""
    assert request.completion_id, "a keyed answer has a name of its own"
    return Wish(
        name=_sha256(FORMAT, request.tenant, request.route.value, request.key),
        fingerprint=_sha256(digest(request, by_route=True), request.stream, request.shape),
        owner=owner_of(request.completion_id, request.tenant),
        lease_s=config.lease_s,
        ttl_s=config.ttl_s,
    )


def owner_of(completion_id: str, tenant: str) -> str:
    """Name a stream, and whoever makes it, so that no other tenant can."""
    return _sha256(FORMAT, tenant, completion_id)


def cache_name(request: Request) -> str:
    """Name the answer to a repeatable wish: of one tenant, and one version of a model."""
    return _sha256(FORMAT, request.tenant, digest(request), request.imprint)


class Keys:
    """Makes the answers of keys, once each, and finds those that are kept."""

    def __init__(
        self, store: Store, config: ReplayConfig, counts: ReplayCounts, *, now: Clock
    ) -> None:
        """Claim names and keep answers in `store`."""
        self.store = store
        self.leases = Leases(store, now)
        self.config = config
        self._counts = counts

    async def make(self, flight: Flight, request: Request, generate: Generate) -> None:
        """Fill a flight: with the answer that is kept, or with one that is made and kept."""
        wish = flight.plan.wish
        assert wish is not None, "a keyed flight has a wish"
        owned = True
        try:
            claim = await self._claim(flight, wish)
            owned = isinstance(claim, Fresh)
            match claim:
                case Differs():
                    raise differs()
                case Done():
                    await self._replay(flight, claim)
                case Fresh(degraded=degraded):
                    self._counts.flights += 1
                    self._counts.degraded += degraded
                    flight.begin(begun(request, resumable=True, degraded=degraded))
                    lease = self.leases.held(
                        wish,
                        lambda: self._lost(flight),
                        owner=flight.plan.owner,
                        tenant=flight.plan.tenant,
                    )
                    with lease:
                        owned = not await self._generate(flight, request, generate)
        finally:
            if owned:  # or perhaps owned: a claim may have been cut short on its way
                await self.store.abandon(wish)

    async def kept(
        self, see: Callable[[], Awaitable[Found]], fingerprint: str | None = None
    ) -> Done | Expired | None:
        """Wait for an answer that another process may be making; Expired or None without one.

        Raises Conflict if it is to another wish.
        """
        pause_s = self.config.poll_s
        while True:
            try:
                found = await see()
            except StoreAway as error:
                message = "The store of answers is away. Try again after the time in Retry-After."
                raise Overloaded(message, retry_after_s=_RETRY_S) from error
            if isinstance(found, Running | Done) and fingerprint not in {None, found.fingerprint}:
                raise differs()
            if not isinstance(found, Running):
                return found
            pause_s = await self._pause(pause_s, found)

    async def _claim(self, flight: Flight, wish: Wish) -> Claim:
        """Claim until it is ours, or done; meanwhile another process makes it.

        Readers whose deadlines pass leave, and the last one's leaving ends the waiting.
        """
        pause_s = self.config.poll_s
        while True:
            claim = await self.store.claim(wish)
            if not isinstance(claim, Running):
                if isinstance(claim, Fresh) and flight.stage is Stage.AWAITING:
                    self._counts.taken_over += 1
                return claim
            flight.move(Stage.AWAITING)
            pause_s = await self._pause(pause_s, claim)

    async def _pause(self, pause_s: float, running: Running) -> float:
        """Wait, not beyond the lease's end; return the next pause."""
        least_s = self.config.poll_s
        await asyncio.sleep(min(pause_s, max(least_s, running.lease_left_s)))
        return min(pause_s * _BACKOFF, least_s * _POLLS_MAX)

    async def _replay(self, flight: Flight, done: Done) -> None:
        name, events = await answer_of(done)
        flight.begin(name)
        flight.move(Stage.ENDING)
        self._counts.replayed += 1
        for event in events:
            await flight.push(event)

    async def _generate(self, flight: Flight, request: Request, generate: Generate) -> bool:
        """Make the answer; return whether it is kept."""
        kept = False
        async with aclosing(generate(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    kept = await self._keep(flight, event)
                await flight.push(event)
        return kept

    async def _keep(self, flight: Flight, finished: Finished) -> bool:
        """Make the answer durable, before anybody sees its end."""
        flight.move(Stage.ENDING)
        plan, name = flight.plan, flight.begun
        assert plan.wish is not None
        assert name is not None
        if not flight.log.whole:
            self._counts.overflowed += 1
            return False
        blob = await packed(name, flight.log.events, finished.usage)
        if not await self.store.finish(plan.wish, blob):
            self._counts.fenced += 1
            raise fenced()
        self._counts.stored += 1
        self._counts.stored_bytes += len(blob)
        return True

    def _lost(self, flight: Flight) -> None:
        self._counts.fenced += flight.stage is Stage.RUNNING
        flight.close(fenced())


async def answer_of(done: Done) -> tuple[Begun, list[Event]]:
    """Read a kept answer; raises EngineError for one that cannot be read."""
    try:
        name, events = await unpacked(done.blob)
    except Unreadable as error:
        raise EngineError("The stored answer of this key cannot be read.") from error
    return (replace(name, degraded=True) if done.degraded else name), events


def fenced() -> EngineError:
    """Return what is told when another server made the answer too, and finished first."""
    message = "Another server took this key over. Send the request again to read its answer."
    return EngineError(message)


def differs() -> Conflict:
    """Return what is told when a key stands for another request."""
    message = "Idempotency-Key: it was used with another request. Send a new key with a new one."
    return Conflict(message, param="Idempotency-Key")


def runs() -> Conflict:
    """Return what is told when a key's answer is being made, and cannot be joined."""
    message = "Idempotency-Key: its answer is being made. Try again after the time in Retry-After."
    return Conflict(message, param="Idempotency-Key", status=409, retry_after_s=_RETRY_S)


def gone() -> Gone:
    """Return what is told when a stream cannot be gone on with."""
    message = "The stream is not kept any more. Send the request again, without Last-Event-ID."
    return Gone(message, status=410)


def unknown() -> Invalid:
    """Return what is told of a stream that this tenant never had."""
    return Invalid("No stream of that name is kept here.", status=404)


def _sha256(*facts: object) -> str:
    return hashlib.sha256(repr(facts).encode("utf-8", "surrogatepass")).hexdigest()
