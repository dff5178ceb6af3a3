"""What is said at the door of a request of which it is known what will become of it."""

import pytest

from forebay.core.request import Priority
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.forecast import Expectation
from forebay.policy.outlook import Outlook
from forebay.policy.ticket import Ticket
from tests.support.requests import a_request

TTFT_S = 2.0


def is_let_in(expected: Expectation, ratio: float, *, promised: bool = False) -> bool:
    config = AdmissionConfig(interactive_ttft_s=TTFT_S, ttft_ratio=ratio)
    ticket = Ticket(a_request(received=10.0), 10.0, 100.0, promised=promised)
    assert ticket.request.priority is Priority.INTERACTIVE
    ticket.expected = expected
    return Outlook(config, None, 8).objection(ticket, 10.0) is None


def waits(ttft_s: float) -> Expectation:
    """It waits for a place, and then for its own prompt only."""
    return Expectation(
        wait_s=ttft_s, ttft_s=ttft_s, finish_s=ttft_s + 1.0, departures=3.0, backlog_s=0.0
    )


def has_a_place(backlog_s: float, prompt_s: float = 0.1) -> Expectation:
    """It runs at once, behind the prompts of others."""
    ttft_s = backlog_s + prompt_s
    return Expectation(
        wait_s=0.0, ttft_s=ttft_s, finish_s=ttft_s + 1.0, departures=0.0, backlog_s=backlog_s
    )


def test_who_must_wait_for_a_place_may_take_a_share_of_its_class_time() -> None:
    assert is_let_in(waits(0.99), ratio=0.5)
    assert not is_let_in(waits(1.01), ratio=0.5)


@pytest.mark.parametrize(("ratio", "most_s"), [(0.5, 1.5), (1.0, 2.0), (3.0, 6.0)])
def test_who_need_not_wait_for_a_place_is_judged_with_half_the_margin(
    ratio: float, most_s: float
) -> None:
    assert is_let_in(has_a_place(most_s - 0.01), ratio)
    assert not is_let_in(has_a_place(most_s + 0.01), ratio)


def test_a_prompt_that_is_long_by_itself_is_served_all_the_same() -> None:
    assert is_let_in(has_a_place(0.0, prompt_s=60.0), ratio=0.5)


def test_who_was_promised_a_place_is_held_to_its_own_deadline_only() -> None:
    assert is_let_in(waits(60.0), ratio=0.5, promised=True)
    assert not is_let_in(waits(4_000.0), ratio=0.5, promised=True)
