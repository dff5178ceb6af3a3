import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from forebay.core.clock import ManualClock
from forebay.telemetry.loop_lag import PERIOD_S, STALL_S_MIN, LoopLag


class Timer:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeLoop:
    """Keeps the one timer that is set, and rings it when told to."""

    def __init__(self) -> None:
        self.timer = Timer()
        self.ring: Callable[[], None] = lambda: None

    def call_later(self, _delay_s: float, callback: Callable[..., None], *args: object) -> Timer:
        self.ring = lambda: callback(*args)
        return self.timer


def a_lag() -> tuple[LoopLag, FakeLoop, ManualClock]:
    clock, loop = ManualClock(), FakeLoop()
    lag = LoopLag(clock)
    lag.start(cast("asyncio.AbstractEventLoop", loop))
    return lag, loop, clock


def ring_after(loop: FakeLoop, clock: ManualClock, by_s: float) -> None:
    clock.advance(by_s)
    loop.ring()


def test_the_worst_ring_since_the_last_reading_is_told() -> None:
    lag, loop, clock = a_lag()
    for late_s in (0.25, 0.5, 0.125):
        ring_after(loop, clock, PERIOD_S + late_s)
    assert lag.take() == 0.5
    assert lag.take() == 0.0


def test_a_ring_that_is_early_is_no_lag() -> None:
    lag, loop, clock = a_lag()
    ring_after(loop, clock, PERIOD_S / 2)
    assert lag.take() == 0.0


def test_nothing_rings_after_the_stop() -> None:
    lag, loop, _ = a_lag()
    lag.stop()
    assert loop.timer.cancelled


def test_a_late_ring_tells_of_a_stall_from_when_it_was_due() -> None:
    lag, loop, clock = a_lag()
    ring_after(loop, clock, PERIOD_S + 0.5)
    assert lag.stalled_s(0.0, clock()) == pytest.approx(0.5)
    assert lag.stalled_s(PERIOD_S + 0.25, clock()) == pytest.approx(0.25)
    assert lag.stalled_s(0.0, PERIOD_S + 0.25) == pytest.approx(0.25)
    assert lag.stalled_s(clock(), clock()) == 0.0


def test_stalls_add_up_over_a_life() -> None:
    lag, loop, clock = a_lag()
    for late_s in (0.5, 0.0, 0.25):
        ring_after(loop, clock, PERIOD_S + late_s)
    assert lag.stalled_s(0.0, clock()) == pytest.approx(0.75)


def test_a_ring_that_is_hardly_late_tells_of_none() -> None:
    lag, loop, clock = a_lag()
    ring_after(loop, clock, PERIOD_S + STALL_S_MIN / 2)
    assert lag.stalled_s(0.0, clock()) == 0.0


def test_a_stall_that_still_goes_on_counts() -> None:
    lag, _, clock = a_lag()
    clock.advance(PERIOD_S + 0.5)
    assert lag.stalled_s(0.0, clock()) == pytest.approx(0.5)
    assert lag.overdue_s(clock()) == pytest.approx(0.5)
    assert lag.before_s(clock()) == pytest.approx(0.5)


def test_what_is_read_right_after_a_stall_may_have_come_in_it_and_later_not() -> None:
    lag, loop, clock = a_lag()
    assert lag.before_s(clock()) == 0.0
    ring_after(loop, clock, PERIOD_S + 0.5)
    clock.advance(PERIOD_S / 2)
    assert lag.before_s(clock()) == pytest.approx(0.5 + PERIOD_S / 2)
    ring_after(loop, clock, PERIOD_S / 2)
    assert lag.before_s(clock()) == 0.0


def test_only_so_many_stalls_are_remembered() -> None:
    lag, loop, clock = a_lag()
    for _ in range(5_000):
        ring_after(loop, clock, PERIOD_S + 0.25)
    assert 0.0 < lag.stalled_s(0.0, clock()) < 5_000 * 0.25


def test_a_loop_that_is_measured_no_more_stalls_no_more() -> None:
    lag, _, clock = a_lag()
    lag.stop()
    clock.advance(10.0)
    assert lag.stalled_s(0.0, clock()) == lag.before_s(clock()) == 0.0
