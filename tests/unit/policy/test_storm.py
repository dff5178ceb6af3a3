import math
from typing import Any

import pytest

from forebay.core.errors import Overloaded
from forebay.core.request import Priority, Request
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.forecast import Expectation
from forebay.policy.promises import Offer, PromiseBook
from forebay.policy.storm import Storm
from forebay.policy.ticket import Ticket, wish_of
from tests.support.requests import a_request

WORDS = "The request would wait. "
EXPECTED = Expectation(wait_s=2.0, ttft_s=2.5, finish_s=5.0, departures=4.0, backlog_s=0.0)
OFFER = Offer(wait_s=2.0, gap_s=0.5)


def a_book(**bounds: Any) -> PromiseBook:
    usual = {"promises_max": 100, "grace_s": 5.0, "horizon_s": 60.0, "share_max": 1.0}
    return PromiseBook(**(usual | bounds))


def a_storm(book: PromiseBook | None = None, **knobs: Any) -> Storm:
    return Storm(AdmissionConfig(**knobs), a_book() if book is None else book)


def asked(sign: int = 1, /, **facts: Any) -> Request:
    return a_request(**({"body_bytes": 300, "body_sign": sign, "tokens_max": 64} | facts))


def refuse(storm: Storm, now: float, **facts: Any) -> None:
    """Let the door refuse one in full."""
    ticket = Ticket(asked(**facts), now, math.inf)
    ticket.expected, ticket.offer = EXPECTED, OFFER
    storm.refused(ticket, WORDS, now)


def is_shed(storm: Storm, now: float, **facts: Any) -> bool:
    try:
        storm.shed(asked(2, **facts), now)
    except Overloaded:
        return True
    return False


def test_a_storm_is_so_many_refusals_in_this_second_or_the_last() -> None:
    storm = a_storm(storm_per_s=3)
    for now in (10.0, 10.5):
        refuse(storm, now)
    assert not storm.rages(10.9)
    refuse(storm, 10.9)
    assert storm.rages(10.9)
    assert storm.rages(11.9)
    assert not storm.rages(12.0)


def test_those_who_are_refused_unread_keep_the_storm_going() -> None:
    storm = a_storm(storm_per_s=3)
    refuse(storm, 10.99)
    for sign in range(3):
        assert is_shed(storm, 11.0, body_sign=10 + sign)
    assert storm.rages(12.5)


def test_without_a_threshold_there_is_never_a_storm() -> None:
    storm = a_storm(storm_per_s=0)
    for _ in range(1_000):
        refuse(storm, 10.0)
    assert not storm.rages(10.0)


def test_who_is_like_one_that_was_just_refused_is_told_the_same_and_the_next_moment() -> None:
    storm = a_storm()
    refuse(storm, 10.0)
    retries = []
    for sign in (5, 6, 7):
        with pytest.raises(Overloaded) as refusal:
            storm.shed(asked(sign), 10.01)
        assert refusal.value.message == WORDS
        retries.append(refusal.value.retry_after_s)
    first, *others = retries
    assert first is not None
    assert first >= OFFER.wait_s
    assert others == pytest.approx([first + 0.5, first + 1.0])


def test_its_ticket_is_a_promise_and_so_is_its_body() -> None:
    book = a_book()
    storm = a_storm(book)
    refuse(storm, 10.0)
    with pytest.raises(Overloaded) as refusal:
        storm.shed(asked(5), 10.0)
    assert refusal.value.retry_after_s is not None
    at = 10.0 + refusal.value.retry_after_s
    by_ticket, by_body = (
        a_request("its prompt", body_sign=sign, tokens_max=64) for sign in (77, 5)
    )
    assert not book.redeem(wish_of(by_ticket), at)
    assert not book.redeem(wish_of(by_body), at - 1.0)
    assert book.redeem(wish_of(by_body), at)
    with pytest.raises(Overloaded) as refusal:
        storm.shed(asked(6), 10.0)
    assert refusal.value.retry_after_s is not None
    at = 10.0 + refusal.value.retry_after_s
    assert book.redeem(wish_of(by_ticket), at, ticket=refusal.value.ticket)


def test_who_comes_back_for_a_promise_is_read_and_who_comes_before_is_not() -> None:
    storm = a_storm()
    refuse(storm, 10.0)
    assert is_shed(storm, 10.0)
    assert is_shed(storm, 10.01)
    refuse(storm, 13.0)
    assert not is_shed(storm, 13.0)
    assert is_shed(storm, 13.0, body_sign=3)


@pytest.mark.parametrize(
    "facts",
    [
        {"tenant": "neighbour"},
        {"priority": Priority.BATCH},
        {"choices": 2},
        {"tokens_max": 16},
        {"tokens_max": None},
        {"body_bytes": 299},
    ],
    ids=repr,
)
def test_who_is_not_like_it_is_read(facts: dict[str, Any]) -> None:
    storm = a_storm()
    refuse(storm, 10.0)
    assert not is_shed(storm, 10.0, **facts)
    assert is_shed(storm, 10.0)


def test_a_refusal_tells_of_others_for_a_moment_only() -> None:
    storm = a_storm()
    refuse(storm, 10.0)
    refuse(storm, 10.015)
    assert is_shed(storm, 10.019)
    assert not is_shed(storm, 10.021)


def test_once_somebody_has_left_the_next_is_read() -> None:
    storm = a_storm()
    refuse(storm, 10.0)
    storm.left()
    assert not is_shed(storm, 10.0)


def test_a_new_setting_is_not_foreseen_by_what_was_said_before() -> None:
    storm = a_storm()
    refuse(storm, 10.0)
    storm.reconfigure(AdmissionConfig())
    assert not is_shed(storm, 10.0)


def test_what_was_refused_for_its_own_deadline_tells_nothing_of_others() -> None:
    storm = a_storm()
    refuse(storm, 10.0, deadline=14.0)
    assert not is_shed(storm, 10.0)


def test_what_could_be_promised_nothing_tells_nothing_of_others() -> None:
    storm = a_storm()
    ticket = Ticket(asked(), 10.0, math.inf)
    ticket.expected = EXPECTED
    storm.refused(ticket, WORDS, 10.0)
    assert not is_shed(storm, 10.0)


def test_who_came_back_for_a_promise_in_vain_tells_nothing_of_others() -> None:
    storm = a_storm()
    ticket = Ticket(asked(), 10.0, math.inf, promised=True)
    ticket.expected, ticket.offer = EXPECTED, OFFER
    storm.refused(ticket, WORDS, 10.0)
    assert not is_shed(storm, 10.0)


def test_a_forecast_serves_those_alike_who_do_not_come_back_for_a_promise() -> None:
    storm = a_storm(storm_per_s=2)
    refuse(storm, 10.0)
    assert storm.expected(Ticket(asked(9), 10.01, math.inf), 10.01) is None, "one is no storm"
    refuse(storm, 10.0)
    alike = Ticket(asked(9), 10.01, math.inf)
    assert storm.expected(alike, 10.01) is EXPECTED
    alike.promised = True
    assert storm.expected(alike, 10.01) is None
    fewer = Ticket(asked(9, tokens_max=65), 10.01, math.inf)
    assert storm.expected(fewer, 10.01) is None


def test_when_the_book_is_full_a_moment_is_named_without_a_ticket() -> None:
    storm = a_storm(a_book(promises_max=1))
    refuse(storm, 10.0)
    assert is_shed(storm, 10.0, body_sign=8)
    with pytest.raises(Overloaded) as refusal:
        storm.shed(asked(9), 10.0)
    assert refusal.value.ticket is None
    assert refusal.value.retry_after_s == pytest.approx(2.5, abs=0.3)


def test_kinds_are_remembered_within_bounds() -> None:
    storm = a_storm(tenants_max=10)
    for number in range(100):
        refuse(storm, 10.0, tenant=f"tenant {number}")
        assert len(storm._refusals) <= 10
    assert is_shed(storm, 10.0, tenant="tenant 99")
