"""Seeded hours of traffic through the queue, with its invariants checked after each decision."""

import itertools
import random

import pytest

from forebay.core.errors import Overloaded
from forebay.core.request import Priority, Request
from forebay.policy.admission_queue import AdmissionQueue, Place, Ticket
from tests.support.requests import a_request
from tests.support.seeds import SEEDS_MIN, seeds

DECISIONS = 1_000
PLACES_MAX, WAITING_MAX, WAIT_S_MAX = 4, 8, 5.0


class Traffic:
    """Random arrivals, departures and time, and what must be true after each."""

    def __init__(self, seed: int, queue: AdmissionQueue) -> None:
        self.dice = random.Random(seed)
        self.queue = queue
        self.now = 0.0
        self.inside: list[Ticket] = []
        self.woken: list[int] = []
        self.expected_wakes: set[int] = set()
        self.names = itertools.count()

    def step(self) -> None:
        self.now += self.dice.expovariate(4.0)
        if self.inside and self.dice.random() < 0.5:
            ticket = self.inside.pop(self.dice.randrange(len(self.inside)))
            self.queue.leave(ticket, self.now)
            if self.dice.random() < 0.1:
                self.queue.leave(ticket, self.now)
        else:
            self.arrive()
        moved = self.queue.settle(self.now)
        assert len(moved) == len({id(ticket) for ticket in moved}), "moved twice at once"
        self.inside = [ticket for ticket in self.inside if ticket.place is not Place.GONE]
        self.check()

    def arrive(self) -> None:
        request = self.request()
        before = self.queue.load
        try:
            ticket = self.queue.offer(request, self.now, lambda: None)
        except Overloaded as refusal:
            assert before.waiting >= WAITING_MAX, "turned away while there was room to wait"
            assert (refusal.retry_after_s or 0.0) > 0.0, "turned away for ever"
            return
        assert self.queue.load.waiting <= max(WAITING_MAX, 1), "more wait than may"
        self.inside.append(ticket)

    def request(self) -> Request:
        return a_request(
            choices=self.dice.choice((1, 1, 1, 2, 3, 6)),
            priority=self.dice.choice(tuple(Priority)),
            deadline=self.now + self.dice.choice((0.1, 1.0, 3.0, 100.0)),
        )

    def check(self) -> None:
        load = self.queue.load
        running = [ticket for ticket in self.inside if ticket.place is Place.RUNNING]
        waiting = [ticket for ticket in self.inside if ticket.place is Place.WAITING]
        assert load.running == len(running), "the count of running requests is wrong"
        assert load.waiting == len(waiting), "the count of waiting requests is wrong"
        assert load.places_taken == sum(ticket.size for ticket in running), "places leaked"
        assert load.places_taken <= PLACES_MAX or len(running) == 1, "too many run"
        assert all(ticket.expires > self.now for ticket in waiting), "somebody waits too long"
        if waiting:
            best = min(waiting)
            fits = load.places_taken + best.size <= PLACES_MAX or not running
            assert not fits, "somebody waits who could run"

    def finish(self) -> None:
        for ticket in self.inside:
            self.queue.leave(ticket, self.now)
        load = self.queue.load
        assert (load.running, load.waiting, load.places_taken) == (0, 0, 0), "held at rest"


def run(seed: int, queue: AdmissionQueue) -> None:
    traffic = Traffic(seed, queue)
    try:
        for _ in range(DECISIONS):
            traffic.step()
        traffic.finish()
    except AssertionError as broken:
        broken.add_note(f"seed {seed}: repeat it with `make sim SEED={seed}`")
        raise


def a_queue(kind: type[AdmissionQueue] = AdmissionQueue) -> AdmissionQueue:
    return kind(places_max=PLACES_MAX, waiting_max=WAITING_MAX, wait_s_max=WAIT_S_MAX)


def test_every_invariant_holds_over_the_seeds() -> None:
    for seed in seeds():
        run(seed, a_queue())


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


@pytest.mark.parametrize("kind", [ForgetsPlaces, RunsTheLate])
def test_a_planted_defect_is_caught(kind: type[AdmissionQueue]) -> None:
    def all_seeds() -> None:
        for seed in range(SEEDS_MIN):
            run(seed, a_queue(kind))

    with pytest.raises(AssertionError):
        all_seeds()
