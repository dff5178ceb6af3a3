from typing import Any

from forebay.policy.fair_share import FairShare
from forebay.policy.ticket import Ticket
from forebay.policy.waiting_line import WaitingLine
from tests.support.requests import a_request


def a_line(**weights: float) -> WaitingLine:
    return WaitingLine(FairShare(weights, tenants_max=100))


def a_ticket(tenant: str = "a", due: float = 10.0, number: int = 0, **facts: Any) -> Ticket:
    return Ticket(a_request(tenant=tenant, **facts), 0.0, due, due, number)


def filled(line: WaitingLine, **counts: int) -> list[Ticket]:
    tickets = [
        a_ticket(tenant, number=number)
        for tenant, count in counts.items()
        for number in range(count)
    ]
    for ticket in tickets:
        line.add(ticket)
    return tickets


def test_within_a_tenant_the_earliest_deadline_goes_first() -> None:
    line = a_line()
    late, soon = a_ticket(due=9.0), a_ticket(due=3.0, number=1)
    line.add(late)
    line.add(soon)
    assert line.first() is soon


def test_with_equal_deadlines_who_came_first_goes_first() -> None:
    line = a_line()
    second, first = a_ticket(number=2), a_ticket(number=1)
    line.add(second)
    line.add(first)
    assert line.first() is first


def test_who_was_promised_a_place_goes_before_the_rest_of_its_tenant() -> None:
    line = a_line()
    fresh, promised = a_ticket(due=1.0), a_ticket(due=9.0, number=1)
    promised.promised = True
    line.add(fresh)
    line.add(promised)
    assert line.first() is promised


def test_the_tenant_that_was_served_least_goes_first() -> None:
    line = a_line()
    one, other = a_ticket("a"), a_ticket("b", number=1)
    line.add(one)
    line.add(other)
    line.share.charge("a", 100)
    assert line.first() is other


def test_counts_follow_who_comes_and_goes() -> None:
    line = a_line()
    tickets = filled(line, a=2, b=1)
    line.add(big := a_ticket("b", number=5, choices=4))
    assert (len(line), line.places) == (4, 7)
    for ticket in (*tickets, big):
        line.remove(ticket)
    assert (len(line), line.places, [*line.tenants()]) == (0, 0, [])


def test_only_one_of_a_neighbours_many_goes_before_a_newcomer() -> None:
    line = a_line()
    filled(line, noisy=20)
    line.share.charge("noisy", 10)
    assert line.ahead_of(a_ticket("quiet", number=99), 10.0) == 1.0


def test_everybody_of_its_own_tenant_goes_before_the_newest() -> None:
    line = a_line()
    filled(line, a=5)
    assert line.ahead_of(a_ticket("a", number=99), 10.0) == 5.0


def test_a_neighbour_with_twice_the_weight_gets_two_turns_for_one() -> None:
    line = a_line(heavy=2.0)
    filled(line, light=5, heavy=50)
    ahead = line.ahead_of(a_ticket("light", number=99), 10.0)
    assert 5 + 10 <= ahead <= 5 + 11


def test_the_largest_tenant_yields_its_newest_to_one_that_holds_less() -> None:
    line = a_line()
    noisy = filled(line, noisy=5)
    assert line.who_yields_to(a_request(tenant="quiet")) is noisy[-1]


def test_nobody_yields_to_their_equals() -> None:
    line = a_line()
    filled(line, a=3, b=3)
    assert line.who_yields_to(a_request(tenant="a")) is None
    line.add(a_ticket("a", number=9))
    assert line.who_yields_to(a_request(tenant="b")) is None


def test_who_was_promised_a_place_does_not_yield() -> None:
    line = a_line()
    tickets = filled(line, noisy=5)
    for ticket in tickets[1:]:
        ticket.promised = True
    assert line.who_yields_to(a_request(tenant="quiet")) is tickets[0]
    tickets[0].promised = True
    assert line.who_yields_to(a_request(tenant="quiet")) is None
