"""What a step costs is told apart by how long known answers take."""

import time
from collections.abc import Sequence

import pytest

from forebay.core.request import Sampling
from forebay.engine.protocol import EVERY_ENGINE, EngineInfo, SequenceId, StepOutput, StepStats
from forebay.engines.llamacpp_costs import measure
from tests.support.step_engines import ByteTokenizer

STEP_S, SEQUENCE_S, READ_S = 0.1, 0.01, 0.002


class Steady:
    """Takes exactly as long as it says."""

    info = EngineInfo(
        name="steady",
        context_tokens_max=1_000,
        running_max=8,
        supports=EVERY_ENGINE,
        vocabulary_size=100,
    )
    tokenizer = ByteTokenizer()

    def __init__(self) -> None:
        self.now = 0.0
        self.unread = 0
        self.left: dict[SequenceId, int] = {}
        self.read_most = 0

    def submit(
        self, id: SequenceId, prompt: Sequence[int], how: Sampling, *, made: Sequence[int] = ()
    ) -> None:
        assert how.tokens_max is not None
        assert all(0 <= token < 100 for token in prompt)
        self.left[id] = how.tokens_max
        self.unread += len(prompt)
        self.read_most = max(self.read_most, len(prompt))

    def abort(self, id: SequenceId) -> None:
        del self.left[id]

    def step(self) -> list[StepOutput]:
        self.now += STEP_S + SEQUENCE_S * len(self.left) + READ_S * self.unread
        self.unread = 0
        ids = list(self.left)
        self.left = {id: left - 1 for id, left in self.left.items() if left > 1}
        return [StepOutput(id, (1,)) for id in ids]

    def stats(self) -> StepStats:
        return StepStats(running=len(self.left), waiting=0, blocks_used_ratio=0.0, tokens_made=0)

    def close(self) -> None:
        self.left.clear()


def test_the_parts_of_a_steps_time_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Steady()
    monkeypatch.setattr(time, "monotonic", lambda: engine.now)
    costs = measure(engine)
    assert costs.step_s == pytest.approx(STEP_S)
    assert costs.sequence_s == pytest.approx(SEQUENCE_S)
    assert costs.read_s == pytest.approx(READ_S)
    assert engine.left == {}


def test_a_slow_machine_is_not_made_to_read_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Steady()
    monkeypatch.setattr(time, "monotonic", lambda: 100 * engine.now)
    measure(engine)
    assert engine.read_most == 32
