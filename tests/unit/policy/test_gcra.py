import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.caller import Rate
from forebay.policy.gcra import Ask, Gcra, Verdict
from forebay.policy.rate import AMOUNT_MAX, PERIOD_S_MAX

MINUTE = 60.0
FIVE = Rate(amount=5, period_s=MINUTE)
EPOCHS = [0.0, 12_345.678, 40_000_000.0]
"""A process that has just begun, and one that has run for more than a year."""


def an_ask(name: str = "a", cost: int = 1, rate: Rate = FIVE) -> Ask:
    return Ask(name=name, crowd="crowd", rate=rate, cost=cost)


def a_table(accounts_max: int = 100) -> Gcra:
    return Gcra(accounts_max=accounts_max)


def only(table: Gcra, now: float, ask: Ask) -> Verdict:
    (verdict,) = table.take(now, (ask,))
    return verdict


class Bucket:
    """The model: a bucket that fills by the rate, in exact numbers."""

    def __init__(self, rate: Rate) -> None:
        self.amount = rate.amount
        self.per_s = Fraction(rate.amount) / Fraction(rate.period_s)
        self.units, self.at = Fraction(rate.amount), Fraction(0)

    def fill(self, now: Fraction) -> None:
        self.units = min(Fraction(self.amount), self.units + (now - self.at) * self.per_s)
        self.at = now

    def take(self, now: Fraction, cost: int) -> bool:
        self.fill(now)
        if cost > self.units:
            return False
        self.units -= cost
        return True


rates = st.builds(
    Rate,
    amount=st.integers(1, 1_000),
    period_s=st.sampled_from([0.25, 1.0, 60.0, 120.0, 86_400.0]),
)
steps = st.lists(st.tuples(st.integers(0, 200_000), st.integers(1, 40), st.booleans()), max_size=60)
"""Pauses in 1/1024 s, which floats hold exactly; costs; whether half is given back."""


@given(rate=rates, steps=steps)
def test_it_lets_pass_what_a_bucket_that_fills_by_the_rate_lets_pass(
    rate: Rate, steps: list[tuple[int, int, bool]]
) -> None:
    table, bucket, now = a_table(), Bucket(rate), Fraction(0)
    for pause, cost, returns in steps:
        now += Fraction(pause, 1_024)
        verdict = only(table, float(now), an_ask(cost=cost, rate=rate))
        assert verdict.passed == bucket.take(now, cost)
        assert verdict.remaining == math.floor(bucket.units)
        if verdict.passed and returns:
            table.give_back(float(now), "a", (rate, cost // 2))
            bucket.units += cost // 2
            bucket.fill(now)


@given(rate=rates, steps=steps)
def test_no_window_ever_holds_more_than_the_amount_and_what_comes_free_in_it(
    rate: Rate, steps: list[tuple[int, int, bool]]
) -> None:
    table, now, passed = a_table(), Fraction(0), [(Fraction(0), 0)]
    for pause, cost, _ in steps:
        now += Fraction(pause, 1_024)
        if only(table, float(now), an_ask(cost=cost, rate=rate)).passed:
            passed.append((now, cost))
    per_s = Fraction(rate.amount) / Fraction(rate.period_s)
    for first in range(len(passed)):
        used = 0
        for at, cost in passed[first:]:
            used += cost
            assert used <= rate.amount + (at - passed[first][0]) * per_s


@given(
    amount=st.integers(1, 10_000_000),
    period_s=st.sampled_from([0.5, 1.0, 60.0, 3_600.0, PERIOD_S_MAX]),
    begin=st.sampled_from(EPOCHS),
    data=st.data(),
)
def test_who_waits_as_long_as_it_was_told_passes_and_who_comes_earlier_does_not(
    amount: int, period_s: float, begin: float, data: st.DataObject
) -> None:
    rate = Rate(amount=amount, period_s=period_s)
    table = a_table()
    assert only(table, begin, an_ask(cost=amount, rate=rate)).passed
    cost = data.draw(st.integers(1, amount))
    now = begin + data.draw(st.floats(0.0, 0.99)) * period_s * cost / amount
    refused = only(table, now, an_ask(cost=cost, rate=rate))
    if refused.passed:  # a part of the wait that floats cannot tell from all of it
        assert period_s * cost / amount < 1e-5
        return
    assert 0.0 < refused.retry_s <= period_s + 3e-6
    if refused.retry_s > 1e-5:
        earlier = now + refused.retry_s - 5e-6
        assert not only(table, earlier, an_ask(cost=cost, rate=rate)).passed
    assert only(table, now + refused.retry_s, an_ask(cost=cost, rate=rate)).passed


@given(rate=rates, held=st.lists(st.tuples(st.integers(0, 90_000), st.integers(1, 40))))
def test_with_all_that_was_not_used_given_back_use_stays_below_the_rate(
    rate: Rate, held: list[tuple[int, int]]
) -> None:
    table, now, used = a_table(), 0.0, 0
    for pause, cost in held:
        now += pause / 1_024
        if only(table, now, an_ask(cost=cost, rate=rate)).passed:
            table.give_back(now, "a", (rate, cost - cost // 3))
            used += cost // 3
        assert used <= rate.amount * (1 + now / rate.period_s)
        assert 0 <= only(table, now, an_ask(cost=0, rate=rate)).remaining <= rate.amount


@pytest.mark.parametrize("begin", EPOCHS)
@pytest.mark.parametrize("amount", [1, 3, 7, 100, 999_983])
def test_the_whole_amount_passes_at_once_one_by_one_and_then_none(
    amount: int, begin: float
) -> None:
    table, rate = a_table(), Rate(amount=amount, period_s=MINUTE)
    ones = min(amount, 1_000)
    assert only(table, begin, an_ask(cost=amount - ones, rate=rate)).passed
    for left in range(ones - 1, -1, -1):
        assert only(table, begin, an_ask(rate=rate)).remaining == left
    assert not only(table, begin, an_ask(rate=rate)).passed


def test_a_refusal_says_what_is_left_and_when_it_passes_and_when_all_is_free() -> None:
    table = a_table()
    only(table, 100.0, an_ask(cost=4))
    refused = only(table, 106.0, an_ask(cost=3))
    assert (refused.passed, refused.remaining) == (False, 1)
    assert refused.retry_s == pytest.approx(18.0, abs=3e-6)
    assert refused.reset_s == pytest.approx(42.0)
    assert not only(table, 124.0 - 1e-5, an_ask(cost=3)).passed
    assert only(table, 124.0, an_ask(cost=3)).passed


def test_more_than_the_whole_amount_never_passes() -> None:
    refused = only(a_table(), 0.0, an_ask(cost=6))
    assert (refused.passed, refused.remaining, refused.retry_s) == (False, 5, math.inf)


def test_the_fastest_and_the_slowest_rate_that_can_be_written_hold() -> None:
    fast, slow = Rate(amount=AMOUNT_MAX, period_s=1.0), Rate(amount=1, period_s=PERIOD_S_MAX)
    table = a_table()
    assert only(table, 9.0, an_ask("fast", cost=AMOUNT_MAX, rate=fast)).remaining == 0
    assert not only(table, 9.0, an_ask("fast", cost=1_000, rate=fast)).passed
    assert only(table, 9.0, an_ask("slow", rate=slow)).passed
    assert not only(table, 9.0 + PERIOD_S_MAX - 0.001, an_ask("slow", rate=slow)).passed
    assert only(table, 9.001 + PERIOD_S_MAX, an_ask("slow", rate=slow)).passed


def test_of_several_rates_all_are_taken_or_none() -> None:
    table = a_table()
    only(table, 0.0, an_ask("full", cost=5))
    verdicts = table.take(0.0, (an_ask("free", cost=2), an_ask("full")))
    assert [(verdict.passed, verdict.remaining) for verdict in verdicts] == [(True, 5), (False, 0)]
    assert verdicts[0].reset_s == 0.0
    assert only(table, 0.0, an_ask("free", cost=0)).remaining == 5


def test_looking_makes_no_row() -> None:
    table = a_table()
    assert only(table, 0.0, an_ask(cost=0)).passed
    assert len(table) == 0


def test_what_is_given_back_to_one_who_owes_nothing_helps_nobody_later() -> None:
    table = a_table()
    only(table, 0.0, an_ask(cost=5))
    table.give_back(60.0, "a", (FIVE, 5))
    assert len(table) == 0
    only(table, 60.0, an_ask(cost=5))
    assert only(table, 60.0, an_ask()).retry_s == pytest.approx(12.0, abs=3e-6)


def test_a_charge_beyond_the_rate_is_owed_for_no_longer_than_a_period() -> None:
    table = a_table()
    only(table, 0.0, an_ask(cost=1))
    table.give_back(0.0, "a", (FIVE, -2))
    assert only(table, 0.0, an_ask(cost=0)).remaining == 2
    table.give_back(0.0, "a", (FIVE, -1_000))
    refused = only(table, 0.0, an_ask())
    assert refused.retry_s == pytest.approx(12.0, abs=3e-6)
    assert only(table, refused.retry_s, an_ask()).passed


def test_a_charge_counts_from_now_on_and_not_from_when_the_account_was_last_seen() -> None:
    table = a_table()
    only(table, 0.0, an_ask(cost=1))
    table.give_back(50.0, "a", (FIVE, -2))
    assert only(table, 50.0, an_ask(cost=0)).remaining == 3


def test_a_rate_that_was_made_more_generous_helps_at_once() -> None:
    table, daily = a_table(), Rate(amount=5, period_s=86_400.0)
    only(table, 0.0, an_ask(cost=5, rate=daily))
    assert only(table, 0.0, an_ask()).retry_s == pytest.approx(12.0, abs=3e-6)
    assert only(table, 12.1, an_ask()).passed


def test_whoever_owes_nothing_makes_room_before_anybody_else_is_kept_out() -> None:
    table = a_table(10)
    for number in range(10):
        only(table, float(number), an_ask(f"early-{number}", rate=Rate(amount=1, period_s=10.0)))
    for number in range(10):
        found = only(table, 10.0 + number, an_ask(f"late-{number}", cost=5))
        assert found.name == f"late-{number}"
        assert len(table) <= 10
    assert len(table) == 10


def test_a_flood_of_strangers_makes_nobody_forgotten_and_the_table_no_larger() -> None:
    table = a_table(100)
    for number in range(100):
        assert only(table, 0.0, an_ask(f"debtor-{number}", cost=5)).passed
    passed = sum(only(table, 1.0, an_ask(f"stranger-{number}")).passed for number in range(10_000))
    assert passed == FIVE.amount, "together they get what one gets"
    assert len(table) == 101
    for number in range(100):
        assert not only(table, 1.0, an_ask(f"debtor-{number}")).passed
    assert only(table, 200.0, an_ask("stranger-1")).name == "stranger-1"


def test_one_that_is_known_is_counted_alone_in_a_full_table() -> None:
    table = a_table(2)
    only(table, 0.0, an_ask("a"))
    only(table, 0.0, an_ask("b"))
    only(table, 0.0, an_ask("stranger", cost=5))
    assert only(table, 0.0, an_ask("a", cost=4)).passed
    assert not only(table, 0.0, an_ask("other")).passed


def test_what_a_stranger_gives_back_goes_to_those_it_was_counted_with() -> None:
    table = a_table(1)
    only(table, 0.0, an_ask("debtor", cost=5))
    taken = only(table, 0.0, an_ask("stranger", cost=5))
    assert taken.name == "crowd"
    table.give_back(0.0, taken.name, (FIVE, 2))
    assert only(table, 0.0, an_ask("another", cost=0)).remaining == 2
    table.give_back(0.0, "stranger", (FIVE, -5))
    assert len(table) == 2


def test_one_row_in_a_full_table_that_owes_nothing_is_found_among_many() -> None:
    table = a_table(1_000)
    for number in range(1_000):
        rate = FIVE if number == 700 else Rate(amount=5, period_s=6_000.0)
        only(table, 0.0, an_ask(f"debtor-{number}", rate=rate))
    names = [only(table, 100.0, an_ask(f"late-{number}")).name for number in range(20)]
    assert "crowd" in names
    assert any(name.startswith("late-") for name in names)
    assert len(table) == 1_001


def test_a_table_that_may_be_larger_takes_newcomers_and_a_smaller_one_forgets_no_debtor() -> None:
    table = a_table(2)
    for name in ("a", "b", "c"):
        only(table, 0.0, an_ask(name, cost=5))
    table.resize(4)
    assert only(table, 0.0, an_ask("d")).name == "d"
    table.resize(1)
    assert not only(table, 0.0, an_ask("a")).passed
    assert only(table, 0.0, an_ask("e", cost=0)).name == "crowd"
