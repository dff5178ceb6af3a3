"""OpenVINO keeps the promises of a step engine, with the default model."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from forebay.core.request import FinishReason, JsonObject, JsonSchema, Message, Role, Sampling
from forebay.engine.protocol import Refused, SequenceId, StepOutput
from forebay.engines.openvino import KIND, OpenVinoConfig, OpenVinoStepEngine
from forebay.testing.step_engine_contract import StepEngineContract
from tests.support.answers import Answer, answers, text_of
from tests.support.models import artefact_of
from tests.support.schema_trials import JUDGES, a_schema, ended, ways
from tests.support.schemas import satisfies

pytestmark = pytest.mark.model

DATA = "Give me some random data."


@pytest.fixture(scope="module")
def engine(default_model: str) -> OpenVinoStepEngine:
    config = OpenVinoConfig(kv_cache_bytes=256 << 20, sequences_running_max=32)
    return OpenVinoStepEngine(config, artefact_of(default_model).path)


class TestOpenVino(StepEngineContract):
    """Everything that the contract asks."""


def a_prompt(engine: OpenVinoStepEngine, text: str) -> list[int]:
    return engine.tokenizer.chat([Message(role=Role.USER, content=text)])


def said(engine: OpenVinoStepEngine, text: str, *how: Sampling) -> list[Answer]:
    """Answer one question in several ways at once."""
    prompt = a_prompt(engine, text)
    return answers(engine, *((prompt, one) for one in how))


def greedy(tokens_max: int, **how: Any) -> Sampling:
    return Sampling(tokens_max=tokens_max, temperature=0.0, seed=1, **how)


def test_the_token_that_ends_an_answer_is_counted_but_not_shown(
    engine: OpenVinoStepEngine,
) -> None:
    (answer,) = said(engine, "What is the capital of France?", greedy(40))
    assert text_of(engine, answer) == "The capital of France is Paris."
    assert (answer.reason, answer.hidden) == (FinishReason.STOP, 1)


def test_min_tokens_keeps_the_answer_from_ending(engine: OpenVinoStepEngine) -> None:
    (answer,) = said(engine, "What is the capital of France?", greedy(30, tokens_min=20))
    assert len(answer.token_ids) >= 20


def test_log_probabilities_are_the_models_own_whatever_the_temperature(
    engine: OpenVinoStepEngine,
) -> None:
    cold = greedy(6, logprobs=True)
    warm = Sampling(tokens_max=6, temperature=0.5, top_k=1, seed=1, logprobs=True)
    first, second = said(engine, "What is the capital of France?", cold, warm)
    assert first.token_ids == second.token_ids
    assert first.logprobs == second.logprobs
    assert len(first.logprobs) == 6
    assert all(-20.0 < odds <= 0.0 for odds in first.logprobs)


def test_a_seed_gives_the_same_tokens_and_another_gives_others(engine: OpenVinoStepEngine) -> None:
    how = [Sampling(tokens_max=20, seed=seed) for seed in (5, 5, 6)]
    first, again, other = said(engine, "Tell me a story.", *how)
    assert first.token_ids == again.token_ids != other.token_ids


def test_penalties_change_what_is_said(engine: OpenVinoStepEngine) -> None:
    how = [greedy(40, ignore_eos=True, **{name: 2.0}) for name in PENALTIES]
    found = said(engine, "Say one word again and again.", greedy(40, ignore_eos=True), *how)
    assert len({tuple(answer.token_ids) for answer in found}) == 3


PENALTIES = ("presence_penalty", "frequency_penalty")


@pytest.mark.parametrize(
    ("schema", "judge"), JUDGES, ids=lambda value: "" if callable(value) else str(value)[:50]
)
def test_every_answer_satisfies_its_schema(
    engine: OpenVinoStepEngine,
    schema: Any,
    judge: Callable[[Any], object],
) -> None:
    found = ended(engine, a_prompt(engine, DATA), ways(schema, 16, tokens_max=60))
    assert len(found) >= 4
    for value in found:
        assert judge(value), value


@pytest.mark.parametrize("seed", range(20))
def test_what_the_checker_accepts_is_compiled_and_enforced(
    engine: OpenVinoStepEngine, seed: int
) -> None:
    schema = a_schema(seed)
    for value in ended(engine, a_prompt(engine, DATA), ways(schema, 4, tokens_max=40)):
        assert satisfies(value, schema, schema), value


def test_any_object_is_an_object(engine: OpenVinoStepEngine) -> None:
    prompt = a_prompt(engine, "Describe Paris in one short JSON object.")
    how = [Sampling(tokens_max=120, seed=seed, grammar=JsonObject()) for seed in range(8)]
    found = ended(engine, prompt, how)
    assert found
    assert all(isinstance(value, dict) for value in found)


def test_a_schema_that_would_lose_the_engine_is_refused(engine: OpenVinoStepEngine) -> None:
    for schema in ('{"enum":[]}', '{"type":"foo"}', "{", '{"type":"string","pattern":"(["}'):
        with pytest.raises(Refused):
            engine.submit(SequenceId(1), [1], greedy(3, grammar=JsonSchema(schema=schema)))
    assert engine.step() == []


def test_refused_requests_leave_a_running_one_bit_identical(engine: OpenVinoStepEngine) -> None:
    how = greedy(40, ignore_eos=True, logprobs=True)
    said(engine, "Tell me a story.", how)  # the prompt is in the prefix cache for both
    (alone,) = said(engine, "Tell me a story.", how)
    engine.submit(SequenceId(1), a_prompt(engine, "Tell me a story."), how)
    outputs: list[StepOutput] = []
    while engine.stats().running + engine.stats().waiting:
        for prompt, sampling in BAD:
            with pytest.raises(Refused):
                engine.submit(SequenceId(2), prompt, sampling)
        outputs += engine.step()
    beside = Answer(outputs)
    assert (beside.token_ids, beside.logprobs) == (alone.token_ids, alone.logprobs)


BAD: list[tuple[list[int], Sampling]] = [
    ([], greedy(3)),
    ([-1], greedy(3)),
    ([10**9], greedy(3)),
    ([1] * 9_000, greedy(3)),
    ([1], greedy(10**9)),
    ([1], Sampling(tokens_max=3, temperature=float("nan"))),
    ([1], greedy(3, grammar=JsonSchema(schema='{"maxLength":1e99}'))),
]


def test_what_was_aborted_gives_its_memory_back(engine: OpenVinoStepEngine) -> None:
    rng = random.Random(3)
    for _ in range(3):
        for id in range(16):
            prompt = [rng.randrange(100, 40_000) for _ in range(300)]
            engine.submit(SequenceId(id), prompt, greedy(200, ignore_eos=True))
        for _ in range(3):
            engine.step()
        for id in range(16):
            engine.abort(SequenceId(id))
        engine.step()
    # The library's own figure is fresh only after it has scheduled something.
    engine.submit(SequenceId(1), [1] * 10, greedy(3))
    engine.step()
    assert engine.stats().blocks_used_ratio < 0.01
    engine.abort(SequenceId(1))
    engine.step()


def test_what_loading_finds_a_step_to_cost_is_plausible(engine: OpenVinoStepEngine) -> None:
    costs = engine.info.costs
    assert costs is not None
    # Between a hundredth and a hundred times what two cores of 2020 need: no hard-coded numbers.
    assert 1e-4 < costs.step_s < 1.0
    assert 0.0 <= costs.sequence_s < costs.step_s
    assert 0.0 < costs.read_s < costs.step_s


def test_more_than_the_kv_cache_holds_still_finishes(default_model: str) -> None:
    small = OpenVinoConfig(kv_cache_bytes=16 * 737_280, sequences_running_max=8)
    engine = KIND.make(small, artefact_of(default_model).path)
    assert engine.info.kv_tokens_max == 512
    rng = random.Random(5)
    for id in range(4):
        prompt = [rng.randrange(100, 40_000) for _ in range(100)]
        engine.submit(SequenceId(id), prompt, greedy(60, ignore_eos=True))
    made = dict.fromkeys(map(SequenceId, range(4)), 0)
    while engine.stats().running + engine.stats().waiting:
        for output in engine.step():
            assert output.failure is None
            made[output.id] += len(output.token_ids)
    assert set(made.values()) == {60}
    engine.close()
