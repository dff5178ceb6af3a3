"""The classes of those who wait: whose turn it is, who goes before whom, who makes room."""

from typing import Any

import pytest

from forebay.core.request import Priority
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.ticket import Ticket
from forebay.policy.waiting import Waiting
from tests.support.requests import a_request

COST = 10.0


def waiting(**knobs: Any) -> Waiting:
    return Waiting(AdmissionConfig(**({"standing_s": 1.0, "batch_overtaken_max": 3} | knobs)))


def a_ticket(priority: Priority = Priority.INTERACTIVE, due: float = 50.0, **facts: Any) -> Ticket:
    return Ticket(a_request(priority=priority, **facts), 0.0, due, due)


def come(room: Waiting, count: int, priority: Priority, now: float = 0.0) -> list[Ticket]:
    tickets = [a_ticket(priority) for _ in range(count)]
    for ticket in tickets:
        room.add(ticket, now)
    return tickets


def whose_turn(room: Waiting) -> list[str]:
    return [line.first().request.priority.name.lower() for line in room.in_turn()]


def test_a_batch_one_has_its_turn_after_so_many_that_went_before_it() -> None:
    room = waiting(batch_overtaken_max=2)
    interactive = come(room, 4, Priority.INTERACTIVE)
    come(room, 1, Priority.BATCH)
    for ticket in interactive[:2]:
        assert whose_turn(room) == ["interactive", "batch"]
        room.take_turn(ticket)
    assert whose_turn(room) == ["batch", "interactive"]


def test_what_overtook_others_counts_for_nothing_once_they_have_gone() -> None:
    room = waiting(batch_overtaken_max=2)
    interactive = come(room, 4, Priority.INTERACTIVE)
    (batch,) = come(room, 1, Priority.BATCH)
    for ticket in interactive[:2]:
        room.take_turn(ticket)
    room.remove(batch)
    come(room, 1, Priority.BATCH)
    assert whose_turn(room) == ["interactive", "batch"]


def test_before_an_interactive_one_go_those_of_its_class_and_the_turns_of_batch() -> None:
    room = waiting()
    come(room, 9, Priority.INTERACTIVE)
    assert room.places_before(a_ticket(due=60.0), COST, 0.0) == 9.0
    come(room, 2, Priority.BATCH)
    assert room.places_before(a_ticket(due=60.0), COST, 0.0) == 9.0 + 2.0
    come(room, 5, Priority.BATCH)
    assert room.places_before(a_ticket(due=60.0), COST, 0.0) == 9.0 + 9.0 / 3


@pytest.mark.parametrize(("now", "before"), [(0.9, 2 + 4), (1.1, 2 + 3 * (2 + 1))])
def test_before_a_batch_one_go_all_who_wait_or_in_a_queue_that_stands_all_who_will_come(
    now: float, before: float
) -> None:
    room = waiting()
    come(room, 4, Priority.INTERACTIVE)
    come(room, 2, Priority.BATCH)
    assert room.places_before(a_ticket(Priority.BATCH, 60.0), COST, now) == before


def test_who_goes_before_takes_as_many_places_as_those_who_wait_need_on_average() -> None:
    room = waiting()
    for choices in (1, 5):
        room.add(a_ticket(choices=choices), 0.0)
    assert room.places_before(a_ticket(due=60.0), COST, 0.0) == 2 * 3.0


def test_who_was_promised_a_place_displaces_the_newest_even_of_its_own_tenant() -> None:
    room = waiting()
    come(room, 3, Priority.INTERACTIVE)
    fresh, promised = a_ticket(), a_ticket()
    promised.promised = True
    assert room.who_yields_to(fresh) is None
    assert room.who_yields_to(promised) in [*room]


def test_who_has_waited_too_long_is_taken_out_and_nobody_else() -> None:
    room = waiting()
    late, soon, other = a_ticket(due=5.0), a_ticket(due=6.0), a_ticket(Priority.BATCH, 7.0)
    for ticket in (soon, late, other):
        room.add(ticket, 0.0)
    assert not room.may_be_late(4.9)
    assert room.may_be_late(5.0)
    assert room.take_late(5.0) == [late]
    assert [*room] == [soon, other]
    assert not room.may_be_late(5.9)
    assert room.take_late(7.0) == [soon, other]
    assert not room.may_be_late(1e9)


def test_new_settings_hold_for_those_who_wait() -> None:
    room = waiting(batch_overtaken_max=1)
    first, _ = come(room, 2, Priority.INTERACTIVE)
    come(room, 1, Priority.BATCH)
    room.take_turn(first)
    assert whose_turn(room) == ["batch", "interactive"]
    room.reconfigure(AdmissionConfig(batch_overtaken_max=2))
    assert whose_turn(room) == ["interactive", "batch"]
