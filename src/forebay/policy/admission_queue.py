"""Who runs, who waits, and who is turned away.

Theory of operation
-------------------
Every request is in one place: WAITING, RUNNING or GONE, and only moves down that list.
`offer` puts it in, `leave` takes it out from wherever it is, and `settle` makes every
move that has become possible: late tickets go, then those whose turn it is run while there
is room.  Whoever changes something calls `settle` afterwards, so between calls nobody
waits who could run, and nobody waits past its deadline.

Turns.  The classes take turns (`waiting.py`).  Within a class the tenant goes first that was
served least (`fair_share.py`); within a tenant, those who were promised a place, then the
earliest to expire.  Whose turn it is, is never overtaken by a smaller one behind it, or a big
request could wait for ever; one that is larger than the whole limit runs alone.  A request
needs as many places as it has choices (`n`).  While several tenants come, the last places are
kept for those that hold less than their share (`reserve.py`).

The door.  A request that finds room and nobody waiting runs at once: nothing is forecast or
sorted for it.  Any other is forecast; if it would miss its deadline, or keep its class's
reader waiting too long, it is refused at once and told when to come back (`outlook.py`).  If
the queue is full, whoever holds more of it than its share loses its newest ticket to whoever
holds less.  Time in a queue that stands (`standing.py`) is bounded more tightly.

This file decides: time is an argument, nothing is awaited, `serve/admission.py` waits.
That lets `tests/sim` run hours of traffic in seconds.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Final

from forebay.core.errors import DeadlineExceeded, Overloaded, QueueTimeout
from forebay.core.record import Holding
from forebay.core.request import Request
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.fair_share import cost_of
from forebay.policy.forecast import Crowd
from forebay.policy.limit import Limit, sample_of
from forebay.policy.load import Load
from forebay.policy.outlook import Outlook
from forebay.policy.reserve import Reserve
from forebay.policy.step_costs import StepCosts
from forebay.policy.storm import Storm
from forebay.policy.ticket import Place, Ticket
from forebay.policy.waiting import Waiting

_LEARN_S_MIN: Final = 0.005
"""Learning costs 30 us: 200 departures a second teach enough, whatever else departs."""
_LESSONS_MAX: Final = 64.0
"""So many that leave at once are all heard: the first of a batch would tell of itself only."""

_HOPELESS: Final = (
    "The request could not be finished before its deadline even if it had the server to itself. "
    "Give it more time, or ask for fewer tokens."
)
_LATE_RATIO: Final = 1.25
"""How much later than its class's time to first token one may be that was let in to wait."""


class AdmissionQueue:
    """The requests of one lane that run or wait, and the rule by which they move."""

    def __init__(
        self, config: AdmissionConfig, limit: Limit, costs: StepCosts | None = None
    ) -> None:
        """Let `limit` run, and as many wait as `config` says; a step costs `costs`, if known.

        Raises ValueError for tenant weights that cannot be read.
        """
        self._adopt(config)
        # The whole mutable state: what runs, who waits, who was displaced since the last `settle`,
        # and when something was last learned.
        self._running: dict[Ticket, None] = {}
        self._taken = 0
        self._waiting = Waiting(config)
        self._displaced: list[Ticket] = []
        self._learned, self._lessons = 0.0, _LESSONS_MAX
        self._numbers = itertools.count()
        self._limit = limit
        weight = self._waiting.interactive.share.weight
        self._reserve = Reserve(weight, tenants_max=config.tenants_max)
        self.outlook: Final = Outlook(config, costs, limit.current)
        self.storm: Final = Storm(config, self.outlook.promises)

    def reconfigure(self, config: AdmissionConfig) -> None:
        """Hold those who come from now on to what is live in `config`; who waits, waits on."""
        self._adopt(config)
        self._waiting.reconfigure(config)
        self.outlook.reconfigure(config)
        self.storm.reconfigure(config)

    def _adopt(self, config: AdmissionConfig) -> None:
        self._config = config
        self._requests_max = config.requests_max or math.inf
        # What is to end within the longest wait is forecast even where there is room.
        self._hurried_s = config.wait_s_max if config.forecast else 0.0

    @property
    def load(self) -> Load:
        """How full it is now."""
        return Load(
            self._taken,
            len(self._running),
            len(self._waiting),
            self._limit.current,
            self._config.waiting_max,
        )

    def holdings(self) -> Iterator[Holding]:
        """Yield every place that is held or waited for."""
        for ticket in self._running:
            yield ticket.holding("place")
        for ticket in self._waiting:
            yield ticket.holding("waiting")

    def offer(self, request: Request, now: float) -> Ticket:
        """Take a request in, or raise `Overloaded`: a short queue beats a long wait."""
        self._reserve.came(request.tenant, now)
        if (
            not self._waiting
            and self._fits(request.sampling.choices)
            and not self._is_kept(request.sampling.choices, (request.tenant,), now)
            and len(self._running) < self._requests_max
            and request.deadline - now > self._hurried_s
            and not self.outlook.promises
            and not self.outlook.is_behind()
        ):
            ticket = Ticket(request, now, request.deadline)
            self._waiting.line(request).share.serve(request.tenant)
            self._run(ticket, now)
            return ticket
        return self._enter(request, now)

    def leave(self, ticket: Ticket, now: float) -> None:
        """Take a request out, wherever it was and however it ended."""
        if ticket.place is Place.WAITING:
            self._waiting.remove(ticket)
        elif ticket.place is Place.RUNNING:
            taken = self._taken
            del self._running[ticket]
            self._taken -= ticket.size
            self.outlook.began(ticket)
            self._reserve.gave(ticket.request.tenant, ticket.size)
            self._settle_account(ticket)
            self._learn(ticket, taken, now)
        if ticket.place is not Place.GONE:
            ticket.place = Place.GONE
            self.storm.left()
        assert self._taken >= 0

    def began(self, ticket: Ticket) -> None:
        """Note that a request has its first token."""
        self.outlook.began(ticket)

    def settle(self, now: float) -> list[Ticket]:
        """Make every move possible now; return who moved, and who was displaced before."""
        if not self._waiting and not self._displaced:
            return []
        moved, self._displaced = self._displaced, []
        if self._waiting.may_be_late(now):
            moved += self._expire(now)
        while self._waiting:
            ticket = self._next(now)
            if ticket is None or not self._fits(ticket.size):
                break
            self._waiting.take_turn(ticket)
            self._charge(ticket)
            self._run(ticket, now)
            moved.append(ticket)
        return moved

    def expired(self, ticket: Ticket, now: float) -> QueueTimeout | DeadlineExceeded:
        """Return what a request is told that waited in vain."""
        if ticket.request.deadline <= now:
            return DeadlineExceeded("The request's deadline passed while it waited for a place.")
        retry_after_s, name = self._come_back(ticket, now)
        return QueueTimeout(
            "No place came free in time. Try again after the time in Retry-After.",
            retry_after_s=retry_after_s,
            ticket=name,
        )

    def _enter(self, request: Request, now: float) -> Ticket:
        due = min(now + self._config.wait_s_max, request.deadline)
        expires = min(due, now + self._patience_s(request, now))
        ticket = Ticket(request, now, expires, due, next(self._numbers))
        ticket.promised = self.outlook.came_back(ticket, now)
        told = self.storm.expected(ticket, now)
        ticket.expected = told or self.outlook.expect(ticket, self._crowd(ticket, now))
        objection = self.outlook.objection(ticket, now)
        if objection is not None and self.outlook.is_hopeless(ticket, now):
            raise DeadlineExceeded(_HOPELESS)
        if objection is not None:
            raise self._refused(ticket, objection, now)
        if self._is_full(ticket) and not self._displace_for(ticket, now):
            raise self._refused(ticket, self._full(), now)
        if not self._waiting:
            self._charge_running()
        self._waiting.add(ticket, now)
        return ticket

    def _patience_s(self, request: Request, now: float) -> float:
        if not self._waiting.stands(now):
            return math.inf
        ratio = self._config.ttft_ratio
        if self._config.forecast:
            # More than the door expects of anybody, or each error would end a wait: being served
            # a little late is better than having waited in vain.
            ratio = _LATE_RATIO * max(ratio, 1.0)
        return self._config.ttft_s(request.priority) * ratio

    def _crowd(self, ticket: Ticket, now: float) -> Crowd:
        limit = self._limit.current
        kept = self._is_kept(ticket.size, (ticket.request.tenant,), now)
        ahead = 0.0
        if self._waiting:
            cost = self.outlook.cost(ticket.request)
            ahead = self._waiting.places_before(ticket, cost, now)
        return Crowd(
            places=limit - int(limit * self._config.reserve_ratio) if kept else limit,
            taken=self._taken,
            ahead=ahead,
            promised=0.0 if ticket.promised else self.outlook.flow(ticket.request, now),
            backlog=self.outlook.backlog(),
            held_s=self._held_s(int(ahead) + self._taken - limit, now),
        )

    def _held_s(self, before: int, now: float) -> float:
        """Return how long the place is held that comes free after so many others."""
        for ticket in itertools.islice(self._running, max(0, before), None):
            return now - ticket.admitted
        return math.inf

    def _is_full(self, ticket: Ticket) -> bool:
        waiting = len(self._waiting)
        if len(self._running) + waiting >= self._requests_max:
            return True
        free = not waiting and self._fits(ticket.size)
        return waiting >= self._config.waiting_max and not free

    def _displace_for(self, ticket: Ticket, now: float) -> bool:
        """Make room in a full queue for a ticket with a better right to wait, if it has one."""
        found = self._waiting.who_yields_to(ticket)
        if found is None:
            return False
        self._waiting.remove(found)
        found.place = Place.GONE
        found.refusal = self._refusal(found, self._full(), now)
        self._displaced.append(found)
        return True

    def _refused(self, ticket: Ticket, why: str, now: float) -> Overloaded:
        """Return what one is told that does not get in; who is like it will be told the same."""
        refusal = self._refusal(ticket, why, now)
        self.storm.refused(ticket, refusal.message, now)
        return refusal

    def _refusal(self, ticket: Ticket, why: str, now: float) -> Overloaded:
        retry_after_s, name = self._come_back(ticket, now)
        message = why + "Try again after the time in Retry-After."
        return Overloaded(message, retry_after_s=retry_after_s, ticket=name)

    def _full(self) -> str:
        running, waiting = len(self._running), len(self._waiting)
        return f"The server is full: {running} requests run and {waiting} wait. "

    def _come_back(self, ticket: Ticket, now: float) -> tuple[float, str | None]:
        places = self._limit.current
        return self.outlook.come_back(ticket, ahead=len(self._waiting), places=places, now=now)

    def _expire(self, now: float) -> list[Ticket]:
        late = self._waiting.take_late(now)
        for ticket in late:
            ticket.place = Place.GONE
        self.storm.left()
        return late

    def _run(self, ticket: Ticket, now: float) -> None:
        ticket.place = Place.RUNNING
        ticket.admitted = now
        self._running[ticket] = None
        self._taken += ticket.size
        self._reserve.took(ticket.request.tenant, ticket.size)
        ticket.taken = self._taken
        self.outlook.admitted(ticket)

    def _charge_running(self) -> None:
        """Charge those who ran at once: it makes a difference now that somebody waits."""
        for ticket in self._running:
            if not ticket.charge:
                self._charge(ticket)

    def _charge(self, ticket: Ticket) -> None:
        ticket.charge = self.outlook.cost(ticket.request)
        self._waiting.line(ticket.request).share.charge(ticket.request.tenant, ticket.charge)

    def _settle_account(self, ticket: Ticket) -> None:
        """Charge a ticket's tenant what was made; or, for who left early, what was expected."""
        request, finished = ticket.request, ticket.finished
        if finished is not None:
            usage = finished.usage
            cost = cost_of(usage.prompt_tokens, usage.completion_tokens)
        else:
            cost = ticket.charge or self.outlook.cost(request)
        self._waiting.line(request).share.correct(request.tenant, cost - ticket.charge)

    def _learn(self, ticket: Ticket, taken: int, now: float) -> None:
        self.outlook.pace.departed(now, busy=bool(self._running or self._waiting))
        self._lessons = min(_LESSONS_MAX, self._lessons + (now - self._learned) / _LEARN_S_MIN)
        self._learned = now
        if self._lessons < 1.0:
            return
        self._lessons -= 1.0
        self.outlook.departed(ticket, taken=taken, now=now)
        sample = sample_of(ticket, taken)
        if sample is not None:
            self._limit.sample(sample, now)

    def _next(self, now: float) -> Ticket | None:
        """Return whose turn it is; None if places are rather kept for others than given to them."""
        for line in self._waiting.in_turn():
            ticket = line.first()
            if not self._is_kept(ticket.size, line.tenants(), now):
                return ticket
        return None

    def _is_kept(self, size: int, tenants: Iterable[str], now: float) -> bool:
        """Whether the next places are kept for others than these, who are at the door."""
        limit, reserve, config = self._limit.current, self._reserve, self._config
        if self._taken + size <= limit - int(limit * config.reserve_ratio) or not self._taken:
            return False
        if not reserve.shared(now - config.reserve_s):
            return False
        return not any(reserve.entitled(tenant, limit) for tenant in tenants)

    def _fits(self, size: int) -> bool:
        return self._taken + size <= self._limit.current or self._taken == 0
