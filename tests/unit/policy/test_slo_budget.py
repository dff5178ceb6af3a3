"""What is left of an error budget, and how fast it goes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.policy.slo import Burn, Goal, Measure, Spec
from forebay.policy.slo_budget import Budget, Events, Window

GOAL = Goal(name="availability", measure=Measure.AVAILABILITY, goal=0.9)
FAST = Burn(alert="ErrorBudgetBurnFast", severity="page", rate=5.0, long_s=3_600, short_s=300)
SPEC = Spec(service="s", window_s=86_400, goals=(GOAL,), burns=(FAST,))


def budget() -> Budget:
    return Budget(GOAL, SPEC)


def test_nothing_is_spent_where_nothing_happened() -> None:
    fresh = budget()
    assert fresh.left(now=0.0) == 1.0
    assert all(events.burn(GOAL) == 0.0 for events in fresh.over(now=0.0).values())


def test_a_tenth_bad_where_a_tenth_may_be_spends_it_all() -> None:
    one = budget()
    one.add(0.0, Events(good=90, bad=10))
    assert one.left(now=1.0) == pytest.approx(0.0)
    assert one.over(now=1.0)[300].burn(GOAL) == pytest.approx(1.0)
    one.add(1.0, Events(bad=10))
    assert one.left(now=1.0) < 0


def test_what_is_older_than_a_window_is_not_in_it() -> None:
    one = budget()
    one.add(0.0, Events(bad=7))
    assert one.over(now=290.0)[300] == Events(bad=7)
    assert one.over(now=301.0)[300] == Events()
    assert one.over(now=301.0)[3_600] == Events(bad=7)
    assert one.total == Events(bad=7)


def test_a_window_holds_the_same_however_long_ago_it_was_looked_at() -> None:
    window = Window(60.0)
    window.add(0.0, Events(good=1))
    window.add(1e6, Events(good=2))
    assert window.events(1e6) == Events(good=2)
    assert window.events(1e9) == Events()


def test_a_clock_that_goes_back_loses_nothing() -> None:
    window = Window(60.0)
    window.add(100.0, Events(bad=1))
    window.add(99.0, Events(bad=1))
    assert window.events(98.0) == Events(bad=2)


@given(
    st.lists(st.tuples(st.floats(0.0, 500.0), st.booleans()), max_size=200),
    st.floats(500.0, 700.0),
)
def test_a_window_counts_what_a_list_of_all_events_would(
    events: list[tuple[float, bool]], now: float
) -> None:
    window, slot_s = Window(60.0), 1.0
    for at, well in sorted(events):
        window.add(at, Events(good=int(well), bad=int(not well)))
    # The oldest slot may be gone in part: it covers at least 59 of 60 seconds, at most 60.
    found = window.events(now)
    least = sum(at > now - 60.0 + slot_s for at, _ in events)
    most = sum(at > now - 60.0 - slot_s for at, _ in events)
    assert least <= found.total <= most


def burning(one: Budget, now: float) -> list[str]:
    return list(one.burning(now))


def test_an_alert_burns_while_both_windows_do() -> None:
    one = budget()
    one.add(0.0, Events(good=4, bad=6))
    assert burning(one, 1.0) == ["ErrorBudgetBurnFast"]
    # Of the last five minutes all was well: the long window alone tells nobody.
    one.add(600.0, Events(good=1))
    assert one.over(600.0)[3_600].burn(GOAL) > FAST.rate
    assert burning(one, 600.0) == []


def test_four_failures_are_no_alert_and_five_are() -> None:
    one = budget()
    one.add(0.0, Events(bad=4))
    assert burning(one, 1.0) == []
    one.add(1.0, Events(bad=1))
    assert burning(one, 1.0) == ["ErrorBudgetBurnFast"]


def test_just_as_fast_as_may_be_is_not_too_fast() -> None:
    # Numbers that are exact in binary, so that the bound itself is met.
    goal, burn = replace(GOAL, goal=0.5), replace(FAST, rate=1.5)
    one = Budget(goal, replace(SPEC, goals=(goal,), burns=(burn,)))
    one.add(0.0, Events(good=25, bad=75))
    assert one.over(0.0)[300].burn(goal) == burn.rate
    assert burning(one, 0.0) == []
    one.add(0.0, Events(bad=1))
    assert burning(one, 0.0) == [burn.alert]
