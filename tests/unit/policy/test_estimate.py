import random
from collections.abc import Callable

import pytest

from forebay.policy.estimate import Mean, Span, Trend


def noisy(level: float, dice: random.Random) -> float:
    return level * dice.uniform(0.7, 1.3)


def a_mean(level: float, dice: random.Random, count: int = 200) -> Mean:
    mean = Mean()
    for _ in range(count):
        mean.learn(noisy(level, dice))
    return mean


def test_a_mean_knows_nothing_at_first() -> None:
    assert Mean().value is None
    assert Mean().expect(7.0) == 7.0


def test_a_mean_of_scattered_observations_is_close() -> None:
    dice = random.Random(1)
    mean = Mean()
    for _ in range(500):
        mean.learn(dice.expovariate(0.5))
    assert mean.value == pytest.approx(2.0, rel=0.25)


@pytest.mark.parametrize("seed", range(50))
def test_one_wild_observation_moves_a_mean_by_less_than_a_tenth(seed: int) -> None:
    mean = a_mean(2.0, random.Random(seed))
    before = mean.expect(0.0)
    mean.learn(before * 100.0)
    assert mean.expect(0.0) < before * 1.1


@pytest.mark.parametrize("factor", [3.0, 1 / 3, 10.0])
@pytest.mark.parametrize("seed", range(20))
def test_a_mean_follows_a_change_within_twenty_observations(factor: float, seed: int) -> None:
    dice = random.Random(seed)
    mean = a_mean(2.0, dice)
    for _ in range(20):
        mean.learn(noisy(2.0 * factor, dice))
    assert mean.value == pytest.approx(2.0 * factor, rel=0.2)


def a_line(dice: random.Random, y: Callable[[float], float]) -> Trend:
    line = Trend()
    for _ in range(300):
        x = dice.uniform(10.0, 200.0)
        line.learn(x, noisy(y(x), dice))
    return line


@pytest.mark.parametrize("seed", range(20))
def test_a_line_is_found_in_a_cloud(seed: int) -> None:
    line = a_line(random.Random(seed), lambda x: 5.0 + 0.2 * x)
    assert line.expect(20.0, 0.0) == pytest.approx(9.0, rel=0.25)
    assert line.expect(180.0, 0.0) == pytest.approx(41.0, rel=0.25)


@pytest.mark.parametrize("seed", range(50))
def test_one_wild_observation_moves_a_line_by_less_than_a_tenth(seed: int) -> None:
    line = a_line(random.Random(seed), lambda x: 5.0 + 0.2 * x)
    before = line.expect(100.0, 0.0)
    line.learn(100.0, before * 100.0)
    assert line.expect(100.0, 0.0) == pytest.approx(before, rel=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_a_line_that_grows_threefold_does_so_at_points_not_seen_since(seed: int) -> None:
    dice = random.Random(seed)
    line = a_line(dice, lambda x: 5.0 + 0.2 * x)
    for _ in range(20):
        line.learn(50.0, noisy(45.0, dice))
    assert line.expect(50.0, 0.0) == pytest.approx(45.0, rel=0.2)
    assert line.expect(180.0, 0.0) == pytest.approx(123.0, rel=0.35)


def test_a_line_never_grows_faster_than_x_and_never_falls() -> None:
    dice = random.Random(3)
    for y in (lambda x: 100.0 - 0.4 * x, lambda x: 0.001 * x * x):
        line = a_line(dice, y)
        assert line.expect(0.0, 0.0) >= 0.0
        assert line.expect(200.0, 0.0) >= line.expect(20.0, 0.0)


def test_what_is_seen_at_one_end_of_a_span_says_next_to_nothing_of_the_other() -> None:
    span = Span((1.0, 0.015), (64.0, 0.1))
    for _ in range(2_000):
        span.learn(2.0, 0.005)
    assert span.expect(2.0, 0.0) == pytest.approx(0.005, rel=0.1)
    assert span.expect(64.0, 0.0) == pytest.approx(0.1, rel=0.25)


def test_a_span_follows_what_is_seen_at_each_end() -> None:
    dice, span = random.Random(3), Span((1.0, 0.015), (64.0, 0.1))
    for _ in range(500):
        x = dice.choice((1.0, 20.0, 64.0))
        span.learn(x, noisy(0.03 + 0.004 * x, dice))
    for x in (1.0, 20.0, 64.0):
        assert span.expect(x, 0.0) == pytest.approx(0.03 + 0.004 * x, rel=0.25)


def test_above_its_upper_end_a_span_goes_straight_on_and_below_the_lower_it_is_level() -> None:
    span = Span((1.0, 0.5), (3.0, 1.5))
    assert (span.expect(0.0, 9.0), span.expect(11.0, 9.0)) == (0.5, 5.5)


def test_what_is_seen_far_above_a_span_does_not_spoil_what_lies_within() -> None:
    dice, span = random.Random(4), Span((1.0, 0.011), (512.0, 0.522))
    for _ in range(1_000):
        x = dice.choice((100.0, 100.0, 100.0, 4_000.0))
        span.learn(x, noisy(0.01 + x * 0.001, dice))
    for x in (100.0, 400.0, 4_000.0):
        assert span.expect(x, 0.0) == pytest.approx(0.01 + x * 0.001, rel=0.25)


def test_a_span_tells_around_which_x_it_was_seen_of_late() -> None:
    span = Span((1.0, 0.5), (64.0, 1.5))
    assert span.middle == 64.0
    for _ in range(200):
        span.learn(4.0, 0.55)
    assert span.middle == pytest.approx(4.0, rel=0.1)


def test_a_span_of_one_place_is_a_level() -> None:
    span = Span((1.0, 0.5), (1.0, 0.5))
    span.learn(1.0, 0.6)
    assert 0.5 < span.expect(1.0, 0.0) < 0.6
