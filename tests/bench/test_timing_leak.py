"""The measurement of timing sees a leak, and sees none where there is none."""

import random

import pytest

from benchmarks import timing_leak


def test_a_difference_is_seen_and_none_is_not() -> None:
    draw = random.Random(1)
    one, same = ([draw.gauss(100, 10) for _ in range(5_000)] for _ in range(2))
    slower = [draw.gauss(102, 10) for _ in range(5_000)]
    assert abs(timing_leak.welch_t(one, same)) < timing_leak.T_MAX
    assert timing_leak.welch_t(one, slower) < -timing_leak.T_MAX


def test_welchs_t_is_what_the_books_say() -> None:
    # Means 2 and 4, variances 1 and 4: -2 / sqrt(1/3 + 4/3).
    assert timing_leak.welch_t([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(-1.5492, abs=1e-4)
    assert timing_leak.welch_t([1.0, 1.0], [1.0, 1.0]) == 0.0


def test_the_slowest_tenth_is_left_out() -> None:
    assert timing_leak.cropped(list(range(100, 0, -1))) == [float(each) for each in range(1, 91)]


@pytest.mark.slow
def test_the_control_is_seen_and_every_pair_is_measured() -> None:
    found = timing_leak.run(samples=400, passwords=40)
    *pairs, control = found["comparisons"]
    assert control["control"]
    assert control["passed"], "a comparison that leaks on purpose was not seen"
    assert len(pairs) == 5
    assert "key: id known, id unknown" in timing_leak.report(found)
