"""A `Retry-After` that holds: the queue of those who were sent away.

Theory of operation
-------------------
Who is refused is told a moment.  Moments are handed out one behind the other, at the pace at
which places come free, so no stretch of time is promised more than the lane can serve; a
share of the pace is left to those who come unpromised.  Who comes back at its moment, or a
little later, is let in ahead of fresh arrivals.  Who comes too early is told the same moment
again.  Who does not come by `grace_s` later has lost it.

A promise goes OPEN -> REDEEMED or OPEN -> MISSED, once.  It is found again by its ticket,
or by who asked for what: (tenant, digest).  The learned share of promises that are redeemed
says how much of the promised work fresh arrivals must reckon with: nobody idles for those
who never come back.
"""

import bisect
import enum
from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple


class Wish(NamedTuple):
    """Who asked, and for what (`core.request.digest`)."""

    tenant: str
    digest: str


class _State(enum.Enum):
    OPEN = enum.auto()
    REDEEMED = enum.auto()
    MISSED = enum.auto()


@dataclass(slots=True, kw_only=True, eq=False)
class _Entry:
    """A promise in the book; `total` is all the work promised up to and including it."""

    at: float
    size: int
    total: int
    ticket: str
    wish: Wish
    state: _State = _State.OPEN


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
    """The promises of one lane, in the order of their moments."""

    def __init__(
        self, *, promises_max: int, grace_s: float, horizon_s: float, share_max: float
    ) -> None:
        """Bound how many are kept, how late one may come, and how far off a moment may be.

        `share_max` is the share of the lane's pace that may be promised, above 0, at most 1.
        """
        assert promises_max >= 0
        assert 0.0 < share_max <= 1.0
        self._promises_max = promises_max
        self._grace_s = grace_s
        self._horizon_s = horizon_s
        self._share_max = share_max
        # The whole mutable state.  `_line` is ordered by moment; what lies before `_head` is
        # done with, and cut off now and then.  Both maps hold OPEN promises only.  `share` is the
        # learned share of promises that are redeemed: all, as long as nothing is known.
        self._line: list[_Entry] = []
        self._head = 0
        self._by_ticket: dict[str, _Entry] = {}
        self._by_wish: dict[Wish, deque[_Entry]] = {}
        self._end = -1.0
        self._total = 0
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
        early = self._find(wish, ticket) if ticket is not None else None
        if early is not None and early.at > now:
            return Promise(at=early.at, ticket=early.ticket)
        gap_s = offer.gap_s * offer.size / self._share_max
        at = max(now + offer.wait_s, self._end + gap_s)
        if at > now + self._horizon_s or len(self._line) - self._head >= self._promises_max:
            return Promise(at=min(at, now + self._horizon_s), ticket=None)
        self._end = at
        self._total += offer.size
        self.made += 1
        name = f"{self.made:x}-{wish.digest[:_DIGEST_KEPT]}"
        entry = _Entry(at=at, size=offer.size, total=self._total, ticket=name, wish=wish)
        self._line.append(entry)
        self._by_ticket[name] = entry
        self._by_wish.setdefault(wish, deque()).append(entry)
        return Promise(at=at, ticket=name)

    def redeem(self, wish: Wish, now: float, *, ticket: str | None = None) -> bool:
        """Say whether this request comes back at its moment; a promise serves once."""
        self.settle(now)
        entry = self._find(wish, ticket)
        if entry is None or entry.at > now + _EARLY_S:
            return False
        self._close(entry, _State.REDEEMED)
        return True

    def flow(self, seconds: float, now: float) -> float:
        """Return the places per second that will be claimed in the `seconds` to come."""
        self.settle(now)
        if not self._by_ticket or seconds <= 0.0:
            return 0.0
        # Who is due within a blink may have come already.
        first = bisect.bisect_right(self._line, now + _EARLY_S, lo=self._head, key=_moment)
        last = bisect.bisect_right(self._line, now + seconds, lo=first, key=_moment)
        if first == last:
            return 0.0
        begun = self._line[first].total - self._line[first].size
        return self.share * (self._line[last - 1].total - begun) / seconds

    def settle(self, now: float) -> None:
        """Give up on those who did not come; amortized, each promise is looked at once."""
        line, head = self._line, self._head
        while head < len(line) and line[head].at + self._grace_s < now:
            if line[head].state is _State.OPEN:
                self._close(line[head], _State.MISSED)
            head += 1
        if head > _DONE_KEPT and head * 2 > len(line):
            del line[:head]
            head = 0
        self._head = head

    def _find(self, wish: Wish, ticket: str | None) -> _Entry | None:
        """Return the open promise of this ticket; without one, the wish's earliest."""
        if ticket is not None:
            entry = self._by_ticket.get(ticket)
            if entry is not None and entry.wish.tenant == wish.tenant:
                return entry
        waiting = self._by_wish.get(wish)
        return waiting[0] if waiting else None

    def _close(self, entry: _Entry, state: _State) -> None:
        assert entry.state is _State.OPEN, "a promise ends once"
        entry.state = state
        del self._by_ticket[entry.ticket]
        waiting = self._by_wish[entry.wish]
        waiting.remove(entry)
        if not waiting:
            del self._by_wish[entry.wish]
        kept = state is _State.REDEEMED
        self.redeemed += kept
        self.missed += not kept
        self.share += _NEWEST_SHARE * (kept - self.share)


_DIGEST_KEPT: Final = 16
"""Hexadecimal digits of the wish in a ticket: one of an earlier process fits no other wish."""
_EARLY_S: Final = 0.05
"""How much too early counts as in time: clocks differ, and headers are rounded."""
_NEWEST_SHARE: Final = 0.05
"""Weight of the newest promise: the last twenty or so tell how many are redeemed."""
_DONE_KEPT: Final = 1024
"""Entries done with that may stay at the line's head until they are cut off together."""


def _moment(entry: _Entry) -> float:
    return entry.at
