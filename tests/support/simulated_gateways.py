"""Several gateways over one store, in virtual time: crashes, stalls, and clients of all kinds."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from forebay.core.errors import EngineError, ServingError
from forebay.core.request import (
    Admitted,
    Begun,
    Delta,
    Event,
    Events,
    Finished,
    FinishReason,
    Request,
    RequestId,
    Usage,
    mark,
)
from forebay.serve.deadline import until
from forebay.serve.flight import Stage
from forebay.serve.replay import Replay
from forebay.serve.replay_config import ReplayConfig
from forebay.serve.store import Claim, Found, MemoryStore, Sight, Store, StoreAway, Wish
from forebay.serve.store_shelter import ShelteredStore
from tests.support.requests import a_request

Answer = TypeVar("Answer")

LINGER_S = 5.0
LEASE_S = 3.0
CONFIG = ReplayConfig(linger_s=LINGER_S, lease_s=LEASE_S, ttl_s=100_000.0, poll_s=0.1)


@dataclass(slots=True, kw_only=True)
class Generation:
    """One run of the engine."""

    key: str
    number: int
    began: float
    finished: bool = False
    ended: float | None = None


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one attempt of a client was shown, and how it ended."""

    key: str
    fingerprint: str
    gateway: int
    began: float
    deadline: float
    ended: float = 0.0
    name: Begun | None = None
    events: list[Event] = field(default_factory=list)
    error: str = ""
    goes_on_from: "Seen | None" = None
    """The attempt whose events the client had, and kept."""

    @property
    def finished(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Finished)

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Delta)]


class View:
    """The shared store as one process sees it: late, sometimes stalled, and dead with it."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        self._store = store
        self._dice = dice
        self.dead = False
        self.stalled_until = 0.0
        self.away_until = 0.0

    @property
    def away(self) -> bool:
        return asyncio.get_running_loop().time() < self.away_until

    async def open(self) -> None:
        """It is open."""

    async def close(self) -> None:
        """It stays open."""

    async def _asked(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(self.stalled_until - now, self._dice.random() * 0.02))
        if self.dead or now < self.away_until:
            raise StoreAway
        answer = await ask()
        if asyncio.get_running_loop().time() < self.away_until:
            raise StoreAway  # it was heard, and its answer was lost
        await asyncio.sleep(self._dice.random() * 0.02)
        return answer

    async def claim(self, wish: Wish) -> Claim:
        return await self._asked(lambda: self._store.claim(wish))

    async def renew(self, wish: Wish) -> bool:
        return await self._asked(lambda: self._store.renew(wish))

    async def finish(self, wish: Wish, blob: bytes) -> bool:
        return await self._asked(lambda: self._store.finish(wish, blob))

    async def abandon(self, wish: Wish) -> None:
        await self._asked(lambda: self._store.abandon(wish))

    async def look(self, name: str) -> Sight:
        return await self._asked(lambda: self._store.look(name))

    async def find(self, owner: str) -> Found:
        return await self._asked(lambda: self._store.find(owner))


class World:
    """Gateways, their store, and the engine behind them."""

    def __init__(
        self,
        seed: int,
        *,
        gateways: int = 3,
        crashes: int = 3,
        stalls: int = 6,
        absences: int = 0,
        store: type[MemoryStore] = MemoryStore,
        replay: type[Replay] = Replay,
    ) -> None:
        self.dice = random.Random(seed)
        self.crashes, self.stalls, self.absences = crashes, stalls, absences
        self._replay = replay
        self.now = asyncio.get_running_loop().time
        self.store = store(self.now, bytes_max=10**9, entries_max=10**6)
        self.views = [View(self.store, self.dice) for _ in range(gateways)]
        self.replays = [self._new(view) for view in self.views]
        self.retired: list[Replay] = []
        self.clients: dict[int, set[asyncio.Task[None]]] = defaultdict(set)
        self.generations: list[Generation] = []
        self.held = 0
        self.seen: list[Seen] = []
        self.unread: list[str] = []

    def _new(self, view: View) -> Replay:
        store: Store = view
        if self.absences:
            near = MemoryStore(self.now, bytes_max=10**9, entries_max=10**6)
            store = ShelteredStore(view, near, owed_max=1_000)
        return self._replay(CONFIG, store=store, now=self.now)

    def generate(self, request: Request) -> Events:
        return until(request.deadline, self._made(request))

    async def _made(self, request: Request) -> Events:
        name = f"{request.tenant}/{request.key}"
        generation = Generation(key=name, number=len(self.generations), began=self.now())
        self.generations.append(generation)
        self.held += 1
        try:
            await asyncio.sleep(self.dice.random() * 0.5)
            yield Admitted()
            tokens = self.dice.choice((1, 3, 10, 20))
            pace_s = self.dice.choice((0.0, 0.1, 1.0, 1.0, 30.0))
            for index in range(tokens):
                await asyncio.sleep(pace_s * self.dice.random())
                reason = FinishReason.STOP if index == tokens - 1 else None
                yield Delta(f"{generation.number}:{index}", finish_reason=reason)
            if self.dice.random() < 0.2:
                raise EngineError("The dice say so.")
            generation.finished = True
            yield Finished(Usage(1, tokens))
        finally:
            self.held -= 1
            generation.ended = self.now()

    async def run(self, clients: int, seconds: float) -> None:
        """Let clients come and go, and gateways crash and stall, until all is over."""
        watching = asyncio.create_task(self._watch())
        chaos = [asyncio.create_task(self._crash(seconds)) for _ in range(self.crashes)]
        chaos += [asyncio.create_task(self._stall(seconds)) for _ in range(self.stalls)]
        chaos += [asyncio.create_task(self._leave(seconds)) for _ in range(self.absences)]
        coming = [asyncio.create_task(self._client(n, seconds)) for n in range(clients)]
        await asyncio.gather(*coming, *chaos)
        await asyncio.sleep(2 * LINGER_S + 2 * LEASE_S)
        watching.cancel()

    async def _client(self, number: int, seconds: float) -> None:
        """Ask, and ask again where it failed; sometimes go on with a stream instead."""
        await asyncio.sleep(self.dice.random() * seconds)
        key = f"{self.now() // 4.0:.0f}"  # those who come at about the same time share one
        tenant = self.dice.choice(("t", "t", "t", "u"))
        shape = "usage" if self.dice.random() < 0.03 else ""
        seen: Seen | None = None
        for attempt in range(4):
            again = seen is not None and seen.name is not None and self.dice.random() < 0.5
            request = a_request(
                id=RequestId(f"{number}-{attempt}"),
                completion_id=f"chatcmpl-{number}-{attempt}",
                stream=True,
                key=key,
                tenant=tenant,
                shape=shape,
                resume_after=len(seen.events) if again and seen else None,
                resume_of=mark(seen.name.completion_id) if again and seen and seen.name else "",
                received=self.now(),
                deadline=self.now() + self.dice.choice((0.3, 2.0, 20.0, 60.0)),
            )
            before = seen if again else None
            seen = await self._attempt(request, before.name if before else None)
            seen.goes_on_from = before
            if seen.finished:
                return
            await asyncio.sleep(self.dice.random() * 3.0)

    async def _attempt(self, request: Request, stream: Begun | None) -> Seen:
        gateway = self.dice.randrange(len(self.replays))
        seen = Seen(
            key=f"{request.tenant}/{request.key}",
            fingerprint=request.shape,
            gateway=gateway,
            began=self.now(),
            deadline=request.deadline,
        )
        self.seen.append(seen)
        if stream is not None and self.dice.random() < 0.5:
            events = self.replays[gateway].reopen(stream.completion_id, request.tenant)
            events = until(request.deadline, events)
        else:
            events = self.replays[gateway].attach(request, self.generate)
        reading = asyncio.create_task(self._read(events, seen))
        self.clients[gateway].add(reading)
        with suppress(asyncio.CancelledError):
            await reading
        self.clients[gateway].discard(reading)
        seen.ended = self.now()
        return seen

    async def _read(self, events: Events, seen: Seen) -> None:
        leaves_after = self.dice.choice((0, 1, 5, 1000, 1000, 1000))
        pause_s = self.dice.choice((0.0, 0.0, 0.1))
        try:
            async with aclosing(events):
                async for event in events:
                    if isinstance(event, Begun):
                        assert seen.name is None, "an answer was named twice"
                        seen.name = event
                        continue
                    seen.events.append(event)
                    if len(seen.events) > leaves_after:
                        return
                    if pause_s:
                        await asyncio.sleep(pause_s)
        except ServingError as error:
            seen.error = type(error).__name__

    async def _crash(self, seconds: float) -> None:
        """Kill a gateway: nothing that it still does reaches the store, or a client."""
        await asyncio.sleep(self.dice.random() * seconds)
        gateway = self.dice.randrange(len(self.replays))
        self.views[gateway].dead = True
        for client in tuple(self.clients[gateway]):
            client.cancel()
        dead = self.replays[gateway]
        self.retired.append(dead)
        self.views[gateway] = View(self.store, self.dice)
        self.replays[gateway] = self._new(self.views[gateway])
        await dead.stop()

    async def _stall(self, seconds: float) -> None:
        """Stop a gateway's way to the store for longer than a lease, or for less."""
        await asyncio.sleep(self.dice.random() * seconds)
        view = self.views[self.dice.randrange(len(self.views))]
        view.stalled_until = self.now() + self.dice.choice((0.5, 2.0, 3.0)) * LEASE_S

    async def _leave(self, seconds: float) -> None:
        """Take the store away from one gateway for a while."""
        await asyncio.sleep(self.dice.random() * seconds)
        view = self.views[self.dice.randrange(len(self.views))]
        view.away_until = self.now() + self.dice.random() * 10.0

    async def _watch(self) -> None:
        """Note every generation that nobody reads and that nothing is going to end."""
        while True:
            await asyncio.sleep(0.1)
            for flight in [flight for replay in self.replays for flight in replay._flying]:
                runs = flight.stage < Stage.ENDING and not flight.closing
                if runs and not flight.log.readers:
                    alarm = flight._linger
                    if alarm is None or not self.now() <= alarm.when() <= self.now() + LINGER_S:
                        self.unread.append(repr(flight))
