"""LoRA adapters over one model in vLLM, side by side in one batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forebay.engine.protocol import CannotLoad, SequenceId
from forebay.engines.vllm import VllmStepEngine
from forebay.engines.vllm_config import VllmConfig
from tests.support.adapter_suite import AdapterSuite, two_adapters
from tests.support.answers import a_prompt, greedy
from tests.support.torch_models import a_llama, a_lora

pytest.importorskip("vllm", reason="vllm is not installed")
pytest.importorskip("peft", reason="peft is not installed")
pytest.importorskip("torch", reason="torch is not installed")

pytestmark = [
    pytest.mark.slow,
    # The library's own, and those of what it imports.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SMALL = VllmConfig(
    precision="float32",
    kv_cache_bytes=64 << 20,
    sequences_running_max=8,
    adapters_max=2,
    adapter_rank_max=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return a_llama(tmp_path_factory.mktemp("llama"), hidden_size=256, intermediate_size=256)


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return two_adapters(folder, tmp_path_factory.mktemp("adapters"))


@pytest.fixture(scope="module")
def one_engine(folder: Path) -> Iterator[VllmStepEngine]:
    made = VllmStepEngine(SMALL, folder)
    yield made
    made.close()


@pytest.fixture
def engine(one_engine: VllmStepEngine) -> Iterator[VllmStepEngine]:
    yield one_engine
    for name in one_engine._adapters.names():
        one_engine.unload_adapter(name)
    assert one_engine._engine.list_loras() == set()


def a_higher_rank(base: Path, where: Path) -> Path:
    return a_lora(where / "adapter", base, seed=1, r=64)


def a_wider_base(_: Path, where: Path) -> Path:
    return a_lora(where / "adapter", a_llama(where / "other", hidden_size=512), seed=1)


def no_folder(_: Path, where: Path) -> Path:
    return where / "nowhere"


def a_pickle(base: Path, where: Path) -> Path:
    path = a_lora(where / "adapter", base, seed=1)
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    return path


def dora(base: Path, where: Path) -> Path:
    return a_lora(where / "adapter", base, seed=1, use_dora=True)


class TestVllmAdapters(AdapterSuite):
    """Everything that the suite asks, and what this engine promises besides."""

    exact = False  # what is in the prefix cache is read by another way

    def held(self, engine: VllmStepEngine) -> int:
        return len(engine._engine.list_loras())

    def test_there_is_room_for_so_many_and_one_that_is_replaced(
        self, engine: VllmStepEngine, adapters: dict[str, Path]
    ) -> None:
        first, second = adapters.values()
        for name in "ab":
            engine.load_adapter(name, first)
        with pytest.raises(CannotLoad, match="adapters_max"):
            engine.load_adapter("c", first)
        engine.submit(SequenceId(1), a_prompt(20), greedy(50, adapter="b"))
        engine.submit(SequenceId(2), a_prompt(20), greedy(50, adapter="a"))
        engine.step()
        engine.load_adapter("b", second)
        with pytest.raises(CannotLoad, match="still in use"):
            engine.load_adapter("a", second)
        assert len(engine._engine.list_loras()) == 3
        for id in (1, 2):
            engine.abort(SequenceId(id))
        engine.step()
        assert len(engine._engine.list_loras()) == 2
        engine.load_adapter("a", second)

    @pytest.mark.parametrize(
        "spoil", [a_higher_rank, a_wider_base, no_folder, a_pickle, dora], ids=lambda f: f.__name__
    )
    def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(
        self,
        spoil: Any,
        engine: VllmStepEngine,
        folder: Path,
        adapters: dict[str, Path],
        tmp_path: Path,
    ) -> None:
        self.refuses(engine, spoil(folder, tmp_path), "", adapters=adapters)
