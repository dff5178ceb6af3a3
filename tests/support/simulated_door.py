"""A lane without an engine behind the real door, on a virtual clock.

The batch is that of `simulated_lane.py`: a step makes one token of each sequence, and takes
longer the more of them there are.  Minutes of overload take seconds.
"""

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from forebay.core.errors import Overloaded
from forebay.core.request import EngineTiming, Finished, Priority, Request, RequestId, Usage
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.limit import FixedLimit, Limit
from forebay.policy.ticket import Place, Ticket
from tests.support.requests import a_request
from tests.support.simulated_lane import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Callers of one tenant that come at random, whatever happens to those before them."""

    per_s: float
    tenant: str = "anonymous"
    priority: Priority = Priority.INTERACTIVE
    patience_s: float = 300.0
    """Their deadline, from their arrival."""
    completion_tokens: tuple[int, int] | None = None
    returning: float = 0.0
    """The share of those refused that come back at the moment they are told."""


@dataclass(slots=True, kw_only=True, eq=False)
class Caller:
    """One request, and what became of it."""

    stream: Stream
    request: Request
    prompt_tokens: int
    completion_tokens: int
    back: bool = False
    """It was refused before, and comes back when it was told to."""
    shed: bool = False
    """It was refused unread."""
    outcome: str = "present"
    """`present`, `refused`, `displaced`, `expired` or `served`."""
    ticket: Ticket | None = None
    first: float | None = None
    ended: float | None = None

    @property
    def ttft_s(self) -> float:
        """Seconds from its arrival to its first token; infinite if it got none."""
        return inf if self.first is None else self.first - self.request.received


@dataclass(slots=True, kw_only=True)
class Seen:
    """Everybody who came, and what was true at each moment that matters."""

    callers: list[Caller] = field(default_factory=list)

    def between(self, since: float, until: float, tenant: str | None = None) -> list[Caller]:
        """Return who came in that time."""
        return [
            caller
            for caller in self.callers
            if since <= caller.request.received < until and tenant in {None, caller.request.tenant}
        ]


class SimulatedDoor:
    """The queue, the batch behind it and the callers before it."""

    def __init__(
        self,
        seed: int,
        shape: Shape,
        config: AdmissionConfig | None = None,
        limit: Limit | None = None,
        *,
        shedding: bool = False,
    ) -> None:
        self.dice = random.Random(seed)
        self.shape = shape
        self.queue = AdmissionQueue(config or AdmissionConfig(), limit or FixedLimit(shape.places))
        self.seen = Seen()
        self.now = 0.0
        self.slower = 1.0
        self.shedding = shedding
        self.showing = True
        """Those who come back show their tickets."""
        self._numbers = itertools.count()
        self._steps = 0.0
        self._inside: dict[Ticket, Caller] = {}
        self._work: list[tuple[float, int, Caller, bool]] = []
        self._alarms: list[tuple[float, int, Ticket]] = []
        self._coming: list[tuple[float, int, Caller]] = []

    def run(self, seconds: float, streams: Sequence[Stream]) -> None:
        """Let callers come for so long."""
        until = self.now + seconds
        next_of = [(self.now + self._gap(stream), i) for i, stream in enumerate(streams)]
        heapq.heapify(next_of)
        while True:
            work_at = self._next_work()
            alarm_at = self._alarms[0][0] if self._alarms else inf
            back_at = self._coming[0][0] if self._coming else inf
            arrival_at = next_of[0][0] if next_of else inf
            moment = min(arrival_at, work_at, alarm_at, back_at, until)
            self._pass_until(moment)
            if moment == until:
                return
            if moment == work_at:
                self._end_step()
            elif moment == alarm_at:
                heapq.heappop(self._alarms)
                self._settle()
            elif moment == back_at:
                self._arrive(heapq.heappop(self._coming)[2])
            else:
                stream = streams[next_of[0][1]]
                heapq.heapreplace(next_of, (self.now + self._gap(stream), next_of[0][1]))
                self._arrive(self._a_caller(stream))

    def waiting(self) -> Iterator[Ticket]:
        """Yield who waits."""
        return (ticket for ticket in self._inside if ticket.place is Place.WAITING)

    def _gap(self, stream: Stream) -> float:
        return self.dice.expovariate(stream.per_s)

    def _a_caller(self, stream: Stream) -> Caller:
        number, prompt = next(self._numbers), self.dice.randint(*self.shape.prompt_tokens)
        request = a_request(
            "x" * (4 * prompt),
            id=RequestId(f"r{number}"),
            tenant=stream.tenant,
            priority=stream.priority,
            received=self.now,
            deadline=self.now + stream.patience_s,
            tokens_max=256,
            seed=number,
            body_bytes=4 * prompt + 150,
            body_sign=number + 1,
        )
        tokens = self.dice.randint(*(stream.completion_tokens or self.shape.completion_tokens))
        return Caller(
            stream=stream, request=request, prompt_tokens=prompt, completion_tokens=tokens
        )

    def _arrive(self, caller: Caller) -> None:
        self.seen.callers.append(caller)
        try:
            if self.shedding and caller.request.ticket is None and self.queue.storm.rages(self.now):
                caller.shed = True
                self.queue.storm.shed(caller.request, self.now)
                caller.shed = False
            ticket = self.queue.offer(caller.request, self.now)
        except Overloaded as refusal:
            self._refused(caller, "refused", refusal)
            return
        caller.ticket = ticket
        self._inside[ticket] = caller
        if ticket.place is Place.RUNNING:
            self._start(caller)
        else:
            heapq.heappush(self._alarms, (ticket.expires, next(self._numbers), ticket))
            self._settle()

    def _refused(self, caller: Caller, outcome: str, refusal: Overloaded) -> None:
        caller.outcome = outcome
        if self.dice.random() < caller.stream.returning:
            assert refusal.retry_after_s is not None
            at = self.now + refusal.retry_after_s + self.dice.uniform(0.0, 0.05)
            patience_s = caller.stream.patience_s
            request = replace(
                caller.request,
                received=at,
                deadline=at + patience_s,
                ticket=refusal.ticket if self.showing else None,
            )
            again = replace(
                caller,
                request=request,
                back=True,
                shed=False,
                outcome="present",
                ticket=None,
                first=None,
            )
            heapq.heappush(self._coming, (at, next(self._numbers), again))

    def _settle(self) -> None:
        for ticket in self.queue.settle(self.now):
            caller = self._inside[ticket]
            if ticket.place is Place.RUNNING:
                self._start(caller)
                continue
            del self._inside[ticket]
            if ticket.refusal is not None:
                self._refused(caller, "displaced", ticket.refusal)
            else:
                caller.outcome = "expired"

    def _start(self, caller: Caller) -> None:
        prefill = 1 + caller.prompt_tokens / self.shape.prompt_tokens_per_step
        entry = (self._steps + prefill, next(self._numbers), caller, False)
        heapq.heappush(self._work, entry)

    def _step_s(self) -> float:
        running = self.queue.load.places_taken
        return self.slower * self.shape.seconds_per_step(running)

    def _next_work(self) -> float:
        if not self._work:
            return inf
        return self.now + max(0.0, self._work[0][0] - self._steps) * self._step_s()

    def _pass_until(self, moment: float) -> None:
        if self._work:
            self._steps += (moment - self.now) / self._step_s()
        self.now = moment

    def _end_step(self) -> None:
        self._steps, _, caller, ended = heapq.heappop(self._work)
        if not ended:
            self._first(caller)
            end = self._steps + caller.completion_tokens - 1
            heapq.heappush(self._work, (end, next(self._numbers), caller, True))
            return
        self._served(caller)

    def _first(self, caller: Caller) -> None:
        """Note that a caller has its first token."""
        caller.first = self.now
        assert caller.ticket is not None
        self.queue.began(caller.ticket)

    def _served(self, caller: Caller) -> None:
        """Let a caller go whose last token is made; whose turn it is now, runs."""
        ticket = caller.ticket
        assert ticket is not None
        assert caller.first is not None
        caller.ended, caller.outcome = self.now, "served"
        ticket.finished = Finished(
            Usage(caller.prompt_tokens, caller.completion_tokens),
            EngineTiming(
                first_token_s=caller.first - ticket.admitted, decode_s=self.now - caller.first
            ),
        )
        del self._inside[ticket]
        self.queue.leave(ticket, self.now)
        self._settle()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
