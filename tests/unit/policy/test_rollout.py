"""How a candidate comes to everybody, or goes back to nobody."""

import random

import pytest

from forebay.policy.rollout import Move, Rollout, RouteConfig, Sample, Stage, parse_steps

GOOD = Sample(failed=False, ttft_s=0.1, tpot_s=0.01)
FAILED = Sample(failed=True)
SLOW = Sample(failed=False, ttft_s=0.2, tpot_s=0.01)
DRAGGING = Sample(failed=False, ttft_s=0.1, tpot_s=0.02)


class Trial:
    """A rollout that sees one answer of each side a second."""

    def __init__(self, **config: object) -> None:
        facts = {"steps": "10, 50, 100", "step_requests_min": 40, "step_s_min": 30.0} | config
        self.rollout = Rollout(RouteConfig(**facts), 0.0)  # type: ignore[arg-type]
        self.now = 0.0
        self.moves: list[Move] = []

    def see(self, candidate: Sample, baseline: Sample | None = GOOD, times: int = 1) -> None:
        for _ in range(times):
            self.now += 1.0
            if baseline is not None:
                self.rollout.saw(baseline, self.now, candidate=False)
            if move := self.rollout.saw(candidate, self.now, candidate=True):
                self.moves.append(move)

    @property
    def stages(self) -> list[tuple[Stage, float]]:
        return [(move.stage, move.share) for move in self.moves]


def test_one_that_does_as_well_comes_to_everybody_step_by_step() -> None:
    trial = Trial()
    assert trial.rollout.share == 0.1
    trial.see(GOOD, times=200)
    assert trial.stages == [(Stage.RAMPING, 0.5), (Stage.RAMPING, 1.0), (Stage.PROMOTED, 1.0)]


def test_a_step_takes_its_time_however_many_answers_there_are() -> None:
    trial = Trial(step_s_min=1_000.0)
    trial.see(GOOD, times=500)
    assert not trial.moves


def test_a_step_takes_its_answers_however_long_that_is() -> None:
    trial = Trial(step_requests_min=1_000)
    trial.see(GOOD, times=500)
    assert not trial.moves


@pytest.mark.parametrize(
    ("least", "steps"),
    [({"step_requests_min": 10, "step_s_min": 100.0}, 100), ({"step_s_min": 0.0}, 40)],
    ids=["time", "answers"],
)
def test_every_step_takes_as_much_as_the_first(least: dict[str, float], steps: int) -> None:
    trial = Trial(**least)
    trial.see(GOOD, times=2 * steps - 1)
    assert trial.stages == [(Stage.RAMPING, 0.5)]
    trial.see(GOOD)
    assert trial.stages == [(Stage.RAMPING, 0.5), (Stage.RAMPING, 1.0)]


def test_a_step_is_judged_by_its_own_answers() -> None:
    trial = Trial()
    trial.see(FAILED, times=4)
    trial.see(GOOD, times=36)
    trial.see(FAILED, times=4)
    trial.see(GOOD, times=6)
    assert trial.stages == [(Stage.RAMPING, 0.5)]


def test_one_that_fails_more_goes_back_to_nobody_with_the_numbers() -> None:
    trial = Trial(step_requests_min=1_000)
    trial.see(GOOD, times=30)
    trial.see(FAILED, times=10)
    ((move),) = trial.moves
    assert (move.stage, move.share) == (Stage.ROLLED_BACK, 0.0)
    assert "10 of 40 answers failed, of the baseline's 0 of 40" in move.reason
    assert trial.rollout.share == 0.0


def test_one_that_fails_more_by_no_more_than_it_may_stays() -> None:
    trial = Trial(errors_more_max=0.3, step_requests_min=1_000)
    for _ in range(50):
        trial.see(GOOD, times=3)
        trial.see(FAILED)
    assert not trial.moves


def test_one_that_fails_as_the_baseline_does_is_not_blamed() -> None:
    trial = Trial(step_requests_min=1_000)
    for _ in range(50):
        trial.see(FAILED, FAILED)
        trial.see(GOOD, GOOD)
    assert not trial.moves


def test_a_few_failures_prove_nothing() -> None:
    trial = Trial(step_requests_min=1_000)
    trial.see(FAILED, times=4)
    trial.see(GOOD, times=6)
    assert not trial.moves


def test_without_a_baseline_failures_count_by_themselves() -> None:
    trial = Trial()
    trial.see(FAILED, None, times=10)
    assert trial.rollout.stage is Stage.ROLLED_BACK


def test_without_a_baseline_nothing_is_put_down_to_chance() -> None:
    trial = Trial()
    trial.see(FAILED, None, times=5)
    trial.see(GOOD, None, times=5)
    assert trial.rollout.stage is Stage.ROLLED_BACK


@pytest.mark.parametrize(
    ("answer", "words"),
    [(SLOW, "time to first token"), (DRAGGING, "time per token")],
    ids=["first token", "tokens"],
)
def test_one_that_is_slower_goes_back_too(answer: Sample, words: str) -> None:
    trial = Trial()
    trial.see(answer, times=100)
    assert trial.rollout.stage is Stage.ROLLED_BACK
    assert words in trial.moves[-1].reason


def test_a_few_slow_answers_prove_nothing() -> None:
    trial = Trial(step_requests_min=1_000)
    trial.see(SLOW, times=10)
    assert not trial.moves


def test_a_window_shorter_than_a_step_is_enough_to_see_who_is_slower() -> None:
    trial = Trial(step_requests_min=1_000, window_max=40)
    trial.see(SLOW, times=100)
    assert trial.rollout.stage is Stage.ROLLED_BACK


def test_one_that_is_slower_because_everything_is_stays() -> None:
    trial = Trial()
    trial.see(SLOW, SLOW, times=200)
    assert trial.rollout.stage is Stage.PROMOTED


def test_one_that_came_to_everybody_is_held_to_what_the_baseline_last_did() -> None:
    trial = Trial()
    trial.see(GOOD, times=200)
    trial.see(FAILED, None, times=40)
    assert trial.rollout.stage is Stage.ROLLED_BACK


def test_who_was_rolled_back_stays_so() -> None:
    trial = Trial()
    trial.see(FAILED, times=10)
    trial.see(GOOD, times=500)
    assert trial.rollout.share == 0.0
    assert len(trial.moves) == 1


def drawn(dice: random.Random, share: float) -> Sample:
    """Return an answer of a model that fails this share of the time."""
    return FAILED if dice.random() < share else GOOD


def test_chance_alone_rolls_hardly_anybody_back() -> None:
    back = 0
    for seed in range(100):
        dice, trial = random.Random(seed), Trial(step_requests_min=10_000)
        for _ in range(300):
            trial.see(drawn(dice, 0.05), drawn(dice, 0.05))
        back += trial.rollout.stage is Stage.ROLLED_BACK
    assert back <= 10


def test_a_candidate_that_fails_four_times_as_often_hardly_ever_stays() -> None:
    stayed = 0
    for seed in range(100):
        dice, trial = random.Random(seed), Trial(step_requests_min=10_000)
        for _ in range(300):
            trial.see(drawn(dice, 0.2), drawn(dice, 0.05))
        stayed += trial.rollout.stage is not Stage.ROLLED_BACK
    assert stayed <= 5


@pytest.mark.parametrize("text", ["", "x", "0", "50, 50", "50, 10", "50, 101", "-1, 100", "nan"])
def test_steps_that_do_not_grow_to_at_most_all_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no list of percentages that grow"):
        parse_steps(text)
