"""A lane without an engine: a batch whose speed depends on its size, and a door before it.

Discrete events on a virtual clock, so that minutes of overload take a fraction of a second.
The door is the simplest that uses a forecast: first come first served, those who come back
for their promise before the others.
"""

import heapq
import itertools
import random
from collections import deque
from dataclasses import dataclass, field

from forebay.policy.forecast import Crowd, Departure, Expectation, Forecast, Work
from forebay.policy.promises import Offer, PromiseBook, Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the lane and its traffic are like; seconds and tokens."""

    places: int = 16
    step_s: float = 0.008
    """Seconds of a step with one sequence."""
    step_more_s: float = 0.001
    """What each further sequence adds to a step."""
    prompt_tokens: tuple[int, int] = (50, 400)
    prompt_tokens_per_step: int = 40
    one_prompt_at_a_time: bool = False
    """A prompt waits for those before it, as in an engine; otherwise all are read at once."""
    completion_tokens: tuple[int, int] = (10, 120)
    ttft_s: float = 2.0
    """A fresh arrival that is expected to wait longer for its first token is refused."""
    margin: float = 0.7
    waiting_max: int = 1000
    returning: float = 1.0
    """The share of those refused that come back at the promised moment."""
    late_s: float = 0.05
    """They come up to this much late."""
    showing: bool = True
    """They show their ticket."""

    def capacity(self) -> float:
        """Return requests per second with every place taken."""
        steps = sum(self.completion_tokens) / 2
        steps += sum(self.prompt_tokens) / 2 / self.prompt_tokens_per_step
        return self.places / (steps * self.seconds_per_step(self.places))

    def seconds_per_step(self, running: int) -> float:
        """Return how long a step of so many sequences takes."""
        return self.step_s + self.step_more_s * max(0, running - 1)


@dataclass(slots=True, kw_only=True, eq=False)
class Caller:
    """One request on its way, and what became of it."""

    number: int
    prompt_tokens: int
    completion_tokens: int
    arrived: float
    ticket: str | None = None
    promised: bool = False
    """It came back because of a promise."""
    kept: bool = False
    """It was let in because of it."""
    expected: Expectation | None = None
    admitted: float = 0.0
    taken: int = 0
    backlog: float = 0.0
    first: float | None = None

    @property
    def ttft_s(self) -> float | None:
        """Seconds from its arrival to its first token; None if it got none."""
        return None if self.first is None else self.first - self.arrived


@dataclass(slots=True, kw_only=True)
class Seen:
    """What happened: what the tests judge."""

    served: list[Caller] = field(default_factory=list)
    returned: list[Caller] = field(default_factory=list)
    refused: int = 0
    expired: int = 0
    """Were let in to wait, and waited longer than their first token may take."""

    def errors_s(self, since: float) -> list[float]:
        """Return actual minus expected time to first token of those admitted, sorted by size."""
        found = [
            caller.ttft_s - caller.expected.ttft_s
            for caller in self.served
            if caller.arrived >= since and caller.expected and caller.ttft_s is not None
        ]
        return sorted(found, key=abs)

    def good_per_s(self, since: float, until: float, ttft_s: float) -> float:
        """Return requests per second whose first token came in time."""
        good = [
            caller
            for caller in self.served
            if caller.ttft_s is not None
            and caller.ttft_s <= ttft_s
            and caller.first is not None
            and since <= caller.first < until
        ]
        return len(good) / (until - since)

    def kept(self, since: float, until: float, ttft_s: float) -> float:
        """Return the share of those who came back in time and had their first token in time."""
        back = [caller for caller in self.returned if since <= caller.arrived < until]
        good = [c for c in back if c.ttft_s is not None and c.ttft_s <= ttft_s]
        return len(good) / len(back) if back else 0.0


class SimulatedLane:
    """The lane, its door and its callers on one virtual clock."""

    def __init__(
        self, seed: int, shape: Shape, book: PromiseBook, forecast: Forecast | None = None
    ) -> None:
        self.dice = random.Random(seed)
        self.shape = shape
        self.book = book
        self.forecast = forecast or Forecast()
        self.seen = Seen()
        self.now = 0.0
        self.slower = 1.0
        self._numbers = itertools.count()
        self._steps = 0.0  # steps made since the beginning: the batch's own time
        self._running = 0
        self._read_until = 0.0  # the step at which all prompts are read
        self._work: list[tuple[float, int, Caller, bool]] = []  # by step: first token or end
        self._coming: list[tuple[float, int, Caller]] = []
        self._back: deque[Caller] = deque()
        self._fresh: deque[Caller] = deque()

    def run(self, seconds: float, load: float) -> None:
        """Let callers come at `load` times the capacity for so long."""
        rate, until = load * self.shape.capacity(), self.now + seconds
        next_arrival = self.now + self.dice.expovariate(rate)
        while True:
            work_at = self._next_work()
            back_at = self._coming[0][0] if self._coming else float("inf")
            moment = min(next_arrival, work_at, back_at, until)
            self._pass_until(moment)
            if moment == until:
                return
            if moment == work_at:
                self._end_step()
            elif moment == back_at:
                self._arrive(heapq.heappop(self._coming)[2])
            else:
                self._arrive(self._a_caller())
                next_arrival = self.now + self.dice.expovariate(rate)

    def _a_caller(self) -> Caller:
        shape = self.shape
        return Caller(
            number=next(self._numbers),
            prompt_tokens=self.dice.randint(*shape.prompt_tokens),
            completion_tokens=self.dice.randint(*shape.completion_tokens),
            arrived=self.now,
        )

    def _step_s(self) -> float:
        return self.slower * self.shape.seconds_per_step(self._running)

    def _next_work(self) -> float:
        if not self._work:
            return float("inf")
        return self.now + max(0.0, self._work[0][0] - self._steps) * self._step_s()

    def _pass_until(self, moment: float) -> None:
        if self._running:
            self._steps += (moment - self.now) / self._step_s()
        self.now = moment

    def _end_step(self) -> None:
        self._steps, _, caller, ended = heapq.heappop(self._work)
        if not ended:
            caller.first = self.now
            self.forecast.begun(caller.prompt_tokens)
            more = (self._steps + caller.completion_tokens - 1, caller.number, caller, True)
            heapq.heappush(self._work, more)
            return
        assert caller.first is not None
        self._running -= 1
        departure = Departure(
            held_s=self.now - caller.admitted,
            taken=(self._running + 1 + caller.taken) / 2,
            prompt_bytes=caller.prompt_tokens * 4,
            prompt_tokens=caller.prompt_tokens,
            completion_tokens=caller.completion_tokens,
            tokens_max=256,
            backlog=caller.backlog,
            first_token_s=caller.first - caller.admitted,
            decode_s=self.now - caller.first,
        )
        self.forecast.learn(departure)
        self.seen.served.append(caller)
        self._settle()

    def _arrive(self, caller: Caller) -> None:
        wish = Wish("tenant", f"{caller.number:064x}")
        if self.book:
            caller.kept = self.book.redeem(wish, self.now, ticket=caller.ticket)
        if caller.promised:
            self.seen.returned.append(caller)
        caller.expected = expected = self._expect(caller)
        waiting = len(self._back) + len(self._fresh)
        limit_s = self.shape.ttft_s * self.shape.margin
        hopeless = expected is not None and self._running > 0 and expected.ttft_s > limit_s
        if not caller.kept and (hopeless or waiting >= self.shape.waiting_max):
            self._refuse(caller, wish)
            return
        (self._back if caller.kept else self._fresh).append(caller)
        self._settle()

    def _expect(self, caller: Caller) -> Expectation | None:
        ahead = len(self._back) + (0 if caller.kept else len(self._fresh))
        promised = 0.0 if caller.kept else self.book.flow(self.shape.ttft_s, self.now)
        crowd = Crowd(
            places=self.shape.places,
            taken=self._running,
            ahead=ahead,
            promised=promised,
            backlog=self.forecast.backlog,
        )
        work = Work(prompt_tokens=caller.prompt_tokens, tokens_max=256)
        return self.forecast.expect(work, crowd)

    def _refuse(self, caller: Caller, wish: Wish) -> None:
        self.seen.refused += 1
        wait_s = caller.expected.wait_s if caller.expected else 1.0
        gap_s = self.forecast.safe_gap_s(self.shape.places) or 0.1
        offer = Offer(wait_s=wait_s, gap_s=gap_s)
        promise = self.book.promise(wish, offer, self.now, ticket=caller.ticket)
        if promise.ticket is None:
            return
        if self.dice.random() < self.shape.returning:
            again = Caller(
                number=caller.number,
                prompt_tokens=caller.prompt_tokens,
                completion_tokens=caller.completion_tokens,
                arrived=promise.at + self.dice.uniform(0.0, self.shape.late_s),
                ticket=promise.ticket if self.shape.showing else None,
                promised=True,
            )
            heapq.heappush(self._coming, (again.arrived, again.number, again))

    def _settle(self) -> None:
        while self._running < self.shape.places and (self._back or self._fresh):
            caller = (self._back or self._fresh).popleft()
            if not caller.kept and self.now - caller.arrived > self.shape.ttft_s:
                self.seen.expired += 1
                continue
            self._running += 1
            caller.admitted, caller.taken = self.now, self._running
            caller.backlog = self.forecast.begin(caller.prompt_tokens)
            heapq.heappush(self._work, (self._first_step(caller), caller.number, caller, False))

    def _first_step(self, caller: Caller) -> float:
        """Return the step that makes a caller's first token."""
        reading = caller.prompt_tokens / self.shape.prompt_tokens_per_step
        if not self.shape.one_prompt_at_a_time:
            return self._steps + 1 + reading
        self._read_until = max(self._read_until, self._steps) + reading
        return self._read_until + 1
