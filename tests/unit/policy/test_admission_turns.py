"""Who has the better right to run, to wait, and to be let in: classes, tenants and promises."""

from typing import Any

import pytest

from forebay.core.errors import Overloaded, QueueTimeout
from forebay.core.request import EngineTiming, Finished, Priority, Usage
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.forecast import Crowd, Expectation
from forebay.policy.limit import FixedLimit
from forebay.policy.ticket import Place, Ticket
from tests.support.requests import a_request


def a_queue(places_max: int = 1, **knobs: Any) -> AdmissionQueue:
    knobs = {"forecast": False, "credit_tokens": 0} | knobs
    return AdmissionQueue(AdmissionConfig(**knobs), FixedLimit(places_max))


def enter(queue: AdmissionQueue, now: float = 0.0, **facts: Any) -> Ticket:
    ticket = queue.offer(a_request(**facts), now)
    queue.settle(now)
    return ticket


def serve(queue: AdmissionQueue, ticket: Ticket, now: float, tokens: int = 10) -> list[Ticket]:
    """End a request that runs; return who moved."""
    timing = EngineTiming(first_token_s=0.1, decode_s=0.9)
    ticket.finished = Finished(Usage(prompt_tokens=4, completion_tokens=tokens), timing)
    queue.leave(ticket, now)
    return queue.settle(now)


def practised(places_max: int = 1, **knobs: Any) -> AdmissionQueue:
    """A queue with a forecast: each request held a place for a second."""
    queue = a_queue(places_max, forecast=True, **knobs)
    for second in range(20):
        ticket = queue.offer(a_request(f"practice {second}"), float(second))
        serve(queue, ticket, second + 1.0)
    return queue


def refused(queue: AdmissionQueue, text: str, now: float, **facts: Any) -> Overloaded:
    with pytest.raises(Overloaded) as refusal:
        queue.offer(a_request(text, received=now, **facts), now)
    return refusal.value


def test_tenants_take_turns_however_many_one_of_them_sent() -> None:
    queue = a_queue()
    running = enter(queue, tenant="noisy")
    noisy = [enter(queue, tenant="noisy") for _ in range(5)]
    quiet = enter(queue, tenant="quiet")
    ran = []
    for second in range(1, 4):
        running = serve(queue, running, float(second))[0]
        ran.append(running)
    assert quiet in ran[:2]
    assert noisy[0] in ran


def test_a_tenant_is_charged_what_was_made_not_what_was_expected() -> None:
    queue = a_queue()
    running = enter(queue, tenant="a")
    enter(queue, tenant="a")
    enter(queue, tenant="b")
    first = serve(queue, running, 1.0)[0]
    # However little the first one costs, the other tenant is next; after a very long one it is
    # next for several turns.
    second = serve(queue, first, 2.0, tokens=1_000)[0]
    long_one = first.request.tenant
    other = second.request.tenant
    assert other != long_one
    for second_of in range(3, 6):
        enter(queue, tenant=other)
        enter(queue, tenant=long_one)
        second = serve(queue, second, float(second_of))[0]
        assert second.request.tenant == other


def test_who_leaves_before_the_end_pays_what_was_expected() -> None:
    queue = a_queue(places_max=1)
    running = enter(queue, tenant="c")
    leaver = enter(queue, tenant="a")
    queue.leave(running, 1.0)
    queue.settle(1.0)
    assert leaver.place is Place.RUNNING
    enter(queue, 1.0, tenant="a")
    other = enter(queue, 1.0, tenant="b")
    queue.leave(leaver, 2.0)
    assert queue.settle(2.0) == [other]


def test_after_so_many_interactive_ones_a_batch_one_has_its_turn() -> None:
    queue = a_queue(batch_overtaken_max=3)
    running = enter(queue)
    batch = enter(queue, priority=Priority.BATCH)
    for _ in range(6):
        enter(queue)
    order = []
    for second in range(1, 6):
        running = serve(queue, running, float(second))[0]
        order.append(running is batch)
    assert order == [False, False, False, True, False]


def test_a_new_number_of_turns_holds_for_those_who_wait_already() -> None:
    knobs: dict[str, Any] = {"forecast": False, "credit_tokens": 0}
    queue = a_queue(batch_overtaken_max=9)
    running = enter(queue)
    batch = enter(queue, priority=Priority.BATCH)
    first, _ = enter(queue), enter(queue)
    assert serve(queue, running, 1.0) == [first]
    queue.reconfigure(AdmissionConfig(batch_overtaken_max=1, **knobs))
    assert serve(queue, first, 2.0) == [batch]


def test_no_more_run_and_wait_than_requests_max() -> None:
    queue = a_queue(places_max=2, requests_max=3)
    for _ in range(3):
        enter(queue)
    assert (queue.load.running, queue.load.waiting) == (2, 1)
    assert "2 requests run and 1 wait" in refused(queue, "one more", 0.0).message


def test_requests_max_holds_where_places_are_free() -> None:
    queue = a_queue(places_max=4, requests_max=1)
    enter(queue)
    refused(queue, "one more", 0.0)
    assert queue.load.running == 1


def test_in_a_full_queue_a_newcomer_displaces_the_newest_of_who_holds_most() -> None:
    queue = a_queue(waiting_max=3)
    enter(queue, tenant="noisy")
    noisy = [enter(queue, tenant="noisy") for _ in range(3)]
    quiet = queue.offer(a_request(tenant="quiet"), 1.0)
    assert queue.settle(1.0) == [noisy[-1]]
    assert (noisy[-1].place, quiet.place) == (Place.GONE, Place.WAITING)
    assert noisy[-1].refusal is not None
    assert (noisy[-1].refusal.retry_after_s or 0.0) > 0.0


def test_in_a_full_queue_one_of_who_holds_most_is_refused() -> None:
    queue = a_queue(waiting_max=2)
    for _ in range(3):
        enter(queue, tenant="noisy")
    refused(queue, "one more", 0.0, tenant="noisy")
    assert queue.load.waiting == 2


def test_interactive_displaces_batch_that_fills_the_queue() -> None:
    queue = a_queue(waiting_max=3)
    enter(queue)
    batch = [enter(queue, priority=Priority.BATCH) for _ in range(3)]
    queue.offer(a_request(), 1.0)
    assert queue.settle(1.0) == [batch[-1]]


def test_batch_does_not_displace_interactive_beyond_its_tenth() -> None:
    queue = a_queue(waiting_max=20)
    for _ in range(21):
        enter(queue)
    for _ in range(2):
        enter(queue, priority=Priority.BATCH)
    refused(queue, "one more", 0.0, priority=Priority.BATCH)


def test_who_comes_to_a_queue_that_stands_waits_no_longer_than_its_class_should() -> None:
    queue = a_queue(standing_s=1.0, interactive_ttft_s=2.0, ttft_ratio=0.5, wait_s_max=30.0)
    enter(queue)
    assert enter(queue, 0.0, deadline=900.0).expires == 30.0
    assert enter(queue, 1.5, deadline=900.0).expires == 2.5


def test_with_a_forecast_a_wait_ends_a_little_later_than_the_door_expects_of_anybody() -> None:
    queue = a_queue(forecast=True, standing_s=1.0, interactive_ttft_s=2.0, ttft_ratio=0.5)
    enter(queue)
    enter(queue)
    assert enter(queue, 1.5, deadline=900.0).expires == 1.5 + 1.25 * 2.0


def test_the_last_places_are_kept_for_a_tenant_that_holds_less() -> None:
    queue = a_queue(places_max=4, reserve_ratio=0.25, credit_tokens=100)
    enter(queue, tenant="quiet", now=0.0)
    noisy = [enter(queue, 1.0, tenant="noisy") for _ in range(4)]
    assert [ticket.place for ticket in noisy[:2]] == [Place.RUNNING, Place.RUNNING]
    assert noisy[2].place is Place.WAITING
    assert enter(queue, 2.0, tenant="quiet").place is Place.RUNNING


def test_a_tenant_that_is_alone_gets_every_place() -> None:
    queue = a_queue(places_max=4, reserve_ratio=0.25)
    tickets = [enter(queue, tenant="only") for _ in range(4)]
    assert all(ticket.place is Place.RUNNING for ticket in tickets)


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    queue = practised(interactive_ttft_s=2.0, ttft_ratio=1.0)
    enter(queue, 20.0, received=20.0)
    assert enter(queue, 20.0, received=20.0).place is Place.WAITING
    assert "longer than requests of its class" in refused(queue, "one more", 20.0).message


def test_batch_may_wait_where_interactive_may_not() -> None:
    queue = practised(interactive_ttft_s=2.0, batch_ttft_s=60.0, ttft_ratio=1.0)
    for _ in range(2):
        enter(queue, 20.0, received=20.0)
    refused(queue, "interactive", 20.0)
    assert enter(queue, 20.0, received=20.0, priority=Priority.BATCH).place is Place.WAITING


def test_who_cannot_be_finished_in_time_is_refused_even_where_there_is_room() -> None:
    queue = practised(places_max=4)
    refusal = refused(queue, "hurry", 20.0, deadline=20.7)
    assert "finished before its deadline" in refusal.message


def test_a_queue_that_knows_nothing_refuses_nobody() -> None:
    queue = a_queue(forecast=True)
    enter(queue)
    assert enter(queue, deadline=0.01).place is Place.WAITING


def test_who_comes_back_when_it_was_told_to_goes_before_fresh_arrivals() -> None:
    queue = practised(interactive_ttft_s=2.0, ttft_ratio=1.0)
    running = enter(queue, 20.0, received=20.0)
    fresh = enter(queue, 20.0, received=20.0)
    refusal = refused(queue, "told to come back", 20.0)
    assert refusal.retry_after_s is not None
    assert refusal.ticket is not None
    back = 20.0 + refusal.retry_after_s
    request = a_request("told to come back", received=back, ticket=refusal.ticket)
    kept = queue.offer(request, back)
    queue.settle(back)
    assert kept.promised
    assert serve(queue, running, back) == [kept]
    assert fresh.place is Place.WAITING


def test_who_waited_in_vain_is_told_when_to_come_back_too() -> None:
    queue = practised(wait_s_max=1.5, ttft_ratio=10.0)
    enter(queue, 20.0, received=20.0)
    late = enter(queue, 20.0, received=20.0)
    assert queue.settle(21.5) == [late]
    ending = queue.expired(late, 21.5)
    assert isinstance(ending, QueueTimeout)
    assert (ending.retry_after_s or 0.0) > 0.0
    assert ending.ticket is not None


def test_who_runs_at_once_is_not_forecast() -> None:
    queue = practised(places_max=2)
    assert enter(queue, 30.0).ttft_forecast_s is None


def test_who_waits_knows_its_time_to_first_token_from_its_receipt() -> None:
    queue = practised(interactive_ttft_s=20.0)
    enter(queue, 30.0, received=30.0)
    ticket = enter(queue, 30.0, received=29.0)
    assert ticket.expected is not None
    assert ticket.ttft_forecast_s == pytest.approx(1.0 + ticket.expected.ttft_s)


def test_what_is_held_and_waited_for_is_in_the_ledger() -> None:
    queue = a_queue()
    enter(queue, 1.0, tenant="a", id="runs", deadline=90.0)
    enter(queue, 2.0, tenant="b", id="waits", choices=3)
    place, waiting = queue.holdings()
    assert (place.kind, place.owner, place.tenant, place.since) == ("place", "runs", "a", 1.0)
    assert (waiting.kind, waiting.owner, waiting.amount) == ("waiting", "waits", 3)
    assert place.expires == 90.0


def test_in_a_storm_who_comes_just_after_one_that_was_refused_is_refused_by_the_same_forecast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = practised(interactive_ttft_s=2.0, ttft_ratio=1.0, storm_per_s=1)
    for _ in range(2):
        enter(queue, 20.0, received=20.0)
    forecast = queue.outlook.expect
    asked = []

    def noted(ticket: Ticket, crowd: Crowd) -> Expectation | None:
        asked.append(ticket.since)
        return forecast(ticket, crowd)

    monkeypatch.setattr(queue.outlook, "expect", noted)
    for after_s in (0.0, 0.01, 0.019, 0.021, 0.03):
        refused(queue, f"after {after_s}", 20.0 + after_s)
    assert asked == [20.0, 20.021], "a forecast served for longer than a moment, or not at all"


def test_another_class_or_a_departure_asks_for_a_forecast_of_its_own() -> None:
    queue = practised(interactive_ttft_s=2.0, batch_ttft_s=60.0, ttft_ratio=1.0)
    running = enter(queue, 20.0, received=20.0)
    enter(queue, 20.0, received=20.0)
    refused(queue, "interactive", 20.0)
    batch = enter(queue, 20.01, received=20.0, priority=Priority.BATCH)
    queue.leave(batch, 20.01)
    refused(queue, "interactive", 20.01)
    serve(queue, running, 20.015)
    assert enter(queue, 20.015, received=20.0).place is Place.WAITING


def test_who_waited_in_vain_makes_the_next_asked_about_in_full_even_in_a_storm() -> None:
    queue = practised(interactive_ttft_s=2.0, ttft_ratio=1.0, storm_per_s=1, wait_s_max=1.5)
    enter(queue, 20.0, received=20.0)
    late = enter(queue, 20.0, received=20.0)
    refused(queue, "just before", 21.495)
    assert queue.settle(21.5) == [late]
    assert queue.offer(a_request(received=21.5), 21.5).place is Place.WAITING


def test_a_place_is_not_expected_back_long_before_it_was_held_as_long_as_usual() -> None:
    # Four places, each held for a second: by Little's law one comes free every quarter of one.
    queue = practised(places_max=4, interactive_ttft_s=60.0)
    for admitted in (20.0, 20.0, 20.8, 20.8):
        enter(queue, admitted, received=admitted)
    waits_s = []
    for _ in range(3):
        expected = enter(queue, 20.9, received=20.9).expected
        assert expected is not None
        waits_s.append(expected.wait_s)
    # The third waits for one of those that came just now, and have 0.9 s before them.
    assert waits_s == pytest.approx([0.25, 0.5, 0.9])
