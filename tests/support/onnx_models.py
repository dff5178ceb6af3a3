"""Small random models as ONNX, made without torch: folders of safetensors, converted."""

import json
from pathlib import Path
from typing import Any

import msgspec

from forebay.engine.manifest import (
    FORMAT,
    Form,
    Manifest,
    file_sha256,
    read_manifest,
    write_manifest,
)
from forebay.models.facts import Facts
from forebay.models.onnx_conversion import convert
from forebay.models.precisions import Precision
from forebay.models.safetensors_file import write_tensors
from forebay.models.source_folder import SourceFolder
from tests.support.torch_models import SPECIAL, TEMPLATE, a_tokenizer

VOCABULARY = len(SPECIAL) + 256
LLAMA = {
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1_024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "model_type": "gpt2",
    "vocab_size": VOCABULARY,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 512,
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def a_checkpoint(folder: Path, config: dict[str, Any] = LLAMA) -> Path:
    """Write config.json, tokenizer.json and random safetensors."""
    import numpy as np  # noqa: PLC0415 - heavy

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    a_tokenizer(folder / "tokenizer.json")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    shapes = _gpt2(config) if config["model_type"] == "gpt2" else _llama(config)
    rng = np.random.default_rng(5)
    # Wide enough that tokens differ clearly in their odds.
    values = [
        rng.normal(1.0 if len(shape) == 1 else 0.0, 3.0 * shape[-1] ** -0.5, shape)
        for shape in shapes.values()
    ]
    described = [(name, "F32", shape) for name, shape in shapes.items()]
    write_tensors(
        folder / "model.safetensors", described, [one.astype(np.float32) for one in values]
    )
    return folder


def an_onnx_folder(
    folder: Path, config: dict[str, Any] = LLAMA, precision: Precision = Precision.FP32
) -> Path:
    """Write a whole, tiny, random language model as a prepared folder."""
    source = a_checkpoint(folder / "source", config)
    return converted(source, folder / "out", precision)


def converted(source: Path, out: Path, precision: Precision) -> Path:
    """Convert a folder of safetensors, and finish it as a preparation does."""
    out.mkdir()
    facts = convert(
        SourceFolder(source, ours=False), out, precision=precision, tell=lambda _, __: None
    )
    return finish(out, facts)


def finish(out: Path, facts: Facts) -> Path:
    """Write the manifest of a folder that holds everything else."""
    files = sorted(path for path in out.iterdir() if path.name != "manifest.json")
    manifest = Manifest(
        format=FORMAT,
        name="tiny",
        source="file:tiny",
        source_sha256="0" * 64,
        form=Form.ONNX,
        prepared_by="tests",
        weights_bytes=sum(path.stat().st_size for path in out.glob("model.onnx*")),
        files={path.name: file_sha256(path) for path in files},
        **msgspec.structs.asdict(facts),
    )
    write_manifest(out, manifest)
    return out


def finish_again(folder: Path) -> None:
    """Write the manifest anew, as if what was spoilt had been prepared so."""
    manifest = read_manifest(folder)
    files = {
        name: file_sha256(folder / name) for name in manifest.files if (folder / name).exists()
    }
    write_manifest(folder, msgspec.structs.replace(manifest, files=files))


def _llama(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner = config["hidden_size"], config["intermediate_size"]
    kv = width // config["num_attention_heads"] * config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (VOCABULARY, width),
        "model.norm.weight": (width,),
    }
    for layer in range(config["num_hidden_layers"]):
        block: dict[str, tuple[int, ...]] = {
            "input_layernorm": (width,),
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (kv, width),
            "self_attn.v_proj": (kv, width),
            "self_attn.o_proj": (width, width),
            "post_attention_layernorm": (width,),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    return shapes


def _gpt2(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width = config["n_embd"]
    matrices = {
        "attn.c_attn": (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, 4 * width),
        "mlp.c_proj": (4 * width, width),
    }
    shapes: dict[str, tuple[int, ...]] = {
        "wte.weight": (VOCABULARY, width),
        "wpe.weight": (config["n_positions"], width),
        "ln_f.weight": (width,),
        "ln_f.bias": (width,),
    }
    for layer in range(config["n_layer"]):
        for name, shape in matrices.items():
            shapes[f"h.{layer}.{name}.weight"] = shape
            shapes[f"h.{layer}.{name}.bias"] = (shape[1],)
        for name in ("ln_1", "ln_2"):
            shapes[f"h.{layer}.{name}.weight"] = shapes[f"h.{layer}.{name}.bias"] = (width,)
    return shapes
