"""LoRA adapters over one model in torch, side by side in one batch."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from forebay.engine.protocol import Adaptable, CannotLoad, Feature, Refused, SequenceId
from forebay.engines.transformers import TransformersStepEngine
from forebay.engines.transformers_precision import TransformersConfig
from tests.support.answers import a_prompt, answers, greedy
from tests.support.torch_models import a_llama, a_lora

torch = pytest.importorskip("torch", reason="torch is not installed")
peft = pytest.importorskip("peft", reason="peft is not installed")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

SMALL = TransformersConfig(
    device="cpu",
    precision="float32",
    kv_cache_bytes=16 << 20,
    sequences_running_max=8,
    adapters_max=3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("adapters")
    layers = {"target_modules": ["o_proj", "gate_proj"], "r": 2, "use_rslora": True}
    return {
        "french:1": a_lora(where / "one", folder, seed=1),
        "french:v1.2": a_lora(where / "two", folder, seed=2, **layers),
    }


@pytest.fixture
def engine(folder: Path) -> TransformersStepEngine:
    return TransformersStepEngine(SMALL, folder)


def merged(folder: Path, adapter: Path, prompt: list[int], tokens: int) -> list[int]:
    """Return what the library itself says with an adapter's weights added to the model's."""
    import transformers  # noqa: PLC0415 - heavy

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.generation_config.eos_token_id = None
    how = transformers.GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        made = model.generate(torch.tensor([prompt]), generation_config=how)
    return [int(token) for token in made[0, len(prompt) :]]


def test_two_adapters_and_the_plain_model_answer_side_by_side(
    engine: TransformersStepEngine, folder: Path, adapters: dict[str, Path]
) -> None:
    adaptable: Adaptable = engine
    assert Feature.ADAPTERS in engine.info.supports
    prompt = a_prompt(40)
    (alone,) = answers(engine, (prompt, greedy(24)))
    for name, path in adapters.items():
        adaptable.load_adapter(name, path)
    names = ["", *adapters]
    together = answers(engine, *((prompt, greedy(24, adapter=name)) for name in names * 2))
    said = [answer.token_ids for answer in together]
    assert said[:3] == said[3:]
    assert said[0] == alone.token_ids
    assert said[1] == merged(folder, adapters["french:1"], prompt, 24)
    assert said[2] == merged(folder, adapters["french:v1.2"], prompt, 24)
    assert len({tuple(tokens) for tokens in said}) == 3


def test_with_adapters_loaded_the_plain_model_is_bit_identical(
    engine: TransformersStepEngine, adapters: dict[str, Path]
) -> None:
    how = greedy(24, logprobs=True)
    (before,) = answers(engine, (a_prompt(40), how))
    for name, path in adapters.items():
        engine.load_adapter(name, path)
    (after,) = answers(engine, (a_prompt(40), how))
    assert (after.token_ids, after.logprobs) == (before.token_ids, before.logprobs)


def test_an_unloaded_adapter_serves_who_has_it_and_nobody_else(
    engine: TransformersStepEngine, adapters: dict[str, Path]
) -> None:
    engine.load_adapter("a", adapters["french:1"])
    (whole,) = answers(engine, (a_prompt(20), greedy(12, adapter="a")))
    engine.submit(SequenceId(1), a_prompt(20), greedy(12, adapter="a"))
    made = [token for output in engine.step() for token in output.token_ids]
    held = parameters(engine)
    engine.unload_adapter("a")
    engine.unload_adapter("a")
    with pytest.raises(Refused, match="no such adapter"):
        engine.submit(SequenceId(2), a_prompt(20), greedy(12, adapter="a"))
    assert parameters(engine) == held
    while engine.stats().running:
        made += [token for output in engine.step() for token in output.token_ids]
    assert made == whole.token_ids
    assert parameters(engine) < held


def parameters(engine: TransformersStepEngine) -> int:
    return sum(weight.numel() for weight in engine._loaded.model.parameters())


def test_a_name_can_be_loaded_again_with_other_weights(
    engine: TransformersStepEngine, adapters: dict[str, Path]
) -> None:
    first, second = adapters.values()
    engine.load_adapter("a", first)
    (old,) = answers(engine, (a_prompt(20), greedy(12, adapter="a")))
    held = parameters(engine)
    engine.load_adapter("a", second)
    (new,) = answers(engine, (a_prompt(20), greedy(12, adapter="a")))
    assert new.token_ids != old.token_ids
    engine.load_adapter("a", first)
    (again,) = answers(engine, (a_prompt(20), greedy(12, adapter="a")))
    assert again.token_ids == old.token_ids
    assert parameters(engine) == held


def test_loading_beside_running_sequences_leaves_them_unharmed(
    engine: TransformersStepEngine, adapters: dict[str, Path]
) -> None:
    engine.load_adapter("a", adapters["french:1"])
    ways = [greedy(20, adapter=name) for name in ("", "a")]
    alone = [answer.token_ids for answer in answers(engine, *((a_prompt(20), how) for how in ways))]
    for id, how in enumerate(ways):
        engine.submit(SequenceId(id), a_prompt(20), how)
    made: dict[int, list[int]] = {0: [], 1: []}
    step = 0
    while engine.stats().running + engine.stats().waiting:
        for output in engine.step():
            made[output.id] += output.token_ids
        step += 1
        if step == 5:
            engine.load_adapter("b", adapters["french:v1.2"])
        if step == 10:
            engine.unload_adapter("b")
    assert list(made.values()) == alone


def test_there_is_room_for_so_many(
    engine: TransformersStepEngine, adapters: dict[str, Path]
) -> None:
    for name in "abc":
        engine.load_adapter(name, adapters["french:1"])
    with pytest.raises(CannotLoad, match="adapters_max"):
        engine.load_adapter("d", adapters["french:1"])
    engine.load_adapter("c", adapters["french:v1.2"])


def spoiled(adapters: dict[str, Path], tmp_path: Path) -> Path:
    copy = tmp_path / "adapter"
    shutil.copytree(adapters["french:1"], copy)
    return copy


def set_in_config(adapter: Path, **settings: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def a_wider_base(adapters: dict[str, Path], tmp_path: Path) -> Path:
    return a_lora(tmp_path / "adapter", a_llama(tmp_path / "other", hidden_size=128), seed=1)


def a_deeper_base(adapters: dict[str, Path], tmp_path: Path) -> Path:
    return a_lora(tmp_path / "adapter", a_llama(tmp_path / "other", num_hidden_layers=5), seed=1)


def a_pickle(adapters: dict[str, Path], tmp_path: Path) -> Path:
    adapter = spoiled(adapters, tmp_path)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    return adapter


def no_weights(adapters: dict[str, Path], tmp_path: Path) -> Path:
    adapter = spoiled(adapters, tmp_path)
    (adapter / "adapter_model.safetensors").unlink()
    return adapter


def no_config(adapters: dict[str, Path], tmp_path: Path) -> Path:
    adapter = spoiled(adapters, tmp_path)
    (adapter / "adapter_config.json").unlink()
    return adapter


def cut_off(adapters: dict[str, Path], tmp_path: Path) -> Path:
    path = spoiled(adapters, tmp_path) / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return path.parent


def not_finite(adapters: dict[str, Path], tmp_path: Path) -> Path:
    path = spoiled(adapters, tmp_path) / "adapter_model.safetensors"
    tensors = safetensors_torch.load_file(path)
    next(iter(tensors.values()))[0, 0] = float("nan")
    safetensors_torch.save_file(tensors, path)
    return path.parent


def one_half(adapters: dict[str, Path], tmp_path: Path) -> Path:
    path = spoiled(adapters, tmp_path) / "adapter_model.safetensors"
    tensors = safetensors_torch.load_file(path)
    tensors.pop(next(key for key in tensors if "lora_B" in key))
    safetensors_torch.save_file(tensors, path)
    return path.parent


def dora(adapters: dict[str, Path], tmp_path: Path) -> Path:
    adapter = spoiled(adapters, tmp_path)
    set_in_config(adapter, use_dora=True)
    return adapter


def another_method(adapters: dict[str, Path], tmp_path: Path) -> Path:
    adapter = spoiled(adapters, tmp_path)
    set_in_config(adapter, peft_type="IA3")
    return adapter


def a_pattern_that_never_ends(adapters: dict[str, Path], tmp_path: Path) -> Path:
    adapter = spoiled(adapters, tmp_path)
    set_in_config(adapter, alpha_pattern={"(a+)+$": 1})
    return adapter


def on_the_vocabulary(adapters: dict[str, Path], tmp_path: Path) -> Path:
    base = a_llama(tmp_path / "other")
    path = a_lora(tmp_path / "adapter", base, seed=1, target_modules=["lm_head"])
    weights = path / "adapter_model.safetensors"
    tensors = safetensors_torch.load_file(weights)
    only = {key: tensor for key, tensor in tensors.items() if ".lora_" in key}
    safetensors_torch.save_file(only, weights)
    return path


BAD = {
    a_wider_base: "another base",
    a_deeper_base: "another base",
    a_pickle: "pickle",
    no_weights: r"lacks adapter_model\.safetensors",
    no_config: r"adapter_config\.json",
    cut_off: "not a whole",
    not_finite: "not finite",
    one_half: "parts",
    dora: "use_dora",
    another_method: "IA3",
    a_pattern_that_never_ends: "alpha_pattern",
    on_the_vocabulary: "no linear layer",
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(
    spoil: Any, engine: TransformersStepEngine, adapters: dict[str, Path], tmp_path: Path
) -> None:
    engine.load_adapter("good", adapters["french:1"])
    how = greedy(8, adapter="good", logprobs=True)
    (before,) = answers(engine, (a_prompt(20), how))
    held = parameters(engine)
    with pytest.raises(CannotLoad, match=BAD[spoil]):
        engine.load_adapter("bad", spoil(adapters, tmp_path))
    assert parameters(engine) == held
    (after,) = answers(engine, (a_prompt(20), how))
    assert (after.token_ids, after.logprobs) == (before.token_ids, before.logprobs)
