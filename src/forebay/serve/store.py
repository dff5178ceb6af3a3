"""Where keys are claimed and answers are kept: the protocol, and a store in memory.

A name is a digest; whoever asks has put tenant, route and key into it.  A name is free, claimed
(an owner makes its answer, under a lease) or done (the answer is kept for its time).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from forebay.core.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Who wants a name, and what for."""

    name: str
    fingerprint: str
    """What the name stands for: equal wishes, equal fingerprints."""
    owner: str
    """Unique to one attempt, and unguessable: it fences, and it names the stream."""
    lease_s: float
    ttl_s: float
    """How long an answer is kept; the owner's stream is remembered twice as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """The name is the owner's until the lease ends: make the answer."""

    degraded: bool = False
    """Only this process knows: the store is away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """Somebody makes the answer; ask again."""

    fingerprint: str
    lease_left_s: float
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer."""

    fingerprint: str
    blob: bytes
    degraded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Differs:
    """The name stands for something else, made or being made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """The stream was known; its answer is not kept any more, or never came to be."""


Claim = Fresh | Running | Done | Differs
Sight = Running | Done | None
Found = Running | Done | Expired | None


class StoreAway(Exception):
    """The store cannot be asked, or did not answer in time; what it did is not known."""


class Store(Protocol):
    """Claims names and keeps answers.  Every promise holds between processes that share it.

    1. `claim` of a free name is Fresh, and the name is the owner's until `lease_s` from now.  Of
       two that claim at once, one is Fresh.  An owner that claims again is Fresh again.
    2. A claimed name is Running to others with the same fingerprint, a done one Done, and either
       Differs for another fingerprint.  A lease that has ended leaves the name free.
    3. `renew` makes the owner's lease last `lease_s` from now and is True; False, and nothing
       changes, if another has claimed the name since, or it was given back.
    4. `finish` keeps the answer for `ttl_s` and is True once it is durable; False, and nothing
       changes, if the name is not the owner's any more.  Lateness alone is forgiven: an owner
       whose lease has ended may renew and finish as long as nobody has claimed the name.
    5. `finish` again by the same owner is True and keeps the first answer.
    6. `abandon` frees a name that the owner claimed; it never takes an answer away.
    7. `look` says what is there and changes nothing; an ended lease is None.
    8. `find` looks by the owner, that is by the stream: None if such an owner never claimed, or
       too long ago (twice `ttl_s`); Expired if its answer is gone, given up, or another's.
    9. Bounded: the oldest answers make room for new ones; leases never do.
    10. What cannot be asked raises StoreAway, soon; nothing else is raised.
    11. `away` says, without asking, whether that is so at the moment.
    """

    @property
    def away(self) -> bool:
        """Whether the last question had no answer."""

    async def open(self) -> None:
        """Get ready; a store that is away opens all the same and raises when asked."""

    async def close(self) -> None:
        """Give everything back; what was promised as durable stays."""

    async def claim(self, wish: Wish) -> Claim:
        """Take a name, or say who has it."""

    async def renew(self, wish: Wish) -> bool:
        """Lengthen the owner's lease."""

    async def finish(self, wish: Wish, blob: bytes) -> bool:
        """Keep the answer."""

    async def abandon(self, wish: Wish) -> None:
        """Free a name."""

    async def look(self, name: str) -> Sight:
        """See what is under a name."""

    async def find(self, owner: str) -> Found:
        """See what became of an owner's claim."""


@dataclass(slots=True, kw_only=True)
class _Entry:
    """A name that is not free: claimed while `blob` is None, then done."""

    fingerprint: str
    owner: str
    expires: float
    blob: bytes | None = None


class MemoryStore:
    """A store of this process alone: durable means kept while it lives."""

    def __init__(self, now: Clock, *, bytes_max: int, entries_max: int) -> None:
        """Keep at most so many answers and so many bytes of them."""
        self._now = now
        self._bytes_max = bytes_max
        self._entries_max = entries_max
        # The whole mutable state.  Answers are in the order in which they were made.
        self._claimed: dict[str, _Entry] = {}
        self._done: OrderedDict[str, _Entry] = OrderedDict()
        self._owners: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._bytes = 0

    @property
    def away(self) -> bool:
        """Never: it is this process."""
        return False

    @property
    def bytes_kept(self) -> int:
        """Bytes of the answers that are kept."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._claimed) + len(self._done)

    def __contains__(self, name: str) -> bool:
        return self._entry(name) is not None

    async def open(self) -> None:
        """Nothing to get ready."""

    async def close(self) -> None:
        """Nothing to give back."""

    async def claim(self, wish: Wish) -> Claim:
        """Take a name, or say who has it."""
        now = self._now()
        entry = self._entry(wish.name)
        if entry is None or (entry.blob is None and entry.owner == wish.owner):
            self._forget_dead_claims(now)
            self._claimed[wish.name] = _Entry(
                fingerprint=wish.fingerprint, owner=wish.owner, expires=now + wish.lease_s
            )
            self._remember(wish)
            return Fresh()
        if entry.fingerprint != wish.fingerprint:
            return Differs()
        return self._sight(entry)

    async def renew(self, wish: Wish) -> bool:
        """Lengthen the owner's lease."""
        entry = self._claimed.get(wish.name)
        if entry is None or entry.owner != wish.owner:
            return False
        entry.expires = self._now() + wish.lease_s
        return True

    async def finish(self, wish: Wish, blob: bytes) -> bool:
        """Keep the answer."""
        entry = self._claimed.get(wish.name)
        if entry is None or entry.owner != wish.owner:
            done = self._done.get(wish.name)
            return done is not None and done.owner == wish.owner
        self.keep(wish, blob)
        return True

    def keep(self, wish: Wish, blob: bytes) -> None:
        """Keep an answer, whoever has claimed its name."""
        self._claimed.pop(wish.name, None)
        self._drop(wish.name)
        self._done[wish.name] = _Entry(
            fingerprint=wish.fingerprint,
            owner=wish.owner,
            expires=self._now() + wish.ttl_s,
            blob=blob,
        )
        self._bytes += len(blob)
        self._remember(wish)
        self._make_room()

    async def abandon(self, wish: Wish) -> None:
        """Free a name."""
        entry = self._claimed.get(wish.name)
        if entry is not None and entry.owner == wish.owner:
            del self._claimed[wish.name]

    async def look(self, name: str) -> Sight:
        """See what is under a name."""
        entry = self._entry(name)
        return None if entry is None else self._sight(entry)

    async def find(self, owner: str) -> Found:
        """See what became of an owner's claim."""
        name, expires = self._owners.get(owner, ("", 0.0))
        if expires <= self._now():
            return None
        entry = self._entry(name)
        return Expired() if entry is None or entry.owner != owner else self._sight(entry)

    def _entry(self, name: str) -> _Entry | None:
        """Return what is under a name, unless its time is over."""
        entry = self._claimed.get(name) or self._done.get(name)
        return entry if entry is not None and entry.expires > self._now() else None

    def _sight(self, entry: _Entry) -> Running | Done:
        if entry.blob is not None:
            return Done(fingerprint=entry.fingerprint, blob=entry.blob)
        return Running(fingerprint=entry.fingerprint, lease_left_s=entry.expires - self._now())

    def _remember(self, wish: Wish) -> None:
        """Note the owner's stream; the oldest streams are forgotten first."""
        self._owners[wish.owner] = (wish.name, self._now() + 2 * wish.ttl_s)
        self._owners.move_to_end(wish.owner)
        while len(self._owners) > 2 * self._entries_max:
            self._owners.popitem(last=False)

    def _forget_dead_claims(self, now: float) -> None:
        """Bound the claims whose owners vanished; whoever claims bounds those that live."""
        if len(self._claimed) >= self._entries_max:
            dead = [name for name, entry in self._claimed.items() if entry.expires <= now]
            for name in dead:
                del self._claimed[name]

    def _make_room(self) -> None:
        while self._done and (
            len(self._done) > self._entries_max
            or self._bytes > self._bytes_max
            or next(iter(self._done.values())).expires <= self._now()
        ):
            self._drop(next(iter(self._done)))

    def _drop(self, name: str) -> None:
        entry = self._done.pop(name, None)
        if entry is not None and entry.blob is not None:
            self._bytes -= len(entry.blob)
