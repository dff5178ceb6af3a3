"""What the engine transformers takes in, what it refuses, and that it gives all of it back."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forebay.engine.manifest import Form, load_verified
from forebay.engine.protocol import CannotLoad
from forebay.engines.kv_memory import TooLittleMemory
from forebay.engines.transformers import TransformersStepEngine
from forebay.engines.transformers_loading import load
from forebay.engines.transformers_precision import TransformersConfig
from tests.support.answers import a_prompt, answers, greedy
from tests.support.torch_models import a_llama, a_lora, finish

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")

PROCESSOR = TransformersConfig(device="cpu", kv_cache_bytes=16 << 20)


def config(precision: str) -> TransformersConfig:
    return TransformersConfig(device="cpu", kv_cache_bytes=16 << 20, precision=precision)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return a_llama(tmp_path / "model")


def again(folder: Path) -> Path:
    """Write the manifest of a folder that was spoiled: every digest is right."""
    (folder / "manifest.json").unlink()
    return finish(folder, transformers.AutoConfig.from_pretrained(folder), parameters=100_000)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_a_model_answers_in_every_precision_of_a_processor(folder: Path, precision: str) -> None:
    if precision.startswith("int"):
        pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    engine = TransformersStepEngine(config(precision), folder)
    (answer,) = answers(engine, (a_prompt(40), greedy(12)))
    assert len(answer.token_ids) == 12
    assert f"weights {precision} on cpu" in engine.info.detail
    engine.close()


def test_weights_in_8_bits_are_kept_in_8_bits_and_take_an_adapter(
    folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    engine = TransformersStepEngine(config("int8"), folder)
    layer = engine._loaded.model.model.layers[0].mlp.up_proj
    assert layer.weight.dtype is torch.int8
    engine.load_adapter("a", a_lora(tmp_path / "adapter", folder, seed=1))
    plain, adapted, again = answers(
        engine, *((a_prompt(40), greedy(12, adapter=name)) for name in ("", "a", ""))
    )
    assert plain.token_ids == again.token_ids != adapted.token_ids
    engine.close()


def test_what_needs_a_gpu_or_a_library_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CannotLoad, match=r"transformers\.device"):
        TransformersStepEngine(TransformersConfig(device="cuda"), folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CannotLoad, match="pip install bitsandbytes"):
        TransformersStepEngine(config("int4"), folder)


def test_a_model_larger_than_memory_is_refused_before_it_is_read(folder: Path) -> None:
    manifest = load_verified(folder)
    huge = type(manifest)(
        **{name: getattr(manifest, name) for name in manifest.__struct_fields__}
        | {"parameters": 10**13}
    )
    (folder / "model.safetensors").unlink()
    with pytest.raises(TooLittleMemory, match=r"40\d{6} MB for the model, and \d+ MB is free"):
        load(config("float32"), huge, folder)


def test_tensors_that_are_not_there_are_not_made_up(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings["num_hidden_layers"] = 4
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CannotLoad, match=r"lacks \d+ tensors"):
        TransformersStepEngine(PROCESSOR, again(folder))


def test_tensors_of_another_size_are_refused(folder: Path) -> None:
    settings = json.loads((folder / "config.json").read_text())
    settings["intermediate_size"] = 256
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CannotLoad, match="cannot be loaded"):
        TransformersStepEngine(PROCESSOR, again(folder))


def test_a_file_that_was_cut_off_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1_000])
    with pytest.raises(CannotLoad, match="cannot be loaded"):
        TransformersStepEngine(PROCESSOR, again(folder))


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CannotLoad, match="safetensors"):
        TransformersStepEngine(PROCESSOR, again(folder))


def test_code_that_comes_with_a_model_is_not_run(folder: Path) -> None:
    proof = folder / "it_ran"
    (folder / "modeling_evil.py").write_text(f"open({str(proof)!r}, 'w').close()\n")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {
        "model_type": "evil",
        "auto_map": {
            "AutoConfig": "modeling_evil.EvilConfig",
            "AutoModelForCausalLM": "modeling_evil.EvilModel",
        },
    }
    manifest = load_verified(folder)
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CannotLoad, match="cannot be loaded"):
        load(PROCESSOR, manifest, folder)
    assert not proof.exists()
    assert manifest.form is Form.SAFETENSORS


UNLOADING = """
import ctypes, gc, sys
from pathlib import Path
import torch, transformers  # the libraries stay: only what a model takes is measured
from forebay.engine.protocol import SequenceId
from forebay.engines.transformers import TransformersStepEngine
from forebay.engines.transformers_precision import TransformersConfig
from tests.support.answers import a_prompt, answers, greedy

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) << 10

def use(folder):
    engine = TransformersStepEngine(
        TransformersConfig(device="cpu", precision="float32", kv_cache_bytes=256 << 20), folder
    )
    answers(engine, *((a_prompt(300, seed=n), greedy(40)) for n in range(8)))
    return engine

use(Path(sys.argv[1])).close()  # what torch keeps for itself after its first use
before = resident()
engine = use(Path(sys.argv[2]))
loaded = resident()
engine.close()
print(before, loaded, resident())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it reads /proc")
def test_unloading_gives_the_memory_back(folder: Path, tmp_path: Path) -> None:
    large = a_llama(
        tmp_path / "large", hidden_size=512, intermediate_size=2_048, num_hidden_layers=8
    )
    bytes_of_weights = (large / "model.safetensors").stat().st_size
    found = subprocess.run(
        [sys.executable, "-c", UNLOADING, str(folder), str(large)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    before, loaded, after = map(int, found.stdout.split()[-3:])
    taken = loaded - before
    assert taken > 0.9 * bytes_of_weights
    assert after - before < 0.25 * taken
