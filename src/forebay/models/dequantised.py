"""A GGUF's weights as transformers names and orders them: config.json and model.safetensors.

Nothing is lost: floats stay as they are, and quantised numbers fit 16 bits beyond their own
precision.  Numbers that do not fit are refused, not rounded to infinity.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.models import gguf
from forebay.models.checkpoint_folder import WEIGHTS
from forebay.models.facts import Facts
from forebay.models.safetensors_file import TYPE_BYTES, write_tensors
from forebay.models.stages import PreparationError

_CLASSES: Final[Mapping[str, str]] = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
WHOLE: Final[Mapping[str, str]] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
"""llama.cpp's names of tensors, and those of transformers."""
LAYER: Final[Mapping[str, str]] = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""The same, within a layer."""
_TENSOR: Final = re.compile(r"(?:blk\.(\d{1,4})\.)?([a-z_]+)\.(weight|bias)")
_STORED: Final[Mapping[str, str]] = {"F32": "F32", "BF16": "BF16"}
"""Types of a GGUF's matrices that stay; the others become F16."""


def write(
    source: Path,
    header: gguf.GgufHeader,
    facts: Facts,
    *,
    target: Path,
    tell: Callable[[int], None],
) -> None:
    """Write config.json, generation_config.json and model.safetensors; `tell` counts tensors."""
    if facts.architecture not in _CLASSES:
        raise PreparationError(
            f"The GGUF's architecture is {facts.architecture!r}; those that are unpacked to "
            f"safetensors are {', '.join(_CLASSES)}. Name the model's own repository instead."
        )
    names = {tensor.name: _name(tensor) for tensor in header.tensors}
    config = _config(header, facts, tied="output.weight" not in names)
    _write_json(target / "config.json", config)
    ends = {"eos_token_id": facts.eos_token_ids, "bos_token_id": facts.bos_token_id}
    _write_json(target / "generation_config.json", ends)
    described = [(names[t.name], _dtype(t), t.shape) for t in header.tensors]
    write_tensors(target / WEIGHTS, described, _values(source, header, tell))


def size_bytes(header: gguf.GgufHeader) -> int:
    """Return the bytes of the weights that `write` makes."""
    return sum(tensor.elements * TYPE_BYTES[_dtype(tensor)] for tensor in header.tensors)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_bytes(msgspec.json.format(msgspec.json.encode(content)) + b"\n")


def _name(tensor: gguf.GgufTensor) -> str:
    match = _TENSOR.fullmatch(tensor.name)
    layer, part, kind = match.groups() if match else (None, "", "")
    names = WHOLE if layer is None else LAYER
    if part not in names:
        # Rope factors, experts and the like change what is computed; leaving one out would
        # make a model that speaks nonsense.
        raise PreparationError(
            f"The GGUF has a tensor {tensor.name[:64]!r} that is not known here, so it cannot be "
            "unpacked to safetensors. Name the model's own repository instead."
        )
    where = "" if layer is None else f"model.layers.{layer}."
    return f"{where}{names[part]}.{kind}"


def _config(header: gguf.GgufHeader, facts: Facts, *, tied: bool) -> dict[str, Any]:
    prefix = facts.architecture
    if header.metadata.get(f"{prefix}.rope.scaling.type", "none") != "none":
        raise PreparationError(
            "The GGUF stretches its positions (rope scaling), which is not unpacked to "
            "safetensors. Name the model's own repository instead."
        )
    theta = header.metadata.get(f"{prefix}.rope.freq_base", 10_000.0)
    epsilon = header.metadata.get(f"{prefix}.attention.layer_norm_rms_epsilon", 1e-6)
    biased = any(t.name.endswith("attn_q.bias") for t in header.tensors)
    return {
        "architectures": [_CLASSES[prefix]],
        "model_type": prefix,
        "hidden_size": header.integer(f"{prefix}.embedding_length"),
        "intermediate_size": header.integer(f"{prefix}.feed_forward_length"),
        "num_hidden_layers": facts.layers,
        "num_attention_heads": header.integer(f"{prefix}.attention.head_count"),
        "num_key_value_heads": facts.kv_heads,
        "head_dim": facts.head_size,
        "max_position_embeddings": facts.context_tokens_max,
        "vocab_size": next(t.shape[0] for t in header.tensors if t.name == "token_embd.weight"),
        "rms_norm_eps": round(float(str(epsilon)), 12),
        "rope_theta": float(str(theta)),
        "hidden_act": "silu",
        "attention_bias": biased,
        "tie_word_embeddings": tied,
        "bos_token_id": facts.bos_token_id,
        "eos_token_id": facts.eos_token_ids,
        # What loaders compute in unless told otherwise; the models come from bf16 training.
        "torch_dtype": "bfloat16",
    }


def _dtype(tensor: gguf.GgufTensor) -> str:
    """Vectors are kept in F32, as llama.cpp does: they are few, and steer everything."""
    if len(tensor.shape) == 1:
        return "F32"
    return _STORED.get(gguf.type_name(tensor.type), "F16")


def _values(source: Path, header: gguf.GgufHeader, tell: Callable[[int], None]) -> Iterator[Any]:
    for done, (tensor, found) in enumerate(gguf.dequantised(source, header), 1):
        values = _ordered(found, tensor, header)
        match _dtype(tensor):
            case "BF16":
                # NumPy has no bf16: it is the upper half of an f32, and the lower is zero here.
                yield (values.view("uint32") >> 16).astype("uint16")
            case "F32":
                yield gguf.finite(tensor, values, "float32")
            case _:
                yield gguf.finite(tensor, values, "float16")
        tell(done)


def _ordered(values: Any, tensor: gguf.GgufTensor, header: gguf.GgufHeader) -> Any:  # noqa: ANN401 - NumPy is imported late
    """Undo llama.cpp's order of rows: it turns neighbours, transformers the two halves."""
    part = tensor.name.split(".")[-2]
    if header.text("general.architecture") != "llama" or part not in {"attn_q", "attn_k"}:
        return values
    count = "head_count" if part == "attn_q" else "head_count_kv"
    heads = header.integer(f"llama.attention.{count}")
    try:
        paired = values.reshape(heads, -1, 2, *values.shape[1:])
    except (ValueError, ZeroDivisionError) as error:
        raise PreparationError(
            f"Tensor {tensor.name[:64]!r} has {values.shape[0]} rows, which {heads} heads cannot "
            "share. Fetch the GGUF again, or from another place."
        ) from error
    return paired.swapaxes(1, 2).reshape(values.shape)
