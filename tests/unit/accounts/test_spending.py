from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.accounts.spending import (
    Budget,
    Charged,
    Most,
    Period,
    Settlement,
    Share,
    Unit,
    Usage,
    Window,
    full,
    reserve,
    window_of,
)
from forebay.core.caller import Level

DAY_S = 86_400
NOON = int(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp())
MIDNIGHT = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp())
FIRST = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())


def a_budget(limit: int = 1_000, **facts: object) -> Budget:
    known: dict[str, object] = {
        "id": 1,
        "of": Charged(level=Level.USER, account="ada"),
        "unit": Unit.TOKENS,
        "period": Period.DAY,
        "limit": limit,
        "window_start": MIDNIGHT - DAY_S,
        "spent": 0,
        "reserved": 0,
    }
    return Budget(**(known | facts))  # type: ignore[arg-type]


def tokens(count: int, nanos: int = 0) -> Most:
    return Most(tokens=count, nanos=nanos)


def test_a_day_is_a_day_of_the_utc_calendar() -> None:
    assert window_of(Period.DAY, NOON) == Window(start=MIDNIGHT - DAY_S, end=MIDNIGHT)
    assert window_of(Period.DAY, MIDNIGHT).start == MIDNIGHT
    assert window_of(Period.DAY, MIDNIGHT - 1).end == MIDNIGHT


def test_a_month_is_a_month_of_the_utc_calendar() -> None:
    window = window_of(Period.MONTH, NOON)
    assert datetime.fromtimestamp(window.start, UTC).isoformat() == "2026-11-01T00:00:00+00:00"
    assert window.end == FIRST
    assert window_of(Period.MONTH, FIRST).start == FIRST


@given(st.integers(0, 4_102_444_800), st.sampled_from(Period))
def test_windows_join_without_gap_or_overlap(at: int, period: Period) -> None:
    window = window_of(period, at)
    assert window.start <= at < window.end
    assert window_of(period, window.end).start == window.end
    assert window_of(period, window.end - 1) == window


@pytest.mark.parametrize(("asked", "fits"), [(400, True), (401, False), (0, True)])
def test_what_is_spent_and_reserved_counts_against_the_limit(asked: int, fits: bool) -> None:
    budget = a_budget(1_000, spent=500, reserved=100)
    assert (full([budget], tokens(asked), NOON) is None) is fits


def test_the_budget_that_is_full_for_longest_is_named() -> None:
    day = a_budget(10, spent=10)
    month = a_budget(100, id=2, period=Period.MONTH, spent=99)
    found = full([day, month], tokens(5), NOON)
    assert found is not None
    assert (found.period, found.remaining, found.asked) == (Period.MONTH, 1, 5)
    assert found.resets_in_s == FIRST - NOON


def test_what_costs_nothing_in_a_unit_is_not_refused_in_it() -> None:
    money = a_budget(0, unit=Unit.NANOS)
    assert full([money], tokens(5), NOON) is None
    assert reserve([money], tokens(5)) == ()
    assert full([money], tokens(5, nanos=1), NOON) is not None


def test_each_budget_holds_the_amount_in_its_own_unit() -> None:
    both = [a_budget(100), a_budget(10_000, id=2, unit=Unit.NANOS)]
    shares = reserve(both, tokens(5, nanos=750))
    assert [(share.budget_id, share.amount) for share in shares] == [(1, 5), (2, 750)]
    assert [budget.reserved for budget in both] == [5, 750]


def test_a_window_that_has_ended_begins_anew() -> None:
    budget = a_budget(100, spent=60, reserved=40)
    budget.roll(MIDNIGHT - 1)
    assert budget.remaining == 0
    budget.roll(MIDNIGHT)
    assert (budget.remaining, budget.window_start) == (100, MIDNIGHT)
    assert budget.resets_at == MIDNIGHT + DAY_S


def test_a_clock_that_goes_back_opens_no_spent_window() -> None:
    budget = a_budget(100, window_start=MIDNIGHT, spent=60)
    budget.roll(NOON)
    assert (budget.window_start, budget.spent) == (MIDNIGHT, 60)


def test_what_was_reserved_before_midnight_is_not_in_the_way_after_it() -> None:
    budget = a_budget(100)
    (share,) = reserve([budget], tokens(90))
    budget.roll(MIDNIGHT)
    reserve([budget], tokens(50))
    budget.give_back(share)
    budget.spend(80, share.window_start)
    assert (budget.spent, budget.reserved) == (0, 50)


def test_a_lowered_limit_leaves_nothing_and_never_less() -> None:
    assert a_budget(10, spent=60).remaining == 0


def test_a_settlement_without_usage_has_cost_nothing() -> None:
    assert Settlement(id="a").spent == tokens(0)


def test_a_settlement_has_cost_what_its_row_says() -> None:
    usage = Usage(
        id="a",
        request_id="r",
        at=NOON,
        tenant="t",
        user="u",
        key_id="k",
        model="m",
        outcome="ok",
        prompt_tokens=3,
        completion_tokens=4,
        nanos=5,
    )
    assert Settlement(id="a", usage=usage).spent == tokens(7, nanos=5)


@given(
    st.integers(0, 1_000),
    st.lists(
        st.tuples(st.sampled_from(["ask", "settle", "roll"]), st.integers(0, 300)), max_size=80
    ),
)
def test_whatever_happens_no_window_spends_more_than_its_limit(
    limit: int, steps: list[tuple[str, int]]
) -> None:
    budget, now, held = a_budget(limit), NOON, list[Share]()
    by_window: dict[int, int] = {}
    for what, number in steps:
        budget.roll(now)
        if what == "ask" and full([budget], tokens(number), now) is None:
            held += reserve([budget], tokens(number))
        elif what == "settle" and held:
            share = held.pop(number % len(held))
            spent = min(number, share.amount)
            budget.give_back(share)
            budget.spend(spent, share.window_start)
            by_window[share.window_start] = by_window.get(share.window_start, 0) + spent
        elif what == "roll":
            now += number * 1_000
        here = [share.amount for share in held if share.window_start == budget.window_start]
        assert budget.reserved == sum(here)
        assert budget.spent == by_window.get(budget.window_start, 0)
        assert budget.spent + budget.reserved <= limit
    assert all(spent <= limit for spent in by_window.values())
