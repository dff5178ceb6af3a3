"""Who runs, who waits, and who is turned away.

Theory of operation
-------------------
Every request is in one place: WAITING, RUNNING or GONE, and only moves down that list.
`offer` puts it in, `leave` takes it out from wherever it is, and `settle` makes every
move that has become possible: late tickets go, then the best-ranked ones run while there
is room.  Whoever changes something calls `settle` afterwards, so between calls nobody
waits who could run, and nobody waits past its deadline.

A request needs as many places as it has choices (`n`), because each choice is a sequence
in the engine.  The best-ranked ticket is never overtaken by a smaller one behind it, or a
big request could wait for ever; one that is larger than the whole limit runs alone.

This file decides: time is an argument, nothing is awaited, `serve/admission.py` waits.
That lets `tests/sim` run hours of traffic in seconds.
"""

import bisect
import enum
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from forebay.core.errors import Overloaded
from forebay.core.request import Request
from forebay.policy.pace import Pace


class Place(enum.Enum):
    """Where a request is.  It only moves down this list."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    GONE = enum.auto()


@dataclass(order=True, slots=True, kw_only=True)
class Ticket:
    """A request's place in the queue, ordered by `rank`; the rest is cargo."""

    rank: tuple[int, float, int]
    size: int = field(compare=False)
    expires: float = field(compare=False)
    wake: Callable[[], None] = field(compare=False)
    place: Place = field(compare=False, default=Place.WAITING)
    ttft_forecast_s: float | None = field(compare=False, default=None)
    """Expected time to first token when it was taken in, from its receipt, seconds."""


@dataclass(frozen=True, slots=True)
class Load:
    """How full a lane is: places taken, requests running and waiting, and the limits."""

    places_taken: int
    running: int
    waiting: int
    places_max: int
    waiting_max: int


class AdmissionQueue:
    """The requests of one lane that run or wait, and the rule by which they move."""

    def __init__(self, *, places_max: int, waiting_max: int, wait_s_max: float) -> None:
        """Bound the sequences that run, the requests that wait, and the seconds they wait."""
        assert places_max >= 1
        assert waiting_max >= 0
        self._places_max = places_max
        self._waiting_max = waiting_max
        self._wait_s_max = wait_s_max
        # The whole mutable state: what runs, who waits (sorted by rank), and the pace.
        self._taken = 0
        self._running = 0
        self._waiting: list[Ticket] = []
        self._pace = Pace()
        self._arrivals = itertools.count()

    @property
    def load(self) -> Load:
        """How full it is now."""
        return Load(
            self._taken, self._running, len(self._waiting), self._places_max, self._waiting_max
        )

    def offer(self, request: Request, now: float, wake: Callable[[], None]) -> Ticket:
        """Take a request in, or raise `Overloaded`: a short queue beats a long wait."""
        size = request.sampling.choices
        if len(self._waiting) >= self._waiting_max and (self._waiting or not self._fits(size)):
            raise Overloaded(
                f"The server is full: {self._running} requests run and {len(self._waiting)} wait. "
                "Try again after the time in Retry-After.",
                retry_after_s=self.retry_after_s(),
            )
        expires = min(now + self._wait_s_max, request.deadline)
        rank = (request.priority.value, expires, next(self._arrivals))
        ticket = Ticket(rank=rank, size=size, expires=expires, wake=wake)
        bisect.insort(self._waiting, ticket)
        return ticket

    def leave(self, ticket: Ticket, now: float) -> None:
        """Take a request out, wherever it was and however it ended."""
        if ticket.place is Place.WAITING:
            self._waiting.remove(ticket)
        elif ticket.place is Place.RUNNING:
            self._running -= 1
            self._taken -= ticket.size
            self._pace.departed(now, busy=bool(self._running or self._waiting))
        ticket.place = Place.GONE
        assert self._running >= 0
        assert self._taken >= 0

    def settle(self, now: float) -> list[Ticket]:
        """Make every move possible now; return who moved.  Linear in `waiting_max`, our limit."""
        if not self._waiting:
            return []
        moved = [ticket for ticket in self._waiting if ticket.expires <= now]
        if moved:
            self._waiting = [ticket for ticket in self._waiting if ticket.expires > now]
        for ticket in moved:
            ticket.place = Place.GONE
        admitted = 0
        for ticket in self._waiting:
            if not self._fits(ticket.size):
                break
            ticket.place = Place.RUNNING
            self._running += 1
            self._taken += ticket.size
            admitted += 1
        moved += self._waiting[:admitted]
        del self._waiting[:admitted]
        return moved

    def retry_after_s(self) -> float:
        """Seconds until those who wait now will have gone, at the pace of late."""
        ahead = len(self._waiting) + 1
        return self._pace.until_departures(ahead, unknown_s=self._wait_s_max)

    def _fits(self, size: int) -> bool:
        return self._taken + size <= self._places_max or self._taken == 0
