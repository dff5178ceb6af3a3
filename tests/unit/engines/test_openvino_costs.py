"""How much a loading engine is made to read, and what its first steps tell of later ones."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from forebay.engines import openvino_costs
from forebay.engines.openvino_costs import Measured, measure
from forebay.policy.step_costs import StepCosts


@dataclass(slots=True, kw_only=True)
class FakeBench:
    """A machine whose steps cost exactly this; notes the batches that it was asked to run."""

    costs: StepCosts
    kernels_s: float = 0.0
    """More for the very first step."""
    batches: list[tuple[int, int]] = field(default_factory=list)
    """Prompts, and tokens of each."""

    def __call__(self, pipeline: Any, vocabulary_size: int) -> "FakeBench":
        return self

    def steps(self, *, prompts: int, prompt_tokens: int, made: int) -> list[float]:
        self.batches.append((prompts, prompt_tokens))
        costs, extra_s = self.costs, self.kernels_s if len(self.batches) == 1 else 0.0
        reading_s = costs.step_s + prompts * prompt_tokens * costs.read_s + extra_s
        return [reading_s, *[costs.step_s + prompts * costs.sequence_s] * (made - 1)]


def measured(
    monkeypatch: pytest.MonkeyPatch, bench: FakeBench, *, sequences: int = 32, tokens: int = 512
) -> Measured:
    monkeypatch.setattr(openvino_costs, "_Bench", bench)
    return measure(None, vocabulary_size=100, sequences_max=sequences, tokens_max=tokens)


def reads(tokens_per_s: float) -> StepCosts:
    """A machine of which nothing matters but how fast it reads."""
    return StepCosts(step_s=0.0, sequence_s=0.0, read_s=1.0 / tokens_per_s)


@pytest.mark.parametrize(
    ("tokens_per_s", "longest"), [(30, 64), (100, 100), (200, 200), (5_000, 256)]
)
def test_a_machine_reads_for_about_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch, tokens_per_s: float, longest: int
) -> None:
    bench = FakeBench(costs=reads(tokens_per_s))
    measured(monkeypatch, bench, sequences=1)
    assert bench.batches == [(1, 64), (1, 64), (1, longest)]


def test_no_more_is_read_than_fits_into_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = FakeBench(costs=reads(5_000))
    measured(monkeypatch, bench, sequences=1, tokens=40)
    assert bench.batches == [(1, 40), (1, 40), (1, 40)]


@pytest.mark.parametrize(("sequences", "batch"), [(32, (32, 8)), (500, (64, 4))])
def test_the_batch_together_reads_no_more_than_the_one_alone(
    monkeypatch: pytest.MonkeyPatch, sequences: int, batch: tuple[int, int]
) -> None:
    bench = FakeBench(costs=reads(5_000))
    measured(monkeypatch, bench, sequences=sequences)
    assert bench.batches[-1] == batch


def test_the_parts_of_a_step_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = StepCosts(step_s=0.01, sequence_s=0.002, read_s=0.0005)
    found = measured(monkeypatch, FakeBench(costs=costs, kernels_s=3.0))
    assert found.costs.step_s == pytest.approx(costs.step_s)
    assert found.costs.sequence_s == pytest.approx(costs.sequence_s)
    assert found.costs.read_s == pytest.approx(costs.read_s)
    assert found.token_s == pytest.approx((costs.step_s + 64 * costs.read_s) / 64)


def test_an_engine_of_one_sequence_has_nothing_to_tell_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = StepCosts(step_s=0.01, sequence_s=0.002, read_s=0.0005)
    found = measured(monkeypatch, FakeBench(costs=costs), sequences=1)
    assert found.costs.sequence_s == 0.0
    assert found.costs.step_s == pytest.approx(0.012)
