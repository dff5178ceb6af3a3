"""A `Retry-After` that holds: the queue of those who were sent away.

Theory of operation
-------------------
Who is refused is told a moment.  Time ahead is cut into stretches, each with room for the
places that come free in it, less a share for those who come unpromised; a promise takes the
earliest room after the queue of now.  Who comes back at its moment, or a little later, is let
in ahead of fresh arrivals.  Who comes too early is told the same moment again.  Who does not
come by `grace_s` later has lost it.

Not everybody comes back.  The share of promises that are redeemed is learned, and a promise
takes room, and fresh arrivals reckon with it, by that share: so what is expected to be claimed
never exceeds what the lane has, and nobody idles for those who stay away.

A promise goes OPEN -> REDEEMED or OPEN -> MISSED, once.  It is found again by its ticket,
or by who asked for what: (tenant, digest).
"""

import heapq
import math
from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple


class Wish(NamedTuple):
    """Who asked, and for what (`core.request.digest`)."""

    tenant: str
    digest: str


_Entry = tuple[float, int, str, str, str]
"""A promise in the book: its moment, places, ticket, tenant, and the wish it is found by.

Plain tuples of numbers and texts are nothing to the garbage collector once it has seen them.  As
objects, ten thousand promises made each full collection stop the server for 15 ms.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """When to come back, a moment of the lane's clock, and what to show then."""

    at: float
    ticket: str | None
    """None: the book is full or the moment too far off, so `at` is an estimate, not a promise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a promise is computed from, in seconds."""

    wait_s: float
    """How long the queue is as it stands: no promise is due before."""
    gap_s: float
    """Between places that come free while all are taken."""
    size: int = 1
    """Places that the request takes."""


class PromiseBook:
    """The promises of one lane."""

    def __init__(
        self,
        *,
        promises_max: int,
        grace_s: float,
        horizon_s: float,
        share_max: float,
        tenant_s_max: float = math.inf,
    ) -> None:
        """Bound how many are kept, how late one may come, and how far off a moment may be.

        `share_max` is the share of the lane's pace that may be promised, above 0, at most 1;
        `tenant_s_max` how many seconds of the whole lane's work one tenant may be promised.
        """
        assert promises_max >= 0
        assert 0.0 < share_max <= 1.0
        self._promises_max = promises_max
        self._grace_s = grace_s
        self._horizon_s = horizon_s
        self._tenant_s_max = tenant_s_max
        # The whole mutable state.  Both maps hold OPEN promises, an open one alone under its wish
        # or a heap of them, in which closed ones may linger below the first; `_ending` holds each
        # ticket until it can no longer be redeemed, the earliest first.  `share` is the learned
        # share of promises that are redeemed: all, as long as nothing is known.
        self._room = _Room(share_max, horizon_s)
        self._ending: list[tuple[float, int, str]] = []
        self._by_ticket: dict[str, _Entry] = {}
        self._by_wish: dict[str, _Entry | list[_Entry]] = {}
        self._by_tenant: Counter[str] = Counter()  # places
        self._latest = 0.0  # the last moment that was promised
        self.share = 1.0
        self.made = 0
        self.redeemed = 0
        self.missed = 0

    def __len__(self) -> int:
        """Promises that may still be redeemed: while there are none, nothing need be asked."""
        return len(self._by_ticket)

    def promise(
        self, wish: Wish, offer: Offer, now: float, *, ticket: str | None = None
    ) -> Promise:
        """Promise a moment to a request that is refused; `ticket` is what it came with, if any."""
        self.settle(now)
        early = self._by_ticket.get(ticket) if ticket is not None else None
        if early is not None:
            at, _, name, tenant, _ = early
            if tenant == wish.tenant and at > now:
                return Promise(at=at, ticket=name)
        until = now + self._horizon_s
        gap_s = offer.gap_s * min(1.0, self.share + _SHARE_DOUBT)
        at = self._room.earliest(now + offer.wait_s, until, gap_s)
        places = self._by_tenant[wish.tenant] + offer.size
        too_many = places * gap_s > self._tenant_s_max
        if at >= until or too_many or len(self._ending) >= self._promises_max:
            # Not booked, so there is no use in coming before those who were promised something.
            return Promise(at=min(max(at, self._latest), until), ticket=None)
        self._latest = max(self._latest, at)
        self._room.take(at, offer.size, gap_s)
        self.made += 1
        name = f"{self.made:x}-{wish.digest[:_DIGEST_KEPT]}"
        self._open((at, offer.size, name, wish.tenant, _key(wish)))
        return Promise(at=at, ticket=name)

    def redeem(self, wish: Wish, now: float, *, ticket: str | None = None) -> bool:
        """Say whether this request comes back at its moment; a promise serves once."""
        self.settle(now)
        entry = self._find(wish, ticket)
        if entry is None or entry[_AT] > now + _EARLY_S:
            return False
        self._close(entry, kept=True)
        return True

    def is_due(self, wish: Wish, now: float) -> bool:
        """Say whether who asks for this now, without a ticket, was promised a place by now."""
        entry = self._find(wish, None)
        return entry is not None and entry[_AT] <= now + _EARLY_S

    def flow(self, seconds: float, now: float) -> float:
        """Return the places per second that will be claimed in the `seconds` to come."""
        self.settle(now)
        if not self._by_ticket or seconds <= 0.0:
            return 0.0
        return self.share * self._room.promised(now, now + seconds) / seconds

    def settle(self, now: float) -> None:
        """Give up on those who did not come; amortized, each promise is looked at once."""
        ending = self._ending
        while ending and ending[0][0] < now:
            entry = self._by_ticket.get(heapq.heappop(ending)[2])
            if entry is not None:
                self._close(entry, kept=False)
        self._room.forget(now)

    def _find(self, wish: Wish, ticket: str | None) -> _Entry | None:
        """Return the open promise of this ticket; without one, the wish's earliest."""
        if ticket is not None:
            entry = self._by_ticket.get(ticket)
            if entry is not None and entry[_TENANT] == wish.tenant:
                return entry
        alike = self._by_wish.get(_key(wish))
        return alike[0] if isinstance(alike, list) else alike

    def _open(self, entry: _Entry) -> None:
        at, size, ticket, tenant, key = entry
        self._by_tenant[tenant] += size
        heapq.heappush(self._ending, (at + self._grace_s, self.made, ticket))
        self._by_ticket[ticket] = entry
        alike = self._by_wish.get(key)
        if alike is None:
            self._by_wish[key] = entry
        elif isinstance(alike, list):
            heapq.heappush(alike, entry)
        else:
            self._by_wish[key] = [min(alike, entry), max(alike, entry)]

    def _close(self, entry: _Entry, *, kept: bool) -> None:
        _, size, ticket, tenant, key = entry
        del self._by_ticket[ticket]
        alike = self._by_wish[key]
        if isinstance(alike, list):
            # The first is open always; one that is closed further down waits until it is the first.
            while alike and alike[0][_TICKET] not in self._by_ticket:
                heapq.heappop(alike)
        if alike is entry or not alike:
            del self._by_wish[key]
        self._by_tenant[tenant] -= size
        if not self._by_tenant[tenant]:
            del self._by_tenant[tenant]
        self.redeemed += kept
        self.missed += not kept
        self.share += _NEWEST_SHARE * (kept - self.share)


class _Room:
    """How many places are promised in the time ahead, in stretches of equal length."""

    def __init__(self, share_max: float, horizon_s: float) -> None:
        self._share_max = share_max
        self._stretches_max = math.ceil(horizon_s / _STRETCH_S)
        # The whole mutable state: places promised in each stretch; for each full one the next
        # that may not be, as of the gap they were full at; the stretch that is now.
        self._places: dict[int, float] = {}
        self._next: dict[int, int] = {}
        self._full_gap_s = 0.0
        self._current = 0

    def earliest(self, after: float, until: float, gap_s: float) -> float:
        """Return the earliest moment with room, at least `after`; `until` if there is none."""
        if gap_s < self._full_gap_s * _FASTER:
            self._next.clear()
        if not self._next:
            self._full_gap_s = gap_s
        end = math.ceil(until / _STRETCH_S)
        stretch, passed = math.ceil(after / _STRETCH_S), []
        while stretch < end:
            if stretch in self._next:
                passed.append(stretch)
                stretch = self._next[stretch]
            elif self._places.get(stretch, 0.0) < self._capacity(gap_s) * _FULL:
                break
            else:
                self._next[stretch] = stretch + 1
        for full in passed:
            self._next[full] = stretch
        taken = self._places.get(stretch, 0.0) / self._capacity(gap_s)
        return min(until, (stretch + min(taken, 1.0)) * _STRETCH_S)

    def take(self, at: float, size: int, gap_s: float) -> None:
        """Promise places from a moment on that has room."""
        first, left, capacity = math.floor(at / _STRETCH_S), float(size), self._capacity(gap_s)
        for stretch in range(first, first + self._stretches_max):
            there = self._places.get(stretch, 0.0)
            more = min(left, max(0.0, capacity - there))
            self._places[stretch] = there + more
            left -= more
            if left <= 0.0:
                break

    def promised(self, first: float, last: float) -> float:
        """Return the places promised between two moments."""
        stretches = range(math.ceil(first / _STRETCH_S), math.ceil(last / _STRETCH_S))
        return sum(self._places.get(stretch, 0.0) for stretch in stretches)

    def forget(self, now: float) -> None:
        """Forget what is over."""
        current = math.floor(now / _STRETCH_S)
        if current > self._current:
            for stretches in (self._places, self._next):
                for stretch in [each for each in stretches if each < current]:
                    del stretches[stretch]
        self._current = current

    def _capacity(self, gap_s: float) -> float:
        return self._share_max * _STRETCH_S / gap_s


_STRETCH_S: Final = 0.25
"""A promise is this exact; a short stretch costs little, because full ones are skipped."""
_FASTER: Final = 0.8
"""A gap that has become so much shorter makes it worth to look for room again."""
_FULL: Final = 0.999
"""So nearly full is full: sums of fractions are not exact."""
_DIGEST_KEPT: Final = 16
"""Hexadecimal digits of the wish in a ticket: one of an earlier process fits no other wish."""
_EARLY_S: Final = 0.05
"""How much too early counts as in time: clocks differ, and headers are rounded."""
_NEWEST_SHARE: Final = 0.05
"""Weight of the newest promise: the last twenty or so tell how many are redeemed."""
_SHARE_DOUBT: Final = 0.1
"""How many more than of late may come back; it also bounds what is promised at once."""
_AT: Final = 0
_TICKET: Final = 2
_TENANT: Final = 3
"""Where they stand in an entry."""


def _key(wish: Wish) -> str:
    return f"{wish.digest} {wish.tenant}"
