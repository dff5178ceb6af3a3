"""Seeded hours of traffic through the queue, with its invariants checked after each decision."""

import itertools
import random

import pytest

from forebay.core.errors import DeadlineExceeded, Overloaded
from forebay.core.request import EngineTiming, Finished, Priority, Request, RequestId, Usage
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.limit import AimdLimit
from forebay.policy.ticket import Place, Ticket
from tests.support.requests import a_request
from tests.support.seeds import SEEDS_MIN, seeds

DECISIONS = 1_000
PLACES_MAX, WAITING_MAX, REQUESTS_MAX, TENANTS_MAX = 4, 12, 14, 6


class Flapping(AimdLimit):
    """A limit that goes up and down, as the engine does well or badly."""

    def __init__(self) -> None:
        super().__init__(PLACES_MAX, first_token_s=0.5, tpot_s=1.0)


class Traffic:
    """Random arrivals, departures and time, and what must be true after each."""

    def __init__(self, seed: int, kind: type[AdmissionQueue]) -> None:
        self.dice = random.Random(seed)
        self.config = AdmissionConfig(
            waiting_max=WAITING_MAX,
            requests_max=self.dice.choice((0, REQUESTS_MAX)),
            wait_s_max=5.0,
            standing_s=2.0,
            forecast=self.dice.random() < 0.5,
            batch_overtaken_max=3,
            reserve_ratio=self.dice.choice((0.0, 0.3)),
            reserve_s=5.0,
            tenant_weights="t0=3,t1=0.5",
            tenants_max=TENANTS_MAX,
            promises_max=20,
        )
        self.queue = kind(self.config, Flapping())
        self.now = 0.0
        self.inside: list[Ticket] = []
        self.names = itertools.count()

    def step(self) -> None:
        self.now += self.dice.expovariate(4.0)
        arrived: Ticket | None = None
        if self.inside and self.dice.random() < 0.5:
            self.depart(self.inside.pop(self.dice.randrange(len(self.inside))))
        else:
            arrived = self.arrive()
        waited = [ticket for ticket in self.inside if ticket.place is Place.WAITING]
        displaced = [ticket for ticket in self.inside if ticket.place is Place.GONE]
        moved = self.queue.settle(self.now)
        assert len(moved) == len(set(moved)), "moved twice at once"
        assert {*displaced} <= {*moved}, "somebody lost its place and was never told"
        for ticket in moved:
            self.check_moved(ticket, arrived)
        assert all(ticket in moved for ticket in waited if ticket.place is not Place.WAITING)
        self.inside = [ticket for ticket in self.inside if ticket.place is not Place.GONE]
        self.check()

    def depart(self, ticket: Ticket) -> None:
        if self.dice.random() < 0.7:
            usage = Usage(self.dice.randrange(1, 50), self.dice.randrange(1, 50))
            timing = EngineTiming(first_token_s=self.dice.random(), decode_s=self.dice.random())
            ticket.finished = Finished(usage, timing)
        self.queue.leave(ticket, self.now)
        if self.dice.random() < 0.1:
            self.queue.leave(ticket, self.now)

    def arrive(self) -> Ticket | None:
        before, promises = self.queue.load, len(self.queue.outlook.promises)
        try:
            ticket = self.queue.offer(self.request(), self.now)
        except DeadlineExceeded:
            return None  # hopeless: it held nothing
        except Overloaded as refusal:
            full = before.waiting >= WAITING_MAX or before.running + before.waiting >= REQUESTS_MAX
            assert full or self.config.forecast, "turned away while there was room to wait"
            assert (refusal.retry_after_s or 0.0) >= 0.0, "told to come back in the past"
            return None
        if not (before.waiting or promises or self.config.forecast or self.config.reserve_ratio):
            fits = before.places_taken + ticket.size <= before.places_max or not before.running
            assert fits == (ticket.place is Place.RUNNING), "made to wait where there was room"
        load = self.queue.load
        assert load.waiting <= WAITING_MAX, "more wait than may"
        if self.config.requests_max:
            assert load.running + load.waiting <= REQUESTS_MAX, "more are present than may"
        self.inside.append(ticket)
        return ticket

    def request(self) -> Request:
        return a_request(
            id=RequestId(f"r{next(self.names)}"),
            tenant=f"t{self.dice.choice((0, 0, 0, 0, 0, 1, 1, 2, 3, self.dice.randrange(12)))}",
            choices=self.dice.choice((1, 1, 1, 2, 3, 6)),
            tokens_max=self.dice.choice((None, 1, 30)),
            priority=self.dice.choice(tuple(Priority)),
            received=self.now,
            deadline=self.now + self.dice.choice((0.1, 1.0, 3.0, 100.0)),
        )

    def check_moved(self, ticket: Ticket, arrived: Ticket | None) -> None:
        if ticket.place is Place.RUNNING:
            assert ticket.expires > self.now, "ran although it came too late"
        elif ticket.refusal is not None:
            assert ticket is not arrived, "displaced by itself"
            assert arrived is not None, "displaced by nobody"
            assert not ticket.promised, "a promise was broken"
            assert (ticket.refusal.retry_after_s or 0.0) >= 0.0
        else:
            assert ticket.expires <= self.now, "went although it was in time"

    def check(self) -> None:
        load = self.queue.load
        running = [ticket for ticket in self.inside if ticket.place is Place.RUNNING]
        waiting = [ticket for ticket in self.inside if ticket.place is Place.WAITING]
        assert load.running == len(running), "the count of running requests is wrong"
        assert load.waiting == len(waiting), "the count of waiting requests is wrong"
        taken = sum(ticket.size for ticket in running)
        assert load.places_taken == taken, "places leaked"
        assert taken <= PLACES_MAX or len(running) == 1, "too many run"
        assert all(ticket.expires > self.now for ticket in waiting), "somebody waits too long"
        for line in (self.queue._waiting.interactive, self.queue._waiting.batch):
            assert len(line.share) <= TENANTS_MAX, "too many tenants are remembered"
        assert len(self.queue.outlook.promises) <= 20, "too many promises"
        if self.dice.random() < 0.1:
            self.check_ledger(running, waiting)
        if waiting:
            next_one = self.queue._next(self.now)
            fits = next_one and (taken + next_one.size <= load.places_max or not running)
            assert not fits, "somebody waits who could run"
            assert running, "all wait"

    def check_ledger(self, running: list[Ticket], waiting: list[Ticket]) -> None:
        held = {(holding.owner, holding.kind) for holding in self.queue.holdings()}
        shown = {(ticket.request.id, "place") for ticket in running}
        shown |= {(ticket.request.id, "waiting") for ticket in waiting}
        assert held == shown, "the ledger shows something else"

    def finish(self) -> None:
        for ticket in self.inside:
            self.queue.leave(ticket, self.now)
        load = self.queue.load
        assert (load.running, load.waiting, load.places_taken) == (0, 0, 0), "held at rest"
        assert not [*self.queue.holdings()], "held at rest"


def run(seed: int, kind: type[AdmissionQueue] = AdmissionQueue) -> None:
    traffic = Traffic(seed, kind)
    try:
        for _ in range(DECISIONS):
            traffic.step()
        traffic.finish()
    except AssertionError as broken:
        broken.add_note(f"seed {seed}: repeat it with `make sim SEED={seed}`")
        raise


def test_every_invariant_holds_over_the_seeds() -> None:
    for seed in seeds():
        run(seed)


class ForgetsPlaces(AdmissionQueue):
    """Gives back one place per request, whatever the request took."""

    def leave(self, ticket: Ticket, now: float) -> None:
        was_running = ticket.place is Place.RUNNING
        super().leave(ticket, now)
        if was_running:
            self._taken += ticket.size - 1


class RunsTheLate(AdmissionQueue):
    """Forgets to look at the clock."""

    def settle(self, now: float) -> list[Ticket]:
        return super().settle(0.0)


class ForgetsTheDisplaced(AdmissionQueue):
    """Takes a place in the queue away and tells nobody."""

    def _displace_for(self, ticket: Ticket, now: float) -> bool:
        displaced = super()._displace_for(ticket, now)
        self._displaced.clear()
        return displaced


@pytest.mark.parametrize("kind", [ForgetsPlaces, RunsTheLate, ForgetsTheDisplaced])
def test_a_planted_defect_is_caught(kind: type[AdmissionQueue]) -> None:
    def all_seeds() -> None:
        for seed in range(SEEDS_MIN):
            run(seed, kind)

    with pytest.raises(AssertionError):
        all_seeds()
