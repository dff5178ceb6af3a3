"""Vectors by the engine transformers: the library's own states, pooled, whatever runs beside."""

import math
import struct
from pathlib import Path
from typing import Any

import pytest

from forebay.core.request import FinishReason, Sampling
from forebay.engine.protocol import Refused, SequenceId
from forebay.engines.transformers import TransformersStepEngine
from forebay.engines.transformers_batch import Growing, Share
from forebay.engines.transformers_embedding import Pooling
from forebay.engines.transformers_precision import TransformersConfig
from tests.support.answers import a_prompt
from tests.support.torch_models import a_folder, a_llama, a_lora

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

LENGTHS = (1, 31, 32, 33, 65, 140)
"""Shorter and longer than a chunk, and with a last chunk of one token."""


def small(**changes: object) -> TransformersConfig:
    facts = {"device": "cpu", "precision": "float32", "kv_cache_bytes": 16 << 20}
    facts |= {"sequences_running_max": 8, "batched_tokens_max": 32}
    return TransformersConfig(**(facts | changes))  # type: ignore[arg-type]  # real fields


def vectors(
    engine: TransformersStepEngine, prompts: list[list[int]], *, adapters: tuple[str, ...] = ()
) -> list[list[float]]:
    """Embed prompts together, the first with the first adapter, while something is generated."""
    found: dict[int, bytes] = {}
    engine.submit(SequenceId(1), a_prompt(9), Sampling(tokens_max=12, seed=1, ignore_eos=True))
    for index, prompt in enumerate(prompts):
        adapter = adapters[index] if index < len(adapters) else ""
        how = Sampling(embed=True, tokens_max=0, seed=0, adapter=adapter)
        engine.submit(SequenceId(100 + index), prompt, how)
    said = 0
    while len(found) < len(prompts) or said < 12:
        for output in engine.step():
            if output.id == 1:
                said += len(output.token_ids)
                continue
            assert output.finish_reason is FinishReason.STOP, output.failure
            found[output.id] = output.embedding
    assert engine.stats().running == engine.stats().waiting == 0
    size = engine.info.embedding_size
    return [list(struct.unpack(f"<{size}f", found[100 + index])) for index in range(len(prompts))]


def the_librarys_own(model: Any, prompt: list[int]) -> list[float]:
    with torch.inference_mode():
        states = model(torch.tensor([prompt]), output_hidden_states=True).hidden_states[-1][0]
    mean = states.mean(0)
    found: list[float] = (mean / mean.norm()).tolist()
    return found


def embedding_of(length: int) -> Growing:
    return Growing(
        id=SequenceId(1),
        tokens=[7] * length,
        prompt_tokens=length,
        end_least=length,
        end_most=length,
        sampling=Sampling(embed=True, tokens_max=0, seed=0),
    )


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_vector_is_the_mean_of_the_librarys_own_last_states(tmp_path: Path, kind: str) -> None:
    gpt2 = transformers.GPT2Config(vocab_size=259, n_positions=512, n_embd=64, n_layer=2, n_head=4)
    folder = a_llama(tmp_path) if kind == "llama" else a_folder(tmp_path, gpt2)
    engine = TransformersStepEngine(small(), folder)
    prompts = [a_prompt(length, seed=length) for length in LENGTHS]
    found = vectors(engine, prompts)
    engine.close()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for prompt, vector in zip(prompts, found, strict=True):
        assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-5)
        assert vector == pytest.approx(the_librarys_own(model, prompt), abs=1e-4)


def test_each_input_has_the_vector_of_its_adapter(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    folder = a_llama(tmp_path / "base")
    adapter = a_lora(tmp_path / "one", folder, seed=1)
    engine = TransformersStepEngine(small(adapters_max=2), folder)
    engine.load_adapter("french", adapter)
    prompt = a_prompt(40)
    french, plain = vectors(engine, [prompt, prompt], adapters=("french",))
    with pytest.raises(Refused, match="french"):
        vectors(engine, [prompt], adapters=("german",))
    engine.close()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert plain == pytest.approx(the_librarys_own(model, prompt), abs=1e-4)
    adapted = peft.PeftModel.from_pretrained(model, adapter)
    assert french == pytest.approx(the_librarys_own(adapted, prompt), abs=1e-4)
    assert french != pytest.approx(plain, abs=1e-2)


def test_what_is_read_again_from_its_beginning_is_not_counted_twice() -> None:
    growing, pooling = embedding_of(4), Pooling()
    states = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    pooling.add([Share(growing, 2)], states[:2])  # then its memory is taken back
    pooling.add([Share(growing, 2)], states[:2])
    growing.row.tokens = 2
    pooling.add([Share(growing, 2)], states[2:])
    expected = (1 / math.sqrt(10), 3 / math.sqrt(10))
    assert struct.unpack("<2f", pooling.take(growing.id)) == pytest.approx(expected)


def test_a_vector_that_is_not_finite_is_none() -> None:
    growing, pooling = embedding_of(1), Pooling()
    pooling.add([Share(growing, 1)], torch.tensor([[float("nan"), 1.0]]))
    assert pooling.take(growing.id) == b""


def test_inputs_that_wait_for_memory_have_the_same_vectors(tmp_path: Path) -> None:
    folder = a_llama(tmp_path)
    # 512 bytes a token of each of three layers: 1,024 tokens.
    tight = TransformersStepEngine(small(kv_cache_bytes=3 * 512 * 1_024), folder)
    prompts = [a_prompt(300 + 40 * n, seed=n) for n in range(5)]
    found = vectors(tight, prompts)
    tight.close()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    for prompt, vector in zip(prompts, found, strict=True):
        assert vector == pytest.approx(the_librarys_own(model, prompt), abs=1e-4)


def test_an_input_that_is_aborted_half_read_leaves_nothing(tmp_path: Path) -> None:
    engine = TransformersStepEngine(small(), a_llama(tmp_path))
    engine.submit(SequenceId(5), a_prompt(200), Sampling(embed=True, tokens_max=0, seed=0))
    assert list(engine.step()) == []
    assert engine.stats().running == 1
    engine.abort(SequenceId(5))
    assert list(engine.step()) == []
    assert engine.stats().running == engine.stats().blocks_used_ratio == 0
    assert not engine._model.pooling._sums
    engine.close()
