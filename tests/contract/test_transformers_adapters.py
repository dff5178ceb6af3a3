"""LoRA adapters over one model in torch, side by side in one batch."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from forebay.engine.protocol import CannotLoad
from forebay.engines.transformers import TransformersStepEngine
from forebay.engines.transformers_precision import TransformersConfig
from tests.support.adapter_suite import AdapterSuite, two_adapters
from tests.support.answers import a_prompt, answers, greedy
from tests.support.torch_models import a_llama, a_lora

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("peft", reason="peft is not installed")
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
    return two_adapters(folder, tmp_path_factory.mktemp("adapters"))


@pytest.fixture
def engine(folder: Path) -> TransformersStepEngine:
    return TransformersStepEngine(SMALL, folder)


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


class TestTransformersAdapters(AdapterSuite):
    """Everything that the suite asks, and what this engine promises besides."""

    def held(self, engine: TransformersStepEngine) -> int:
        return sum(weight.numel() for weight in engine._loaded.model.parameters())

    def test_with_adapters_loaded_the_plain_model_is_bit_identical(
        self, engine: TransformersStepEngine, adapters: dict[str, Path]
    ) -> None:
        how = greedy(24, logprobs=True)
        (before,) = answers(engine, (a_prompt(40), how))
        for name, path in adapters.items():
            engine.load_adapter(name, path)
        (after,) = answers(engine, (a_prompt(40), how))
        assert (after.token_ids, after.logprobs) == (before.token_ids, before.logprobs)

    def test_there_is_room_for_so_many(
        self, engine: TransformersStepEngine, adapters: dict[str, Path]
    ) -> None:
        for name in "abc":
            engine.load_adapter(name, adapters["french:1"])
        with pytest.raises(CannotLoad, match="adapters_max"):
            engine.load_adapter("d", adapters["french:1"])
        engine.load_adapter("c", adapters["french:v1.2"])

    @pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
    @pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
    def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(
        self,
        spoil: Any,
        engine: TransformersStepEngine,
        adapters: dict[str, Path],
        tmp_path: Path,
    ) -> None:
        self.refuses(engine, spoil(adapters, tmp_path), BAD[spoil], adapters=adapters)
