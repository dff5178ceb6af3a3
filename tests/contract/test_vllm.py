"""vLLM keeps the promises of a step engine, with the default model."""

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from forebay.core.request import FinishReason, JsonObject, JsonSchema, Message, Role, Sampling
from forebay.engine.manifest import Form, read_manifest, write_manifest
from forebay.engine.protocol import CannotLoad, Feature, Refused, SequenceId
from forebay.engines.vllm import KIND, VllmStepEngine
from forebay.engines.vllm_config import VllmConfig
from forebay.engines.vllm_loading import _ENVIRONMENT
from forebay.testing.step_engine_contract import StepEngineContract
from tests.support.answers import Answer, answers
from tests.support.models import artefact_of

vllm = pytest.importorskip("vllm", reason="vllm is not installed")

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    # The library's own, and those of what it imports.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

QUESTION = "What is the capital of France?"
SMALL = VllmConfig(kv_cache_bytes=256 << 20, sequences_running_max=16, precision="float32")


def prepared() -> Path:
    return artefact_of("smollm2-135m-instruct", Form.SAFETENSORS).path


@pytest.fixture(scope="module")
def engine() -> Iterator[VllmStepEngine]:
    made = VllmStepEngine(SMALL, prepared())
    yield made
    made.close()


class TestVllm(StepEngineContract):
    """Everything that the contract asks."""


def a_prompt(engine: VllmStepEngine, text: str) -> list[int]:
    system = Message(role=Role.SYSTEM, content="You are a helpful assistant.")
    return engine.tokenizer.chat([system, Message(role=Role.USER, content=text)])


def said(engine: VllmStepEngine, text: str, *how: Sampling) -> list[Answer]:
    prompt = a_prompt(engine, text)
    return answers(engine, *((prompt, one) for one in how))


def text_of(engine: VllmStepEngine, answer: Answer) -> str:
    detokenizer = engine.tokenizer.detokenizer()
    return detokenizer.push(answer.token_ids) + detokenizer.flush()


def greedy(tokens_max: int, **how: Any) -> Sampling:
    return Sampling(tokens_max=tokens_max, temperature=0.0, seed=1, **how)


def test_the_token_that_ends_an_answer_is_counted_but_not_shown(engine: VllmStepEngine) -> None:
    before = engine.stats().tokens_made
    (answer,) = said(engine, QUESTION, greedy(40, logprobs=True))
    assert text_of(engine, answer) == "The capital of France is Paris."
    assert answer.reason is FinishReason.STOP
    assert answer.outputs[-1].tokens_hidden == 1
    assert len(answer.logprobs) == len(answer.token_ids)
    assert engine.stats().tokens_made - before == len(answer.token_ids) + 1


def test_min_tokens_keeps_the_answer_from_ending_and_then_lets_it(engine: VllmStepEngine) -> None:
    (answer,) = said(engine, QUESTION, greedy(60, tokens_min=12))
    assert len(answer.token_ids) >= 12
    assert text_of(engine, answer).startswith("The capital of France is Paris.")


def test_greedy_takes_the_likeliest_token_whatever_else_is_asked(engine: VllmStepEngine) -> None:
    ways = [
        greedy(20),
        Sampling(tokens_max=20, temperature=0.0, seed=9, top_p=0.1, top_k=3, min_p=0.5),
        Sampling(tokens_max=20, temperature=0.005, seed=5),
        Sampling(tokens_max=20, temperature=1.0, seed=3, top_k=1),
        Sampling(tokens_max=20, temperature=1.0, seed=3, min_p=0.999),
        Sampling(tokens_max=20, temperature=1.0, seed=3, top_p=1e-5),
    ]
    first, *others = said(engine, "Tell me a story.", *ways)
    assert all(other.token_ids == first.token_ids for other in others)


def test_a_seed_gives_the_same_tokens_and_another_gives_others(engine: VllmStepEngine) -> None:
    ways = [Sampling(tokens_max=20, seed=seed) for seed in (2**62 + 5, 2**62 + 5, 6)]
    first, again, other = said(engine, "Tell me a story.", *ways)
    assert first.token_ids == again.token_ids != other.token_ids


def test_log_probabilities_are_the_models_own_whatever_the_temperature(
    engine: VllmStepEngine,
) -> None:
    warm = Sampling(tokens_max=6, temperature=0.5, top_k=1, seed=1, logprobs=True)
    first, second = said(engine, "Tell me a story.", greedy(6, logprobs=True), warm)
    assert first.token_ids == second.token_ids
    assert first.logprobs == pytest.approx(second.logprobs, abs=1e-3)
    assert all(-20.0 < odds < 0.0 for odds in first.logprobs)


def test_penalties_count_the_answers_tokens_and_not_the_prompts(engine: VllmStepEngine) -> None:
    prompt = engine.tokenizer.encode("one two one two one two one two one two one two one")
    ways = [
        greedy(24, ignore_eos=True),
        greedy(24, ignore_eos=True, frequency_penalty=2.0),
        greedy(24, ignore_eos=True, presence_penalty=2.0),
    ]
    plain, rarer, fresher = answers(engine, *((prompt, how) for how in ways))
    # The first token has nothing before it in the answer, so no penalty is its.
    assert rarer.token_ids[0] == fresher.token_ids[0] == plain.token_ids[0]
    assert len(set(rarer.token_ids)) > len(set(plain.token_ids))
    assert len(set(fresher.token_ids)) > len(set(plain.token_ids))


def test_greedy_goes_on_as_if_it_had_not_been_interrupted(engine: VllmStepEngine) -> None:
    prompt = a_prompt(engine, "Tell me a story.")
    (whole,) = answers(engine, (prompt, greedy(16)))
    made = tuple(whole.token_ids[:7])
    (rest,) = answers(engine, (prompt, greedy(9)), made=made)
    assert rest.token_ids == whole.token_ids[7:]
    assert not engine.info.resumable & {Feature.JSON_OBJECT, Feature.PRESENCE_PENALTY}


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "old": {"type": "boolean"}},
    "required": ["city", "old"],
    "additionalProperties": False,
}


def test_every_answer_satisfies_its_schema(engine: VllmStepEngine) -> None:
    grammar = JsonSchema(schema=json.dumps(SCHEMA))
    ways = [
        Sampling(tokens_max=80, temperature=(0.7, 1.5)[seed % 2], seed=seed, grammar=grammar)
        for seed in range(6)
    ]
    ended = [
        json.loads(text_of(engine, answer))
        for answer in said(engine, "Describe Paris.", *ways)
        if answer.reason is FinishReason.STOP
    ]
    assert len(ended) >= 2
    assert all(set(one) == {"city", "old"} and type(one["old"]) is bool for one in ended)


def test_any_object_is_an_object_beside_plain_answers(engine: VllmStepEngine) -> None:
    ways = [
        Sampling(tokens_max=120, temperature=0.7, seed=seed, grammar=JsonObject())
        for seed in range(6)
    ]
    plain, *objects = said(engine, QUESTION, greedy(20), *ways)
    assert text_of(engine, plain) == "The capital of France is Paris."
    ended = [one for one in objects if one.reason is FinishReason.STOP]
    assert ended
    assert all(isinstance(json.loads(text_of(engine, one)), dict) for one in ended)
    assert all(text_of(engine, one).lstrip().startswith("{") for one in objects)


BAD: list[tuple[list[int], Sampling]] = [
    ([], greedy(3)),
    ([-1], greedy(3)),
    ([10**9], greedy(3)),
    ([1] * 9_000, greedy(3)),
    ([1], greedy(10**9)),
    ([1], Sampling(tokens_max=3, temperature=float("nan"))),
    ([1], Sampling(tokens_max=3, temperature=3.0)),
    ([1], greedy(3, top_p=0.0)),
    ([1], greedy(3, adapter="nobody")),
    ([1], greedy(3, grammar=JsonSchema(schema='{"type":"foo"}'))),
    ([1], greedy(3, grammar=JsonObject(), ignore_eos=True)),
]


@pytest.mark.parametrize(("prompt", "how"), BAD, ids=lambda value: str(value)[:40])
def test_what_it_cannot_honour_is_refused_before_the_library_sees_it(
    engine: VllmStepEngine, prompt: list[int], how: Sampling
) -> None:
    with pytest.raises(Refused):
        engine.submit(SequenceId(1), prompt, how)
    assert engine.step() == []
    assert engine.stats().waiting == 0


def test_a_whole_context_can_be_used_to_its_end(engine: VllmStepEngine) -> None:
    limit = engine.info.context_tokens_max
    (answer,) = answers(engine, ([50] * (limit - 3), greedy(3, ignore_eos=True)))
    assert len(answer.token_ids) == 3


def test_what_was_aborted_gives_its_memory_back(engine: VllmStepEngine) -> None:
    rng = random.Random(4)
    for id in range(12):
        prompt = [rng.randrange(100, 40_000) for _ in range(150)]
        engine.submit(SequenceId(id), prompt, greedy(200))
    for _ in range(2):
        engine.step()
    assert engine.stats().blocks_used_ratio > 0.05
    for id in range(12):
        engine.abort(SequenceId(id))
    assert engine.step() == []
    assert engine.stats().blocks_used_ratio == 0.0


def test_nobody_outside_can_reach_the_library(engine: VllmStepEngine) -> None:
    psutil = pytest.importorskip("psutil", reason="psutil comes with vllm")
    open_here = psutil.Process().net_connections("inet")
    assert {connection.laddr.ip for connection in open_here} <= {"127.0.0.1", "::1"}
    assert all(value == os.environ[name] for name, value in _ENVIRONMENT.items())
    assert engine.step() == []


def test_a_folder_that_lacks_weights_is_refused_with_the_fix(tmp_path: Path) -> None:
    shutil.copytree(prepared(), tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").unlink()
    manifest = read_manifest(tmp_path)
    files = {name: digest for name, digest in manifest.files.items() if name != "model.safetensors"}
    write_manifest(tmp_path, msgspec.structs.replace(manifest, files=files))
    with pytest.raises(CannotLoad, match="cannot be loaded by vLLM"):
        KIND.make(SMALL, tmp_path)


def test_more_than_the_kv_cache_holds_still_finishes() -> None:
    # 46,080 bytes a token in 32 bits: 1,024 tokens, and sequences grow to 260 each.
    config = VllmConfig(kv_cache_bytes=46_080 * 1_024, sequences_running_max=8, precision="float32")
    engine = KIND.make(config, prepared())
    assert isinstance(engine, VllmStepEngine)
    assert engine.info.kv_tokens_max == 1_024
    assert engine.info.context_tokens_max == 768
    rng = random.Random(5)
    asked = [
        ([rng.randrange(100, 40_000) for _ in range(200)], greedy(60, ignore_eos=True))
        for _ in range(10)
    ]
    found = answers(engine, *asked)
    engine.close()
    assert [len(answer.token_ids) for answer in found] == [60] * 10
    assert all(answer.reason is FinishReason.LENGTH for answer in found)
