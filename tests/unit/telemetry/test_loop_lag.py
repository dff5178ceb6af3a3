import asyncio
from collections.abc import Callable
from typing import cast

from forebay.core.clock import ManualClock
from forebay.telemetry.loop_lag import PERIOD_S, LoopLag


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
