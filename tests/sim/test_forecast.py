"""Overload on a virtual clock: how true forecasts are, and whether promises hold."""

import dataclasses
import random

import pytest

from forebay.policy.forecast import Crowd, Expectation, Forecast, Work
from forebay.policy.promises import PromiseBook
from tests.support.seeds import SEEDS_MIN, seeds
from tests.support.simulated_lane import Shape, SimulatedLane

LOADS = (0.5, 3.0, 10.0, 50.0)
SHAPES = {
    "16 places": Shape(),
    "4 places": Shape(places=4),
    "32 places": Shape(places=32, step_more_s=0.0004),
    "answers alike": Shape(completion_tokens=(60, 60)),
    "nobody returns": Shape(returning=0.0),
    "a third returns": Shape(returning=0.3),
}
READING = Shape(
    places=64,
    step_s=0.02,
    step_more_s=0.0003,
    prompt_tokens_per_step=120,
    completion_tokens=(24, 24),
    one_prompt_at_a_time=True,
    returning=0.0,
)
"""An engine that spends its time on prompts: its places are never what is scarce."""
SEEDS = 3
CALM_S, OVERLOAD_S = 20.0, 40.0
PROVING_S = 10.0
"""Who comes back is known once the first promises have ended, 5 s of grace after their moment."""


def a_book(kind: type[PromiseBook] = PromiseBook) -> PromiseBook:
    return kind(promises_max=65_536, grace_s=5.0, horizon_s=120.0, share_max=0.8)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run amounts to; the mean over the seeds."""

    error_s: float
    """Median of |actual - expected| time to first token of those admitted, after PROVING_S."""
    good: float
    """Requests in time, by capacity."""
    kept: float
    """The share of those who came back as told and had their first token in time."""
    slow: float
    """99th percentile of the time to first token, by its objective."""
    vain: float
    """Of those let in to wait, the share that waited in vain."""


def figures(shape: Shape, load: float, forecast: type[Forecast] = Forecast) -> Figures:
    found = [one_run(seed, shape, load, forecast()) for seed in range(SEEDS)]
    return Figures(
        **{
            name: sum(getattr(run, name) for run in found) / len(found)
            for name in ("error_s", "good", "kept", "slow", "vain")
        }
    )


def one_run(seed: int, shape: Shape, load: float, forecast: Forecast) -> Figures:
    lane = SimulatedLane(seed, shape, a_book(), forecast)
    lane.run(CALM_S, 0.5)
    begun = lane.now
    lane.run(OVERLOAD_S, load)
    seen, ended = lane.seen, lane.now
    errors = seen.errors_s(begun + PROVING_S)
    times = sorted(c.ttft_s for c in seen.served if c.arrived >= begun and c.ttft_s is not None)
    return Figures(
        error_s=abs(errors[len(errors) // 2]),
        good=seen.good_per_s(begun, ended, shape.ttft_s) / shape.capacity(),
        kept=seen.kept(begun, ended, shape.ttft_s),
        slow=times[int(len(times) * 0.99)] / shape.ttft_s,
        vain=seen.expired / (seen.expired + len(times)),
    )


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("load", LOADS)
def test_forecasts_are_true_and_promises_hold(load: float, name: str) -> None:
    shape = SHAPES[name]
    found = figures(shape, load)
    assert found.error_s <= 0.3, found
    assert found.slow <= 2.0, found
    assert found.vain <= 0.1, found
    if load > 1.0:
        assert found.good >= 0.85, found
        assert found.kept >= 0.95 or not shape.returning, found


def test_fresh_arrivals_get_the_whole_lane_when_nobody_comes_back() -> None:
    shape = SHAPES["nobody returns"]
    lane = SimulatedLane(1, shape, a_book())
    lane.run(CALM_S, 0.5)
    lane.run(OVERLOAD_S, 10.0)
    begun = lane.now
    lane.run(OVERLOAD_S, 10.0)
    assert lane.book.missed > 100
    assert lane.book.share < 0.01
    good = lane.seen.good_per_s(begun, lane.now, shape.ttft_s)
    assert good / shape.capacity() >= 0.95


@pytest.mark.parametrize("load", LOADS[1:])
def test_an_engine_busy_with_prompts_is_not_drowned_in_them(load: float) -> None:
    found = figures(READING, load)
    assert found.error_s <= 0.1, found
    assert found.slow <= 1.0, found
    assert found.vain <= 0.1, found


def test_looking_at_places_alone_gets_caught() -> None:
    assert figures(READING, 10.0, Placewise).slow > 2.0


def test_a_model_that_becomes_three_times_slower_is_noticed_under_overload() -> None:
    lane = SimulatedLane(1, SHAPES["nobody returns"], a_book())
    lane.run(CALM_S, 3.0)
    lane.slower = 3.0
    lane.run(3 * CALM_S, 3.0)
    errors = lane.seen.errors_s(lane.now - 2 * CALM_S)
    assert abs(errors[len(errors) // 2]) <= 0.6  # a third of the lane's turns: thrice the noise


class Placewise(Forecast):
    """Takes a free place for a first token."""

    def begin(self, prompt_tokens: float) -> float:
        return 0.0


class Optimist(Forecast):
    """Takes the lane for three times as fast."""

    def gap_s(self, places: int) -> float | None:
        gap_s = super().gap_s(places)
        return None if gap_s is None else gap_s / 3.0


class Boaster(Forecast):
    """Forecasts truly, but promises three times what the lane has."""

    def safe_gap_s(self, places: int) -> float | None:
        gap_s = super().safe_gap_s(places)
        return None if gap_s is None else gap_s / 3.0


def test_a_lane_taken_for_faster_than_it_is_gets_caught() -> None:
    found = figures(SHAPES["nobody returns"], 10.0, Optimist)
    assert found.vain > 0.1
    assert found.good < 0.85
    assert found.error_s > 0.3


def test_promises_of_more_than_the_lane_has_get_caught() -> None:
    assert figures(SHAPES["16 places"], 10.0, Boaster).kept < 0.8


class Judged(Forecast):
    """Looks at each expectation it gives."""

    def expect(self, work: Work, crowd: Crowd) -> Expectation | None:
        assert crowd.taken <= crowd.places, "more run than there are places"
        said = super().expect(work, crowd)
        if said is not None:
            assert 0.0 <= said.wait_s <= said.ttft_s <= said.finish_s < float("inf")
            assert said.wait_s == 0.0 or crowd.taken + crowd.ahead >= crowd.places, (
                "a wait while a place is free"
            )
        return said


class WaitsForNothing(Judged):
    """Forgets that places may be free."""

    def expect(self, work: Work, crowd: Crowd) -> Expectation | None:
        said = super().expect(work, dataclasses.replace(crowd, taken=crowd.places))
        assert said is None or said.wait_s == 0.0 or crowd.taken + crowd.ahead >= crowd.places
        return said


def storm(seed: int, forecast: Forecast) -> None:
    """Run one lane of any shape through a calm, an overload and a calm."""
    dice = random.Random(seed)
    shape = Shape(
        places=dice.choice((1, 2, 8, 32)),
        step_more_s=dice.choice((0.0, 0.001, 0.008)),
        completion_tokens=dice.choice(((1, 1), (2, 9), (5, 80))),
        returning=dice.random(),
        showing=dice.random() < 0.5,
        waiting_max=dice.choice((0, 4, 1000)),
    )
    lane = SimulatedLane(seed, shape, a_book(), forecast)
    for load in (0.3, dice.choice(LOADS), 0.3):
        lane.slower = dice.choice((1.0, 1.0, 3.0))
        lane.run(60.0 / shape.capacity(), load)
    seen, book = lane.seen, lane.book
    assert book.made == book.redeemed + book.missed + len(book), "promises do not add up"
    assert all(caller.ttft_s is not None for caller in seen.served)


def test_every_invariant_holds_over_the_seeds() -> None:
    for seed in seeds():
        try:
            storm(seed, Judged())
        except AssertionError as broken:
            broken.add_note(f"seed {seed}: repeat it with `make sim SEED={seed}`")
            raise


def test_a_planted_defect_is_caught() -> None:
    def all_seeds() -> None:
        for seed in range(SEEDS_MIN):
            storm(seed, WaitsForNothing())

    with pytest.raises(AssertionError):
        all_seeds()
