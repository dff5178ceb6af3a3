from typing import Any

import pytest

from forebay.core.errors import DeadlineExceeded, Overloaded
from forebay.core.request import EngineTiming, Finished, Priority, Usage
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.limit import FixedLimit
from forebay.policy.ticket import Place, Ticket
from tests.support.requests import a_request


def a_queue(places_max: int = 1, **knobs: Any) -> AdmissionQueue:
    """A queue that forecasts nothing, unless it is told to."""
    knobs = {"waiting_max": 2, "wait_s_max": 10.0, "forecast": False} | knobs
    return AdmissionQueue(AdmissionConfig(**knobs), FixedLimit(places_max))


def enter(queue: AdmissionQueue, now: float = 0.0, **facts: Any) -> Ticket:
    ticket = queue.offer(a_request(**facts), now)
    queue.settle(now)
    return ticket


def retry_after_s(queue: AdmissionQueue) -> float:
    """What somebody would be told who is refused now."""
    somebody = Ticket(a_request(), 0.0, 1.0)
    return queue.outlook.come_back(somebody, ahead=queue.load.waiting, places=1, now=0.0)[0]


def test_the_first_runs_and_the_next_waits() -> None:
    queue = a_queue()
    first, second = enter(queue), enter(queue)
    assert (first.place, second.place) == (Place.RUNNING, Place.WAITING)


def test_who_leaves_makes_room_for_who_waits() -> None:
    queue = a_queue()
    first, second = enter(queue), enter(queue)
    queue.leave(first, 1.0)
    assert queue.settle(1.0) == [second]
    assert second.place is Place.RUNNING


def test_a_full_queue_turns_away_and_says_when_to_return() -> None:
    queue = a_queue(places_max=1, waiting_max=1)
    enter(queue)
    enter(queue)
    with pytest.raises(Overloaded) as turned_away:
        enter(queue)
    assert turned_away.value.retry_after_s is not None
    assert turned_away.value.retry_after_s > 0.0


def test_what_could_not_be_done_in_time_by_an_idle_server_is_told_so_and_promised_nothing() -> None:
    queue = a_queue(places_max=4, forecast=True)
    for now in range(20):
        ticket = enter(queue, float(now), deadline=100.0)
        timing = EngineTiming(first_token_s=0.1, decode_s=0.8)
        ticket.finished = Finished(Usage(5, 9), timing)
        queue.leave(ticket, now + 0.9)
    with pytest.raises(DeadlineExceeded, match="even if it had the server to itself"):
        enter(queue, 30.0, received=30.0, deadline=30.01)
    assert queue.outlook.promises.made == 0
    assert enter(queue, 30.0, received=30.0, deadline=32.0).place is Place.RUNNING


def test_with_no_waiting_allowed_a_free_place_still_takes_one() -> None:
    queue = a_queue(places_max=1, waiting_max=0)
    assert enter(queue).place is Place.RUNNING
    with pytest.raises(Overloaded):
        enter(queue)


def test_a_ticket_past_its_deadline_never_runs() -> None:
    queue = a_queue(wait_s_max=10.0)
    first = enter(queue)
    late = enter(queue, deadline=5.0)
    queue.leave(first, 6.0)
    assert queue.settle(6.0) == [late]
    assert late.place is Place.GONE


def test_the_longest_wait_bounds_a_later_deadline() -> None:
    queue = a_queue(wait_s_max=3.0)
    enter(queue)
    assert enter(queue, deadline=100.0).expires == 3.0


def test_interactive_runs_before_batch_that_came_first() -> None:
    queue = a_queue()
    first = enter(queue)
    batch = enter(queue, priority=Priority.BATCH)
    interactive = enter(queue, priority=Priority.INTERACTIVE)
    queue.leave(first, 1.0)
    queue.settle(1.0)
    assert (interactive.place, batch.place) == (Place.RUNNING, Place.WAITING)


def test_a_request_takes_a_place_for_each_choice() -> None:
    queue = a_queue(places_max=4)
    enter(queue, choices=3)
    assert enter(queue, choices=2).place is Place.WAITING
    assert queue.load.places_taken == 3


def test_a_small_request_does_not_overtake_a_big_one() -> None:
    queue = a_queue(places_max=4)
    enter(queue, choices=3)
    big, small = enter(queue, choices=4), enter(queue, choices=1)
    assert (big.place, small.place) == (Place.WAITING, Place.WAITING)


def test_a_request_larger_than_the_limit_runs_alone() -> None:
    queue = a_queue(places_max=2)
    first = enter(queue)
    huge = enter(queue, choices=5)
    queue.leave(first, 1.0)
    queue.settle(1.0)
    assert huge.place is Place.RUNNING
    assert enter(queue).place is Place.WAITING


def test_leaving_twice_gives_back_once() -> None:
    queue = a_queue()
    ticket = enter(queue)
    queue.leave(ticket, 1.0)
    queue.leave(ticket, 1.0)
    assert (queue.load.running, queue.load.places_taken) == (0, 0)


def test_the_time_to_return_follows_the_pace_of_departures() -> None:
    queue = a_queue(places_max=2, waiting_max=4, wait_s_max=30.0)
    tickets = [enter(queue) for _ in range(6)]
    for second, ticket in enumerate(tickets[:4]):
        queue.leave(ticket, float(second))
        queue.settle(float(second))
    # One departs each second, and two still run: with nobody waiting, one departure is awaited.
    assert retry_after_s(queue) == pytest.approx(1.0)


def test_the_pace_of_a_single_place_is_learned_while_others_wait() -> None:
    queue = a_queue(places_max=1, waiting_max=4, wait_s_max=30.0)
    tickets = [enter(queue) for _ in range(5)]
    for second, ticket in enumerate(tickets[:4]):
        queue.leave(ticket, float(second))
        queue.settle(float(second))
    assert retry_after_s(queue) == pytest.approx(1.0)


def test_idle_time_does_not_slow_the_pace() -> None:
    queue = a_queue(places_max=2)
    for start in (0.0, 1000.0):
        first, second = enter(queue, start), enter(queue, start)
        queue.leave(first, start + 1.0)
        queue.leave(second, start + 2.0)
    assert retry_after_s(queue) == pytest.approx(1.0)


def test_new_settings_hold_for_those_who_come_after() -> None:
    queue = a_queue(places_max=1, waiting_max=1, wait_s_max=10.0)
    enter(queue)
    waits = enter(queue)
    queue.reconfigure(AdmissionConfig(waiting_max=2, wait_s_max=3.0, forecast=False))
    assert enter(queue).expires == 3.0
    assert (waits.place, waits.expires) == (Place.WAITING, 10.0)
    queue.reconfigure(AdmissionConfig(requests_max=3, wait_s_max=3.0, forecast=False))
    with pytest.raises(Overloaded):
        enter(queue)


def test_a_forecast_can_be_switched_on_and_off() -> None:
    queue = a_queue()
    assert queue.outlook._foresees is False
    queue.reconfigure(AdmissionConfig(forecast=True))
    assert queue.outlook._foresees is True
