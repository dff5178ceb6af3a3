"""What is converted to ONNX is whole, and what would be computed otherwise is refused by name."""

import json
from pathlib import Path
from typing import Any

import pytest

from forebay.models.onnx_conversion import convert
from forebay.models.onnx_file import read_beside
from forebay.models.precisions import Precision
from forebay.models.source_folder import SourceFolder
from forebay.models.stages import PreparationError
from tests.support.onnx_models import GPT2, LLAMA, a_checkpoint

np = pytest.importorskip("numpy", reason="numpy is not installed")


def made(
    folder: Path, config: dict[str, Any], precision: Precision = Precision.FP32
) -> tuple[Path, Any, list[tuple[int, int]]]:
    """Return where the ONNX is, the facts, and the progress that was told."""
    source, out = a_checkpoint(folder / "source", config), folder / "out"
    out.mkdir()
    told: list[tuple[int, int]] = []
    facts = convert(
        SourceFolder(source, ours=False),
        out,
        precision=precision,
        tell=lambda done, total: told.append((done, total)),
    )
    return out, facts, told


@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_the_graph_is_sound_and_its_weights_lie_beside_it(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    out, facts, told = made(tmp_path, config)
    size = (out / "model.onnx.data").stat().st_size
    parts = read_beside(out / "model.onnx")
    assert {part.location for part in parts} == {"model.onnx.data"}
    assert max(part.offset + (part.length or 0) for part in parts) == size
    assert told == [(1, 2), (2, 2)]
    assert (facts.layers, facts.width, facts.vocabulary_size) == (2, 64, 259)
    assert {"tokenizer.json", "chat_template.jinja"} <= {path.name for path in out.iterdir()}
    inputs = json.loads((out / "genai_config.json").read_text())["model"]["decoder"]["inputs"]
    assert ("position_ids" in inputs) == (config is GPT2)


def test_fewer_bits_are_fewer_bytes_and_say_so(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    wide = LLAMA | {"hidden_size": 256, "intermediate_size": 512}
    sizes = {}
    for precision in Precision:
        (tmp_path / precision).mkdir()
        out, facts, _ = made(tmp_path / precision, wide, precision)
        sizes[precision] = (out / "model.onnx.data").stat().st_size
        assert facts.precision.startswith(precision.value)
    assert sizes[Precision.INT4] < sizes[Precision.INT8] < 0.5 * sizes[Precision.FP32]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another family": ({"model_type": "mamba"}, "model_type 'mamba'.*gpt2, llama, mistral, qwen2"),
    "stretched positions": (
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        "sets rope_scaling to",
    ),
    "the same, by its newer name": (
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}},
        "sets rope_parameters",
    ),
    "the same, by its older name": (
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        "sets rope_scaling",
    ),
    "a window": ({"sliding_window": 4_096}, "sets sliding_window to '4096'"),
    "windows in some layers": (
        {"layer_types": ["full_attention", "sliding_attention"]},
        "sets layer_types",
    ),
    "another function": ({"hidden_act": "gelu"}, "sets hidden_act to 'gelu'"),
    "half of each head turned": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    "more layers than there are": ({"num_hidden_layers": 3}, "lack 'model.layers.2"),
    "wider than it is": ({"hidden_size": 128}, "must be floats of"),
    "no heads": ({"num_attention_heads": None}, "does not describe"),
}


@pytest.mark.parametrize(("changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_would_be_computed_otherwise_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    source, out = a_checkpoint(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    (source / "config.json").write_text(json.dumps(LLAMA | changes))
    with pytest.raises(PreparationError, match=said):
        convert(
            SourceFolder(source, ours=False),
            out,
            precision=Precision.FP32,
            tell=lambda _done, _total: None,
        )


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    source, out = a_checkpoint(tmp_path / "source"), tmp_path / "out"
    out.mkdir()
    weights = source / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + np.float32("nan").tobytes())
    with pytest.raises(PreparationError, match="not finite"):
        convert(
            SourceFolder(source, ours=False),
            out,
            precision=Precision.FP32,
            tell=lambda _done, _total: None,
        )
