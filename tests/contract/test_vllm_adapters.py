"""LoRA adapters over one model in vLLM, side by side in one batch."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.engine.protocol import Adaptable, CannotLoad, Feature, Refused, SequenceId
from forebay.engines.vllm import VllmStepEngine
from forebay.engines.vllm_config import VllmConfig
from tests.support.answers import a_prompt, answers, greedy
from tests.support.torch_models import a_llama, a_lora

vllm = pytest.importorskip("vllm", reason="vllm is not installed")
peft = pytest.importorskip("peft", reason="peft is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

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
    where = tmp_path_factory.mktemp("adapters")
    layers = {"target_modules": ["o_proj", "gate_proj"], "r": 2, "use_rslora": True}
    return {
        "french:1": a_lora(where / "one", folder, seed=1),
        "french:v1.2": a_lora(where / "two", folder, seed=2, **layers),
    }


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


def merged(folder: Path, adapter: Path, prompt: list[int], tokens: int) -> list[int]:
    """Return what transformers says with an adapter's weights added to the model's."""
    import transformers  # noqa: PLC0415 - heavy

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
    model.generation_config.eos_token_id = None
    how = transformers.GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        made = model.generate(torch.tensor([prompt]), generation_config=how)
    return [int(token) for token in made[0, len(prompt) :]]


def test_two_adapters_and_the_plain_model_answer_side_by_side(
    engine: VllmStepEngine, folder: Path, adapters: dict[str, Path]
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


def test_an_unloaded_adapter_serves_who_has_it_and_nobody_else(
    engine: VllmStepEngine, adapters: dict[str, Path]
) -> None:
    engine.load_adapter("a", adapters["french:1"])
    (whole,) = answers(engine, (a_prompt(20), greedy(12, adapter="a")))
    engine.submit(SequenceId(1), a_prompt(20), greedy(12, adapter="a"))
    made = [token for output in engine.step() for token in output.token_ids]
    engine.unload_adapter("a")
    engine.unload_adapter("a")
    with pytest.raises(Refused, match="no such adapter"):
        engine.submit(SequenceId(2), a_prompt(20), greedy(12, adapter="a"))
    assert len(engine._engine.list_loras()) == 1
    while engine.stats().running:
        made += [token for output in engine.step() for token in output.token_ids]
    assert made == whole.token_ids
    assert engine._engine.list_loras() == set()


def test_a_name_can_be_loaded_again_with_other_weights(
    engine: VllmStepEngine, adapters: dict[str, Path]
) -> None:
    first, second = adapters.values()
    # Longer than a KV block, so that the prefix cache would remember the first weights.
    asked = (a_prompt(300), greedy(12, adapter="a"))
    engine.load_adapter("a", first)
    (old,) = answers(engine, asked)
    engine.load_adapter("a", second)
    (new,) = answers(engine, asked)
    assert new.token_ids != old.token_ids
    engine.load_adapter("a", first)
    (again,) = answers(engine, asked)
    assert again.token_ids == old.token_ids


def test_loading_beside_running_sequences_leaves_them_unharmed(
    engine: VllmStepEngine, adapters: dict[str, Path]
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


def test_there_is_room_for_so_many_and_one_that_is_replaced(
    engine: VllmStepEngine, adapters: dict[str, Path]
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


@pytest.mark.parametrize(
    "spoil", [a_higher_rank, a_wider_base, no_folder, a_pickle, dora], ids=lambda f: f.__name__
)
def test_an_adapter_that_does_not_fit_is_refused_and_leaves_no_trace(
    spoil: object, engine: VllmStepEngine, folder: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    assert callable(spoil)
    engine.load_adapter("good", adapters["french:1"])
    ways = [greedy(8, adapter=name, logprobs=True) for name in ("", "good")]
    before = answers(engine, *((a_prompt(20), how) for how in ways))
    with pytest.raises(CannotLoad):
        engine.load_adapter("bad", spoil(folder, tmp_path))
    assert len(engine._engine.list_loras()) == 1
    after = answers(engine, *((a_prompt(20), how) for how in ways))
    assert [one.token_ids for one in after] == [one.token_ids for one in before]
