"""How much a loading engine is made to read, and what its first steps tell of later ones."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from forebay.core.request import Sampling, TokenId
from forebay.engine.protocol import EVERY_ENGINE, EngineInfo, SequenceId, StepOutput, StepStats
from forebay.engines.step_measuring import StepMeasures, Timing, by_step, by_token, measure
from forebay.policy.step_costs import StepCosts
from tests.support.step_engines import ByteTokenizer

COSTS = StepCosts(step_s=0.01, sequence_s=0.002, read_s=0.0005)
INFO = EngineInfo(
    name="steady",
    context_tokens_max=1_000,
    running_max=32,
    supports=EVERY_ENGINE,
    vocabulary_size=7_000,
    step_s_max=5.0,
)


@dataclass(slots=True, kw_only=True)
class SteadyEngine:
    """Takes exactly as long as it says, by a clock of its own; notes what it was asked to read."""

    costs: StepCosts
    kernels_s: float = 0.0
    """More for the very first step."""
    info: EngineInfo = INFO
    now: float = 0.0
    batches: list[list[int]] = field(default_factory=list)
    """Tokens of each prompt that a step read."""
    read: list[TokenId] = field(default_factory=list)
    tokenizer: ByteTokenizer = field(default_factory=ByteTokenizer)
    _unread: list[int] = field(default_factory=list)
    _left: dict[SequenceId, int] = field(default_factory=dict)

    def submit(
        self,
        id: SequenceId,
        prompt_token_ids: Sequence[TokenId],
        sampling: Sampling,
        *,
        made: Sequence[TokenId] = (),
    ) -> None:
        assert sampling.tokens_max is not None
        assert not made
        assert len(prompt_token_ids) + sampling.tokens_max <= self.info.context_tokens_max
        self._left[id] = sampling.tokens_max
        self._unread.append(len(prompt_token_ids))
        self.read += prompt_token_ids

    def abort(self, id: SequenceId) -> None:
        del self._left[id]

    def step(self) -> list[StepOutput]:
        costs = self.costs
        self.now += costs.step_s + costs.sequence_s * len(self._left)
        if self._unread:
            self.now += costs.read_s * sum(self._unread)
            self.now += 0.0 if self.batches else self.kernels_s
            self.batches.append(self._unread)
            self._unread = []
        ids = list(self._left)
        self._left = {id: left - 1 for id, left in self._left.items() if left > 1}
        return [StepOutput(id, (1,)) for id in ids]

    def stats(self) -> StepStats:
        return StepStats(running=len(self._left), waiting=0, blocks_used_ratio=0.0, tokens_made=0)

    def close(self) -> None:
        self._left.clear()


@pytest.fixture(params=[by_step, by_token])
def timing(request: pytest.FixtureRequest) -> Timing:
    found: Timing = request.param
    return found


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, timing: Timing) -> "Measure":
    return Measure(monkeypatch, timing)


@dataclass(frozen=True, slots=True)
class Measure:
    """Measures by an engine's own clock."""

    monkeypatch: pytest.MonkeyPatch
    timing: Timing

    def __call__(
        self, engine: SteadyEngine, *, tokens_max: int = 512, sequences_max: int = 64
    ) -> StepMeasures:
        self.monkeypatch.setattr(time, "monotonic", lambda: engine.now)
        self.monkeypatch.setattr(time, "process_time", lambda: engine.now)
        return measure(
            engine, tokens_max=tokens_max, sequences_max=sequences_max, timing=self.timing
        )


def reads(tokens_per_s: float) -> StepCosts:
    """A machine of which nothing matters but how fast it reads."""
    return StepCosts(step_s=0.0, sequence_s=0.0, read_s=1.0 / tokens_per_s)


@pytest.mark.parametrize(
    ("tokens_per_s", "longest"), [(30, 64), (100, 100), (200, 200), (5_000, 256)]
)
def test_a_machine_reads_for_about_a_second_at_most(
    measured: Measure, tokens_per_s: float, longest: int
) -> None:
    engine = SteadyEngine(costs=reads(tokens_per_s))
    measured(engine, sequences_max=1)
    assert engine.batches == [[64], [64], [longest]]


def test_no_more_is_read_than_fits_into_a_step(measured: Measure) -> None:
    engine = SteadyEngine(costs=reads(5_000))
    measured(engine, sequences_max=1, tokens_max=40)
    assert engine.batches == [[40], [40], [40]]


def test_no_more_is_read_than_the_context_holds(measured: Measure) -> None:
    engine = SteadyEngine(costs=reads(5_000), info=replace(INFO, context_tokens_max=100))
    measured(engine, sequences_max=1)
    assert engine.batches == [[64], [64], [96]]


@pytest.mark.parametrize(
    ("running_max", "sequences_max", "batch"),
    [(32, 64, [8] * 32), (500, 500, [4] * 64), (500, 16, [16] * 16)],
)
def test_the_batch_together_reads_no_more_than_the_one_alone(
    measured: Measure, running_max: int, sequences_max: int, batch: list[int]
) -> None:
    engine = SteadyEngine(costs=reads(5_000), info=replace(INFO, running_max=running_max))
    measured(engine, sequences_max=sequences_max)
    assert engine.batches[-1] == batch


def test_nothing_is_read_twice_so_that_no_prefix_cache_has_it(measured: Measure) -> None:
    engine = SteadyEngine(costs=COSTS)
    measured(engine)
    assert len(set(engine.read)) == len(engine.read) == 64 + 64 + 256 + 256
    assert all(0 <= token < INFO.vocabulary_size for token in engine.read)


def test_the_parts_of_a_step_are_told_apart(measured: Measure) -> None:
    found = measured(SteadyEngine(costs=COSTS, kernels_s=3.0))
    assert found.costs.step_s == pytest.approx(COSTS.step_s)
    assert found.costs.sequence_s == pytest.approx(COSTS.sequence_s)
    assert found.costs.read_s == pytest.approx(COSTS.read_s)
    assert found.token_s == pytest.approx((0.01 + 0.002 + 64 * 0.0005) / 64)


def test_an_engine_of_one_sequence_has_nothing_to_tell_of_others(measured: Measure) -> None:
    found = measured(SteadyEngine(costs=COSTS), sequences_max=1)
    assert found.costs.sequence_s == 0.0
    assert found.costs.step_s == pytest.approx(0.012)


def test_a_slow_engine_may_take_longer_for_a_step_than_it_was_set() -> None:
    slow = StepMeasures(token_s=0.01, costs=COSTS).told(INFO, batched_tokens=500)
    assert (slow.step_s_max, slow.step_s_short, slow.costs) == (120.0, 15.0, COSTS)
    fast = StepMeasures(token_s=0.0001, costs=COSTS).told(INFO, batched_tokens=500)
    assert fast.step_s_max == INFO.step_s_max


def test_a_step_beside_other_work_is_told_by_the_processors_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = SteadyEngine(costs=COSTS)
    monkeypatch.setattr(time, "monotonic", lambda: 3.0 * engine.now)
    monkeypatch.setattr(time, "process_time", lambda: engine.now)
    assert measure(engine, tokens_max=512).costs.step_s == pytest.approx(COSTS.step_s)
