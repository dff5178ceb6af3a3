"""The engine onnx keeps the promises of a step engine, with small models made for it."""

import mmap
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from forebay.core.request import FinishReason
from forebay.engine.manifest import ArtefactError, read_manifest
from forebay.engine.protocol import CannotLoad, Refused, SequenceId
from forebay.engines import onnx
from forebay.engines.kv_memory import TooLittleMemory
from forebay.engines.machine import Machine
from forebay.engines.onnx import KIND, OnnxConfig, OnnxStepEngine
from forebay.models.precisions import Precision
from forebay.testing.step_engine_contract import StepEngineContract
from tests.support.answers import a_prompt, answers, greedy
from tests.support.onnx_models import GPT2, LLAMA, an_onnx_folder, converted, finish_again
from tests.support.torch_models import a_folder

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SMALL = OnnxConfig(kv_cache_bytes=16 << 20, sequences_running_max=8, batched_tokens_max=64)
MODELS = {
    "llama, 32 bits": (LLAMA, Precision.FP32),
    "llama, int8": (LLAMA, Precision.INT8),
    "llama, int4": (LLAMA, Precision.INT4),
    "gpt2, 32 bits": (GPT2, Precision.FP32),
    "gpt2, int8": (GPT2, Precision.INT8),
}


@pytest.fixture(scope="module", params=MODELS)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> OnnxStepEngine:
    config, precision = MODELS[request.param]
    folder = an_onnx_folder(tmp_path_factory.mktemp("onnx"), config, precision)
    return OnnxStepEngine(SMALL, folder)


class TestOnnx(StepEngineContract):
    """Everything that the contract asks."""


def the_librarys_own(folder: Path, prompt: list[int], tokens: int) -> list[int]:
    import torch  # noqa: PLC0415 - heavy, and not everywhere
    import transformers  # noqa: PLC0415 - same

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.generation_config.eos_token_id = None
    config = transformers.GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        made = model.generate(torch.tensor([prompt]), generation_config=config)
    return [int(token) for token in made[0, len(prompt) :]]


SMALL_SIZES: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "eos_token_id": 2,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", SMALL_SIZES),
    "llama with another base of positions": (
        "LlamaConfig",
        SMALL_SIZES | {"rope_parameters": {"rope_type": "default", "rope_theta": 100_000.0}},
    ),
    "llama with biases, untied": ("LlamaConfig", SMALL_SIZES | {"attention_bias": True}),
    "llama, tied": ("LlamaConfig", SMALL_SIZES | {"tie_word_embeddings": True}),
    "llama with wide heads": ("LlamaConfig", SMALL_SIZES | {"head_dim": 32}),
    "qwen2": ("Qwen2Config", SMALL_SIZES),
    "mistral": ("MistralConfig", SMALL_SIZES | {"sliding_window": None}),
    "gpt2": (
        "GPT2Config",
        {"vocab_size": 259, "n_positions": 512, "n_embd": 64, "n_layer": 2, "n_head": 4}
        | {"eos_token_id": 2},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_what_transformers_says_of_the_same_weights(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    name, sizes = KINDS[kind]
    source = a_folder(tmp_path / "source", getattr(transformers, name)(**sizes))
    engine = OnnxStepEngine(SMALL, converted(source, tmp_path / "out", Precision.FP32))
    prompts = [a_prompt(length, seed=length) for length in (1, 7, 90, 130)]
    found = answers(engine, *((prompt, greedy(40)) for prompt in prompts))
    for prompt, answer in zip(prompts, found, strict=True):
        assert answer.token_ids == the_librarys_own(source, prompt, 40)


@pytest.fixture(scope="module", params=[LLAMA, GPT2], ids=["llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return an_onnx_folder(tmp_path_factory.mktemp("folder"), request.param)


@pytest.fixture(scope="module")
def one(folder: Path) -> OnnxStepEngine:
    return OnnxStepEngine(SMALL, folder)


def test_greedy_is_the_same_alone_and_beside_others_and_in_chunks(
    one: OnnxStepEngine, folder: Path
) -> None:
    prompts = [a_prompt(length, seed=length) for length in (1, 5, 63, 64, 65, 200)]
    alone = [answers(one, (prompt, greedy(30)))[0].token_ids for prompt in prompts]
    together = answers(one, *((prompt, greedy(30)) for prompt in prompts))
    whole = OnnxStepEngine(OnnxConfig(kv_cache_bytes=16 << 20, batched_tokens_max=512), folder)
    unbroken = answers(whole, *((prompt, greedy(30)) for prompt in prompts))
    assert [answer.token_ids for answer in together] == alone
    assert [answer.token_ids for answer in unbroken] == alone


def test_who_gives_way_for_lack_of_memory_says_the_same_in_the_end(folder: Path) -> None:
    manifest = read_manifest(folder)
    token_bytes = 2 * manifest.layers * manifest.kv_heads * manifest.head_size * 4
    tight = OnnxConfig(kv_cache_bytes=16 * 32 * token_bytes, sequences_running_max=8)
    engine = OnnxStepEngine(tight, folder)
    wide = OnnxStepEngine(SMALL, folder)
    asked = [(a_prompt(40, seed=seed), greedy(100)) for seed in range(8)]
    ran = set()
    for number, (prompt, sampling) in enumerate(asked):
        engine.submit(SequenceId(number), prompt, sampling)
    found: dict[int, list[int]] = {number: [] for number in range(8)}
    while engine.stats().running + engine.stats().waiting:
        for output in engine.step():
            found[output.id] += output.token_ids
        ran.add(engine.stats().running)
        assert engine.stats().blocks_used_ratio <= 1.0
    assert max(ran) > 2
    expected = answers(wide, *asked)
    assert list(found.values()) == [answer.token_ids for answer in expected]


def test_it_goes_on_after_made_tokens_with_penalties_and_seeds(one: OnnxStepEngine) -> None:
    prompt = a_prompt(9)
    wish = {"temperature": 0.8, "seed": 5, "presence_penalty": 0.5, "frequency_penalty": 0.5}
    (whole,) = answers(one, (prompt, greedy(20, **wish)))
    (rest,) = answers(one, (prompt, greedy(13, **wish)), made=tuple(whole.token_ids[:7]))
    assert rest.token_ids == whole.token_ids[7:]


def test_onnxruntime_genai_loads_our_folders_and_says_the_same(
    one: OnnxStepEngine, folder: Path
) -> None:
    genai = pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    prompt = a_prompt(9)
    (ours,) = answers(one, (prompt, greedy(20)))
    model = genai.Model(str(folder))
    how = genai.GeneratorParams(model)
    how.set_search_options(max_length=29, min_length=29, do_sample=False)
    theirs = genai.Generator(model, how)
    theirs.append_tokens(prompt)
    while not theirs.is_done():
        theirs.generate_next_token()
    assert theirs.get_sequence(0).tolist() == [*prompt, *ours.token_ids]


def test_seeds_decide_and_narrow_wishes_are_greedy(one: OnnxStepEngine) -> None:
    prompt = a_prompt(9)
    (likeliest,) = answers(one, (prompt, greedy(12)))
    free = [greedy(12, temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    first, again, other = answers(one, *((prompt, how) for how in free))
    assert first.token_ids == again.token_ids != other.token_ids
    for narrow in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999}):
        (answer,) = answers(one, (prompt, greedy(12, temperature=1.5, **narrow)))
        assert answer.token_ids == likeliest.token_ids


def test_the_end_token_is_counted_but_not_shown(one: OnnxStepEngine) -> None:
    prompts = [a_prompt(6, seed=seed) for seed in range(40)]
    asked = [(prompt, greedy(200, temperature=1.2, ignore_eos=False)) for prompt in prompts]
    ended = [
        answer.outputs[-1] for answer in answers(one, *asked) if answer.reason is FinishReason.STOP
    ]
    assert ended
    assert {(output.tokens_hidden, tuple(output.token_ids)) for output in ended} == {(1, ())}


def test_min_tokens_puts_every_end_off(one: OnnxStepEngine) -> None:
    how = greedy(60, temperature=1.5, ignore_eos=False, tokens_min=30)
    found = answers(one, *((a_prompt(6, seed=seed), how) for seed in range(60)))
    assert min(len(answer.token_ids) for answer in found) >= 30
    assert not any(2 in answer.token_ids for answer in found)


def test_what_it_cannot_do_is_refused_by_name(one: OnnxStepEngine) -> None:
    cases = {
        "prompt": ([], greedy(3)),
        "max_tokens": (a_prompt(9), greedy(5_000)),
        "min_tokens": (a_prompt(9), greedy(3, tokens_min=9)),
        "temperature": (a_prompt(9), greedy(3, temperature=float("nan"))),
        "model": (a_prompt(9), greedy(3, adapter="lora")),
    }
    for param, (prompt, sampling) in cases.items():
        with pytest.raises(Refused) as refusal:
            one.submit(SequenceId(1), prompt, sampling)
        assert refusal.value.param == param
    with pytest.raises(Refused, match="out of range"):
        one.submit(SequenceId(1), [259], greedy(3))
    assert one.step() == []


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read as Linux tells it")
def test_an_aborted_sequence_gives_its_memory_back_within_a_step(tmp_path: Path) -> None:
    wide = LLAMA | {"num_hidden_layers": 16, "max_position_embeddings": 8_192}
    folder = an_onnx_folder(tmp_path, wide)
    engine = OnnxStepEngine(
        OnnxConfig(kv_cache_bytes=256 << 20, sequences_running_max=4, batched_tokens_max=512),
        folder,
    )
    engine.submit(SequenceId(1), a_prompt(4_000), greedy(5))
    while not engine.step():
        pass
    held = resident_bytes()
    engine.abort(SequenceId(1))
    assert engine.step() == []
    # 4,000 tokens of 16 layers, 2 heads of 16 numbers, keys and values, 32 bits.
    assert held - resident_bytes() > 0.8 * 4_000 * 16 * 2 * 16 * 2 * 4
    engine.close()


def test_a_model_larger_than_memory_is_refused_before_it_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "read_machine", lambda: Machine(memory_bytes=100 << 20, processors=2))
    monkeypatch.delattr(onnx, "OnnxDecoder")
    with pytest.raises(TooLittleMemory, match=r"MB for the model, and 105 MB is free.*onnx\.kv_ca"):
        OnnxStepEngine(OnnxConfig(), folder)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILT = {
    "a graph cut short": (lambda f: cut(f / "model.onnx"), "not a graph that onnxruntime"),
    "weights cut short": (lambda f: cut(f / "model.onnx.data"), "not a graph that onnxruntime"),
    "no graph": (lambda f: (f / "model.onnx").unlink(), "'model.onnx', which is not there"),
    "no weights": (lambda f: (f / "model.onnx.data").unlink(), "not a graph that onnxruntime"),
    "an empty graph": (lambda f: (f / "model.onnx").write_bytes(b""), "not a graph"),
    "no configuration": (lambda f: (f / "genai_config.json").unlink(), "cannot be read"),
    "half a configuration": (lambda f: cut(f / "genai_config.json"), "cannot be read"),
    "a configuration of text": (
        lambda f: (f / "genai_config.json").write_text('{"model": 7}'),
        "cannot be read",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), SPOILT.values(), ids=SPOILT)
def test_a_spoilt_folder_is_refused_with_the_fix(tmp_path: Path, spoil: Any, said: str) -> None:
    folder = an_onnx_folder(tmp_path)
    spoil(folder)
    with pytest.raises(CannotLoad, match=r"sha256|lacks"):
        OnnxStepEngine(SMALL, folder)
    finish_again(folder)
    with pytest.raises(ArtefactError, match=said) as error:
        OnnxStepEngine(SMALL, folder)
    assert "forebay pull" in str(error.value)


@pytest.mark.parametrize(
    ("found", "other", "said"),
    [
        ('"num_key_value_heads":2', '"num_key_value_heads":4', "KV heads"),
        ('"vocab_size":259', '"vocab_size":300', "vocabulary"),
        ('"past_key_values.%d.key"', '"cache.%d.key"', "asks for the input"),
        ('"logits":"logits"', '"logits":"scores"', "has no 'scores'"),
    ],
)
def test_a_configuration_that_the_graph_contradicts_is_refused(
    tmp_path: Path, found: str, other: str, said: str
) -> None:
    folder = an_onnx_folder(tmp_path)
    path = folder / "genai_config.json"
    text = re.sub(r"\s", "", path.read_text())
    assert found in text
    path.write_text(text.replace(found, other))
    finish_again(folder)
    with pytest.raises(ArtefactError, match=said):
        OnnxStepEngine(SMALL, folder)


def test_what_it_is_and_cannot_do_is_said(one: OnnxStepEngine) -> None:
    assert KIND.name == one.info.name == "onnx"
    assert not one.info.supports & {"json_object", "json_schema", "adapters", "embeddings"}
    assert re.fullmatch(
        r"weights float32; \d+ threads; up to 8 sequences of \d+ tokens; KV cache 17 MB for \d+ "
        r"tokens",
        one.info.detail,
    )
