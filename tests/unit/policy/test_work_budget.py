"""A share of a core for strangers' work: bursts, then a fixed rate, and half kept for the known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policy.work_budget import WorkBudget


def budget() -> WorkBudget:
    return WorkBudget(share_max=0.1, burst_s=1.0, kept_share=0.5)


def test_a_burst_may_begin_at_once_and_strangers_only_with_the_upper_half() -> None:
    bucket = budget()
    begun = 0
    while not bucket.wait_s(0.0, known=False):
        bucket.take(0.0)
        begun += 1
    assert begun in {9, 10}  # half a second, 50 ms each
    while not bucket.wait_s(0.0, known=True):
        bucket.take(0.0)
        begun += 1
    assert begun in {19, 20}


def test_the_wait_that_is_named_is_the_wait_that_is_enough() -> None:
    bucket = budget()
    while not bucket.wait_s(0.0, known=False):
        bucket.take(0.0)
    wait_s = bucket.wait_s(0.0, known=False)
    assert bucket.wait_s(wait_s - 0.01, known=False) > 0.0
    assert bucket.wait_s(wait_s + 1e-6, known=False) == 0.0


def test_work_that_was_not_begun_is_given_back() -> None:
    bucket = budget()
    for _ in range(1_000):
        assert bucket.wait_s(0.0, known=False) == 0.0
        bucket.settle(bucket.take(0.0), None)


def test_what_work_costs_is_learned_from_what_it_cost() -> None:
    bucket = budget()
    for second in range(100):
        bucket.settle(bucket.take(float(10 * second)), 0.2)
    assert bucket.expected_s == pytest.approx(0.2, rel=0.01)


def test_work_that_costs_more_than_there_ever_is_begins_when_the_bucket_is_full() -> None:
    bucket = budget()
    now = 0.0
    for _ in range(50):
        now += 1_000.0
        bucket.settle(bucket.take(now), 5.0)
    assert bucket.wait_s(now, known=False) > 0.0
    assert bucket.wait_s(now + 1_000.0, known=False) == 0.0


@given(
    costs=st.lists(st.floats(0.001, 0.3), min_size=1, max_size=200),
    gap_s=st.floats(0.0, 0.1),
    known=st.booleans(),
)
def test_however_many_ask_the_work_stays_within_the_share(
    costs: list[float], gap_s: float, known: bool
) -> None:
    bucket, now, spent_s = budget(), 0.0, 0.0
    for cost_s in costs:
        for _ in range(20):
            now += gap_s
            if not bucket.wait_s(now, known=known):
                bucket.settle(bucket.take(now), cost_s)
                spent_s += cost_s
    # The burst, the share of the time that passed, and the last piece, of which less was expected.
    assert spent_s <= 1.0 + 0.1 * now + 0.3 + 1e-6


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket = budget()
    while not bucket.wait_s(100.0, known=False):
        bucket.take(100.0)
    assert bucket.wait_s(0.0, known=False) > 0.0


def test_work_that_is_forgiven_leaves_the_budget_as_it_was() -> None:
    bucket = budget()
    before_s = bucket.wait_s(0.0, known=False)
    for _ in range(1_000):
        taken_s = bucket.take(0.0)
        bucket.settle(taken_s, taken_s)
        bucket.forgive()
    assert bucket.wait_s(0.0, known=False) == before_s
    for _ in range(1_000):
        bucket.forgive()
    taken_s = bucket.take(0.0)
    assert bucket.wait_s(0.0, known=True) < 10.0, "forgiving never fills it beyond its burst"
