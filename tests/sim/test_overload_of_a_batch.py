"""Open-loop overload of a batch that reads in chunks, whose requests are all alike.

They begin together and end together, which is the hardest case for a forecast by averages.
The costs are those of the default model on two cores; the drill `overload` does the same to
the real one.
"""

import pytest

from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.limit import FixedLimit
from forebay.policy.step_costs import StepCosts
from tests.support.seeds import seeds
from tests.support.simulated_batch import SimulatedBatch
from tests.support.simulated_door import Caller, Stream, percentile
from tests.support.simulated_lane import Shape

COSTS = StepCosts(step_s=0.013, sequence_s=0.0008, read_s=0.0006)
PLACES = 64
SHAPE = Shape(places=PLACES, prompt_tokens=(50, 54), completion_tokens=(24, 24))
HANDS = (8, 16, 32)
STORM_S = 20.0
TTFT_S = AdmissionConfig().interactive_ttft_s


def a_batch(seed: int, *, places: int = PLACES, known: bool = True) -> SimulatedBatch:
    limit = FixedLimit(places)
    return SimulatedBatch(seed, shape=SHAPE, costs=COSTS, limit=limit, known=known)


def peak_per_s() -> float:
    return max(a_batch(0, places=hands).closed(20.0, hands) for hands in HANDS)


def stormed(batch: SimulatedBatch, times: float) -> list[Caller]:
    """Return who came in a storm of so many times the peak."""
    peak, begins = peak_per_s(), batch.now
    batch.run(STORM_S, [Stream(per_s=times * peak, returning=0.1)])
    ends = batch.now
    batch.run(30.0, [Stream(per_s=0.2 * peak)])
    return batch.seen.between(begins, ends)


def good_ratio(callers: list[Caller]) -> float:
    good = [each for each in callers if each.ttft_s <= TTFT_S and each.ended is not None]
    return len(good) / STORM_S / peak_per_s()


def ttft_s_p99(callers: list[Caller]) -> float:
    return percentile([each.ttft_s for each in callers if each.first is not None], 0.99)


@pytest.mark.parametrize(("times", "floor"), [(3, 0.95), (10, 0.90), (50, 0.80)])
@pytest.mark.parametrize("fresh", [True, False])
def test_under_overload_goodput_holds_from_the_first_burst_on(
    times: float, floor: float, *, fresh: bool
) -> None:
    for seed in seeds(2):
        batch = a_batch(seed)
        if not fresh:
            batch.closed(10.0, 32)
        batch.run(5.0, [Stream(per_s=4.0)])
        callers = stormed(batch, times)
        assert good_ratio(callers) >= floor, f"seed {seed}"
        assert ttft_s_p99(callers) <= 2 * TTFT_S, f"seed {seed}"


def test_next_to_nobody_waits_in_vain() -> None:
    for seed in seeds(2):
        callers = stormed(a_batch(seed), 10)
        away = [each for each in callers if each.outcome in {"refused", "expired", "displaced"}]
        assert sum(each.outcome != "refused" for each in away) <= 0.01 * len(away), f"seed {seed}"


def test_who_comes_back_when_told_to_is_served_however_many_were_told() -> None:
    for seed in seeds(2):
        back = [each for each in stormed(a_batch(seed), 50) if each.back]
        assert len(back) > 20, f"seed {seed}"
        assert sum(each.outcome == "served" for each in back) >= 0.8 * len(back), f"seed {seed}"


def test_an_engine_whose_costs_are_unknown_is_overrun_by_the_first_burst() -> None:
    batch = a_batch(0, known=False)
    assert good_ratio(stormed(batch, 10)) < 0.80
