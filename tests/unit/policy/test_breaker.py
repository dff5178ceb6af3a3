import pytest

from forebay.policy.breaker import Breaker, BreakerState


def a_breaker(failures_max: int = 3, rest_s: float = 0.5) -> Breaker:
    return Breaker(failures_max=failures_max, rest_s=rest_s)


def an_open_one(now: float = 0.0, rest_s: float = 0.5) -> Breaker:
    breaker = a_breaker(failures_max=1, rest_s=rest_s)
    assert breaker.failed(now)
    return breaker


def test_it_opens_at_the_third_failure_in_a_row_and_not_before() -> None:
    breaker = a_breaker()
    assert [breaker.failed(float(moment)) for moment in range(3)] == [False, False, True]
    assert breaker.state is BreakerState.OPEN
    assert breaker.opened == 2.0


def test_a_success_forgives_only_a_little() -> None:
    breaker = a_breaker(failures_max=2)
    assert not breaker.failed(0.0)
    breaker.succeeded()
    assert not breaker.failed(1.0)
    assert breaker.failed(2.0)


def test_ten_successes_forgive_one_failure() -> None:
    breaker = a_breaker(failures_max=2)
    for _ in range(20):
        assert not breaker.failed(0.0)
        for _ in range(10):
            breaker.succeeded()
    assert breaker.closed


def test_one_that_fails_every_fifth_time_opens_too() -> None:
    breaker = a_breaker()
    asked = 0
    while breaker.closed:
        asked += 1
        assert asked < 100
        if asked % 5:
            breaker.succeeded()
        else:
            breaker.failed(float(asked))
    assert asked >= 15


def test_successes_without_failures_earn_no_credit() -> None:
    breaker = a_breaker()
    for _ in range(1_000):
        breaker.succeeded()
    assert [breaker.failed(0.0) for _ in range(3)] == [False, False, True]


def test_no_probe_goes_out_before_the_rest_is_over() -> None:
    breaker = an_open_one(now=10.0)
    assert breaker.probe_in_s(10.2) == pytest.approx(0.3)
    assert not breaker.probe(10.4)
    assert breaker.probe(10.5)


def test_only_one_probe_is_out_at_a_time() -> None:
    breaker = an_open_one()
    assert breaker.probe(1.0)
    assert not breaker.probe(1.0)
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.closed


def test_an_answered_probe_closes_and_forgives_everything() -> None:
    breaker = an_open_one()
    breaker.probe(1.0)
    breaker.probed(1.0, answered=True)
    assert breaker.closed
    assert breaker.opened is None
    assert not a_probe_is_possible(breaker, 100.0)


def test_a_failed_probe_means_another_rest_from_then() -> None:
    breaker = an_open_one(now=0.0)
    breaker.probe(1.0)
    breaker.probed(1.1, answered=False)
    assert not a_probe_is_possible(breaker, 1.5)
    assert a_probe_is_possible(breaker, 1.6)
    assert breaker.opened == 0.0


def test_late_failures_and_successes_change_nothing_once_it_is_open() -> None:
    breaker = an_open_one(now=0.0)
    assert not breaker.failed(0.4)
    breaker.succeeded()
    assert breaker.state is BreakerState.OPEN
    assert breaker.probe_in_s(0.4) == pytest.approx(0.1)


def test_a_closed_one_is_never_probed() -> None:
    assert not a_probe_is_possible(a_breaker(), 100.0)


def a_probe_is_possible(breaker: Breaker, now: float) -> bool:
    return breaker.probe(now)
