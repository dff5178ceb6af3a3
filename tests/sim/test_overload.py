"""Open-loop overload through the real door before a simulated batch: what is promised holds."""

from typing import Any

import pytest

from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.limit import AimdLimit
from tests.support.seeds import seeds
from tests.support.simulated_door import Caller, Seen, SimulatedDoor, Stream, percentile
from tests.support.simulated_lane import Shape

SHAPE = Shape()
CAPACITY_PER_S = SHAPE.capacity()
WARM_S, STORM_S = 20.0, 40.0
TTFT_S = AdmissionConfig().interactive_ttft_s


def overloaded(
    seed: int, times: float, config: AdmissionConfig | None = None, **facts: Any
) -> tuple[SimulatedDoor, list[Caller]]:
    """Return the door after a storm of so many times the capacity, and who came in it."""
    door = SimulatedDoor(seed, SHAPE, config)
    door.run(WARM_S, [Stream(per_s=0.7 * CAPACITY_PER_S)])
    door.run(STORM_S, [Stream(per_s=times * CAPACITY_PER_S, **facts)])
    return door, door.seen.between(WARM_S, WARM_S + STORM_S)


def good_ratio(callers: list[Caller]) -> float:
    """Return requests that had their first token in time, as a share of what could have."""
    good = sum(caller.ttft_s <= TTFT_S for caller in callers)
    return good / STORM_S / CAPACITY_PER_S


def ttft_s_p99(callers: list[Caller]) -> float:
    """Return the time to first token of those who were let in."""
    return percentile([caller.ttft_s for caller in callers if caller.first is not None], 0.99)


@pytest.mark.parametrize(("times", "floor"), [(3, 0.95), (10, 0.90), (50, 0.80)])
def test_under_overload_the_work_done_in_time_stays_near_the_peak(
    times: float, floor: float
) -> None:
    for seed in seeds(3):
        _, callers = overloaded(seed, times)
        assert good_ratio(callers) >= floor, f"seed {seed}"
        assert ttft_s_p99(callers) <= 2 * TTFT_S, f"seed {seed}"


def test_a_retry_at_the_told_moment_is_served_in_time() -> None:
    for seed in seeds(3):
        _, callers = overloaded(seed, 10, returning=1.0)
        back = [caller for caller in callers if caller.back]
        served = sum(caller.ttft_s <= TTFT_S for caller in back)
        assert len(back) > 50, f"seed {seed}"
        assert served / len(back) >= 0.8, f"seed {seed}"


def test_after_a_storm_everything_is_normal_within_five_seconds() -> None:
    for seed in seeds(3):
        door, _ = overloaded(seed, 10)
        over = door.now
        door.run(25.0, [Stream(per_s=0.5 * CAPACITY_PER_S)])
        callers = door.seen.between(over + 5.0, over + 20.0)
        assert all(caller.outcome == "served" for caller in callers), f"seed {seed}"
        assert ttft_s_p99(callers) <= 0.7, f"seed {seed}"


def test_without_a_forecast_a_standing_queue_is_bounded_all_the_same() -> None:
    config = AdmissionConfig(forecast=False)
    for seed in seeds(3):
        _, callers = overloaded(seed, 3, config)
        assert good_ratio(callers) >= 0.9, f"seed {seed}"
        assert ttft_s_p99(callers) <= 2 * TTFT_S, f"seed {seed}"


def test_nobody_is_run_who_cannot_be_finished_in_time() -> None:
    for seed in seeds(3):
        _, callers = overloaded(seed, 3, patience_s=4.0)
        let_in = [caller for caller in callers if caller.ticket and caller.first is not None]
        late = [c for c in let_in if c.ended is not None and c.ended > c.request.deadline]
        assert len(late) / len(let_in) <= 0.1, f"seed {seed}: {len(late)} of {len(let_in)}"


def test_a_lane_that_gets_three_times_slower_keeps_its_word() -> None:
    for seed in seeds(3):
        door, _ = overloaded(seed, 3)
        door.slower = 3.0
        slow = door.now
        door.run(60.0, [Stream(per_s=CAPACITY_PER_S)])
        callers = door.seen.between(slow + 15.0, slow + 60.0)
        assert ttft_s_p99(callers) <= 2 * TTFT_S, f"seed {seed}"
        good = sum(caller.ttft_s <= TTFT_S for caller in callers) / 45.0
        assert good >= 0.8 * CAPACITY_PER_S / 3.0, f"seed {seed}"


def test_a_limit_that_adapts_keeps_each_token_near_its_target() -> None:
    shape = Shape(places=64, step_more_s=0.004)
    target_s = 0.1
    for seed in seeds(3):
        limit = AimdLimit(shape.places, first_token_s=2.0, tpot_s=target_s)
        door = SimulatedDoor(seed, shape, limit=limit)
        door.run(120.0, [Stream(per_s=3 * shape.capacity())])
        tpots = [tpot_s(caller) for caller in door.seen.between(60.0, 110.0)]
        middle = percentile([each for each in tpots if each is not None], 0.5)
        assert 0.5 * target_s <= middle <= 1.1 * target_s, f"seed {seed}: {middle}"
        assert 1 <= limit.current < shape.places


def tpot_s(caller: Caller) -> float | None:
    if caller.ended is None or caller.first is None:
        return None
    return (caller.ended - caller.first) / max(1, caller.completion_tokens - 1)


def test_the_judge_sees_a_door_that_lets_everybody_wait() -> None:
    forgetful = AdmissionConfig(forecast=False, standing_s=3_600.0, waiting_max=10_000)
    _, callers = overloaded(0, 10, forgetful)
    assert good_ratio(callers) < 0.8
    assert Seen(callers=callers).between(0.0, 1.0) == []
