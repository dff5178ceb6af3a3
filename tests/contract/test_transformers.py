"""The engine transformers keeps the promises of a step engine, on a processor."""

from pathlib import Path
from typing import Any

import pytest

from forebay.core.request import FinishReason, Sampling
from forebay.engine.protocol import CannotLoad, Refused, SequenceId, StepOutput
from forebay.engines.transformers import KIND, TransformersStepEngine
from forebay.engines.transformers_precision import TransformersConfig
from forebay.testing.step_engine_contract import StepEngineContract
from tests.support.answers import a_prompt, answers, greedy
from tests.support.torch_models import a_folder, a_llama

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SMALL = TransformersConfig(
    device="cpu", precision="float32", kv_cache_bytes=16 << 20, sequences_running_max=8
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> TransformersStepEngine:
    return TransformersStepEngine(SMALL, folder)


class TestTransformers(StepEngineContract):
    """Everything that the contract asks."""


def the_librarys_own(folder: Path, prompt: list[int], tokens: int) -> list[int]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config.eos_token_id = None
    config = transformers.GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        made = model.generate(torch.tensor([prompt]), generation_config=config)
    return [int(token) for token in made[0, len(prompt) :]]


KINDS = {
    "llama": lambda: transformers.LlamaConfig(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=1,
        max_position_embeddings=512,
    ),
    "qwen2": lambda: transformers.Qwen2Config(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    ),
    "mistral, with a window": lambda: transformers.MistralConfig(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        sliding_window=40,
    ),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=259, n_positions=512, n_embd=64, n_layer=2, n_head=4
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_what_the_library_itself_says(tmp_path: Path, kind: str) -> None:
    folder = a_folder(tmp_path, KINDS[kind]())
    engine = TransformersStepEngine(
        TransformersConfig(
            device="cpu", precision="float32", kv_cache_bytes=16 << 20, batched_tokens_max=32
        ),
        folder,
    )
    # Shorter and longer than a chunk, and than a row of the KV memory.
    prompts = [a_prompt(length, seed=length) for length in (1, 31, 33, 100, 140)]
    found = answers(engine, *((prompt, greedy(40)) for prompt in prompts))
    engine.close()
    for prompt, answer in zip(prompts, found, strict=True):
        assert answer.token_ids == the_librarys_own(folder, prompt, 40)


def test_an_architecture_that_attends_in_its_own_way_is_refused(tmp_path: Path) -> None:
    config = transformers.Gemma2Config(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        attn_logit_softcapping=0.5,
    )
    with pytest.raises(CannotLoad, match="gemma2"):
        KIND.make(SMALL, a_folder(tmp_path, config))


def test_sequences_of_all_lengths_say_together_what_each_says_alone(
    engine: TransformersStepEngine,
) -> None:
    asked = [(a_prompt(5 + 31 * n, seed=n), greedy(20 + 7 * n)) for n in range(8)]
    alone = [answers(engine, one)[0].token_ids for one in asked]
    assert [answer.token_ids for answer in answers(engine, *asked)] == alone


def test_a_seed_gives_the_same_tokens_whatever_runs_beside(engine: TransformersStepEngine) -> None:
    cases: list[dict[str, Any]] = [{}, {"seed": 6}, {"top_p": 0.8}, {"min_p": 0.1}, {"top_k": 3}]
    ways = [greedy(30, **({"seed": 5, "temperature": 1.5} | case)) for case in cases]
    together = answers(engine, *((a_prompt(20), how) for how in ways))
    for how, answer in zip(ways, together, strict=True):
        assert answers(engine, (a_prompt(20), how))[0].token_ids == answer.token_ids
    assert len({tuple(answer.token_ids) for answer in together}) == len(ways)


def test_what_is_sampled_goes_on_as_if_it_had_not_been_interrupted(
    engine: TransformersStepEngine,
) -> None:
    def how(tokens: int) -> Sampling:
        return Sampling(
            tokens_max=tokens, seed=9, temperature=1.3, ignore_eos=True, frequency_penalty=1.0
        )

    (whole,) = answers(engine, (a_prompt(20), how(24)))
    for cut in (1, 7, 23):
        made = tuple(whole.token_ids[:cut])
        (rest,) = answers(engine, (a_prompt(20), how(24 - cut)), made=made)
        assert rest.token_ids == whole.token_ids[cut:]


def test_log_probabilities_are_the_models_own_whatever_the_temperature(
    engine: TransformersStepEngine,
) -> None:
    warm = Sampling(tokens_max=6, temperature=0.5, top_k=1, seed=1, logprobs=True, ignore_eos=True)
    plain = greedy(6)
    first, second, silent = answers(
        engine, *((a_prompt(9), how) for how in (greedy(6, logprobs=True), warm, plain))
    )
    assert first.token_ids == second.token_ids == silent.token_ids
    assert first.logprobs == pytest.approx(second.logprobs, abs=1e-4)
    assert len(first.logprobs) == 6
    assert all(-20.0 < odds < 0.0 for odds in first.logprobs)
    assert silent.logprobs == []


def test_penalties_change_what_is_said(engine: TransformersStepEngine) -> None:
    ways = [greedy(80), greedy(80, presence_penalty=2.0), greedy(80, frequency_penalty=2.0)]
    said = set()
    for how in ways:
        found = answers(engine, *((a_prompt(12, seed=seed), how) for seed in range(8)))
        said.add(tuple(tuple(answer.token_ids) for answer in found))
    assert len(said) == 3


def an_early_end(engine: TransformersStepEngine) -> list[int]:
    """Return a prompt whose greedy answer reaches the end-of-sequence token soon."""
    for seed in range(200):
        prompt = a_prompt(8, seed=seed)
        said = answers(engine, (prompt, greedy(12)))[0].token_ids
        if 2 in said[1:]:
            return prompt
    raise AssertionError("no prompt makes it end")


def test_the_token_that_ends_an_answer_is_counted_but_not_shown(
    engine: TransformersStepEngine,
) -> None:
    prompt = an_early_end(engine)
    (through,) = answers(engine, (prompt, greedy(12)))
    (ended,) = answers(engine, (prompt, greedy(12, ignore_eos=False)))
    assert ended.token_ids == through.token_ids[: through.token_ids.index(2)]
    assert ended.reason is FinishReason.STOP
    assert ended.outputs[-1].tokens_hidden == 1
    (kept_up,) = answers(engine, (prompt, greedy(12, ignore_eos=False, tokens_min=12)))
    assert len(kept_up.token_ids) == 12
    assert 2 not in kept_up.token_ids


def test_more_than_the_kv_memory_holds_still_finishes_with_the_same_tokens(folder: Path) -> None:
    engine = TransformersStepEngine(
        # 512 bytes a token of each layer: 1,024 tokens, and sequences grow to 300 each.
        TransformersConfig(
            device="cpu",
            precision="float32",
            kv_cache_bytes=1_024 * 3 * 2 * 2 * 16 * 4,
            sequences_running_max=8,
        ),
        folder,
    )
    assert engine.info.kv_tokens_max == 1_024
    assert engine.info.context_tokens_max == 512
    asked = [(a_prompt(60, seed=n), greedy(240)) for n in range(8)]
    found = answers(engine, *asked)
    engine.close()
    roomy = TransformersStepEngine(SMALL, folder)
    expected = answers(roomy, *asked)
    roomy.close()
    assert [answer.token_ids for answer in found] == [answer.token_ids for answer in expected]


def test_what_was_aborted_gives_its_memory_back(engine: TransformersStepEngine) -> None:
    for _ in range(3):
        for id in range(12):
            engine.submit(SequenceId(id), a_prompt(300, seed=id), greedy(200))
        for _ in range(3):
            engine.step()
        assert engine.stats().blocks_used_ratio > 0.05
        for id in range(12):
            engine.abort(SequenceId(id))
        assert engine.step() == []
        assert engine.stats().blocks_used_ratio == 0.0


BAD: list[tuple[list[int], Sampling]] = [
    ([], greedy(3)),
    ([-1], greedy(3)),
    ([259], greedy(3)),
    ([1] * 2_000, greedy(3)),
    ([1], greedy(10**9)),
    ([1], Sampling(tokens_max=3, temperature=float("nan"))),
    ([1], greedy(3, top_p=0.0)),
    ([1], greedy(3, adapter="nobody")),
]


@pytest.mark.parametrize(("prompt", "how"), BAD, ids=lambda value: str(value)[:40])
def test_what_has_no_meaning_is_refused(
    engine: TransformersStepEngine, prompt: list[int], how: Sampling
) -> None:
    with pytest.raises(Refused):
        engine.submit(SequenceId(2), prompt, how)
    assert engine.step() == []


def test_numbers_that_overflow_fail_one_sequence_and_spoil_nobody_after(folder: Path) -> None:
    engine = TransformersStepEngine(SMALL, folder)
    (before,) = answers(engine, (a_prompt(30), greedy(20)))
    weight = engine._loaded.model.get_input_embeddings().weight
    kept = weight[77].clone()
    weight[77] = float("inf")
    healthy = [token if token != 77 else 78 for token in a_prompt(30, seed=3)]
    engine.submit(SequenceId(1), [77] * 30, greedy(20))
    engine.submit(SequenceId(2), healthy, greedy(5))
    outputs: list[StepOutput] = []
    while engine.stats().running + engine.stats().waiting:
        outputs += engine.step()
    assert [output.id for output in outputs if output.failure] == [1]
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    weight[77] = kept
    (after,) = answers(engine, (a_prompt(30), greedy(20)))
    engine.close()
    assert after.token_ids == before.token_ids
