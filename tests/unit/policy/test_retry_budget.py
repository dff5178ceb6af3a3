"""Retries are a share of the requests, and never the load itself."""

import pytest

from forebay.policy.retry_budget import RetryBudget, jitter_s


def taken(budget: RetryBudget, now: float, wanted: int) -> int:
    return sum(budget.take(now) for _ in range(wanted))


def test_at_first_a_whole_reserve_may_be_run_again() -> None:
    budget = RetryBudget(share_max=0.2, per_s_min=0.0, reserve=50.0)
    assert taken(budget, 0.0, 1_000) == 50


def test_then_only_a_share_of_what_is_asked() -> None:
    budget = RetryBudget(share_max=0.2, per_s_min=0.0, reserve=50.0)
    taken(budget, 0.0, 50)
    for _ in range(100):
        budget.asked()
    assert taken(budget, 0.0, 1_000) == pytest.approx(20, abs=1)


def test_time_gives_a_little_to_a_server_with_few_requests() -> None:
    budget = RetryBudget(share_max=0.0, per_s_min=10.0, reserve=50.0)
    taken(budget, 0.0, 50)
    assert taken(budget, 2.0, 1_000) == 20
    assert taken(budget, 1.0, 1_000) == 0, "a clock that goes back gives nothing"


def test_it_never_holds_more_than_its_reserve() -> None:
    budget = RetryBudget(share_max=1.0, per_s_min=10.0, reserve=5.0)
    for _ in range(100):
        budget.asked()
    assert taken(budget, 1_000.0, 1_000) == 5
    assert budget.left < 1.0


def test_waits_double_up_to_a_bound_and_are_a_share_of_it() -> None:
    bounds = [jitter_s(losses, 1.0, wait_s_min=0.5, wait_s_max=3.0) for losses in range(1, 6)]
    assert bounds == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert jitter_s(3, 0.25, wait_s_min=0.5, wait_s_max=3.0) == 0.5
    assert jitter_s(3, 0.0, wait_s_min=0.5, wait_s_max=3.0) == 0.0
