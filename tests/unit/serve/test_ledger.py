"""The ledger: what came in is what ended and what is here, or it says so."""

from collections.abc import Iterator

import pytest

from forebay.core.clock import ManualClock
from forebay.core.errors import OUTCOMES, Outcome
from forebay.core.record import Holding, RequestRecord, Timeline
from forebay.core.request import RequestId, Route
from forebay.serve.ledger import Ledger


def a_record(id: str = "a", outcome: Outcome = Outcome.OK) -> RequestRecord:
    return RequestRecord(
        id=RequestId(id),
        route=Route.CHAT_COMPLETIONS,
        model="m",
        outcome=outcome,
        status=OUTCOMES[outcome].status,
        timeline=Timeline(received=0.0, ended=1.0),
    )


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(ManualClock(100.0))


def test_a_request_is_in_flight_until_its_record_is_written(ledger: Ledger) -> None:
    ledger.opened(RequestId("a"))
    assert (ledger.balance().in_flight, ledger.imbalance) == (1, 0)
    ledger(a_record("a"))
    balance = ledger.balance()
    assert (balance.received, balance.in_flight, balance.outcomes[Outcome.OK]) == (1, 0, 1)
    ledger.closed(RequestId("a"))
    assert ledger.balance() == balance
    assert ledger.imbalance == balance.imbalance == 0


def test_an_exchange_that_closes_without_a_record_unbalances_it(ledger: Ledger) -> None:
    ledger.opened(RequestId("a"))
    ledger.closed(RequestId("a"))
    assert ledger.imbalance == 1
    ledger(a_record("a"))
    assert ledger.imbalance == 0, "the record came late, but it came"


@pytest.mark.parametrize("records", [["a", "a"], ["a", "b"]], ids=["a second", "a stranger's"])
def test_a_record_too_many_unbalances_it(ledger: Ledger, records: list[str]) -> None:
    ledger.opened(RequestId("a"))
    for id in records:
        ledger(a_record(id))
    ledger.closed(RequestId("a"))
    assert ledger.imbalance == -1


def test_exchanges_that_share_an_id_are_counted_each(ledger: Ledger) -> None:
    same = RequestId("chosen by clients")
    for _ in range(3):
        ledger.opened(same)
    ledger(a_record(same))
    assert (ledger.balance().in_flight, ledger.imbalance) == (2, 0)
    ledger.closed(same)
    ledger(a_record(same))
    ledger(a_record(same, Outcome.CANCELLED))
    ledger.closed(same)
    ledger.closed(same)
    assert (ledger.balance().in_flight, ledger.imbalance) == (0, 0)
    assert not ledger._open, "nothing is kept of what is over"


def test_what_is_held_is_listed_by_kind_the_oldest_first_and_bounded(ledger: Ledger) -> None:
    def places() -> Iterator[Holding]:
        for second in (30.0, 10.0, 20.0):
            yield Holding(kind="place", owner=f"at {second:g}", amount=2, since=second)

    def leases() -> Iterator[Holding]:
        yield Holding(kind="lease", owner="x", since=90.0, expires=99.0)
        yield Holding(kind="lease", owner="y", since=90.0, expires=101.0)

    ledger.ask(places)
    ledger.ask(leases)
    held = ledger.held(listed_max=2)
    assert [each.owner for each in held["place"].holdings] == ["at 10", "at 20"]
    assert (held["place"].count, held["place"].amount, held["place"].overdue) == (3, 6, 0)
    assert held["lease"].overdue == 1
    assert ledger.amounts() == {"place": 6, "lease": 2}
