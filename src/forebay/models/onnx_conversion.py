"""safetensors -> ONNX as onnxruntime-genai loads it, in INT8, INT4 or 32 bits, without torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.engine.manifest import TOKENIZER
from forebay.models.facts import Facts, of_config
from forebay.models.onnx_graphs import WRITERS, Shape, Writing
from forebay.models.onnx_weights import Weights
from forebay.models.onnx_writing import GraphWriter
from forebay.models.precisions import Precision
from forebay.models.source_folder import SourceFolder
from forebay.models.space import require_space
from forebay.models.stages import PreparationError

_GRAPH: Final = "model.onnx"
_PRECISIONS: Final[Mapping[Precision, str]] = {
    Precision.FP32: "float32",
    Precision.INT8: "int8, one scale for 32 numbers",
    Precision.INT4: "int4, one scale for 32 numbers",
}
_SPACE_MARGIN_BYTES: Final = 64 << 20
_PLAIN: Final[Mapping[str, tuple[object, ...]]] = {
    "hidden_act": ("silu", None),
    "activation_function": ("gelu_new", None),
    "rope_scaling": (None,),
    "rope_parameters": (None,),
    "partial_rotary_factor": (1, 1.0, None),
    "use_sliding_window": (False, None),
    "sliding_window": (None,),
    "layer_types": (None,),
    "scale_attn_by_inverse_layer_idx": (False, None),
    "scale_attn_weights": (True, None),
    "add_cross_attention": (False, None),
}
"""Settings of a config.json that change what is computed, and the values that are written here."""


def convert(
    source: SourceFolder, out: Path, *, precision: Precision, tell: Callable[[int, int], None]
) -> Facts:
    """Write the model of a folder into `out`; raise PreparationError where it is not known."""
    source.require("config.json", TOKENIZER, kind="config.json, tokenizer.json and *.safetensors")
    config = source.json("config.json")
    kind = config.get("model_type")
    if kind not in WRITERS:
        raise PreparationError(
            f"config.json says model_type {str(kind)[:32]!r}; ONNX is made of "
            f"{', '.join(sorted(WRITERS))}. Build it with onnxruntime-genai's own model builder "
            "and name that folder, or choose another engine."
        )
    _require_plain(config)
    weights = Weights(source)
    facts = of_config(source, precision=_PRECISIONS[precision], parameters=weights.elements)
    # The tables of tokens and of positions have more bits, and a row each.
    rows = facts.vocabulary_size + facts.context_tokens_max
    wanted = int(weights.elements * precision.weight_bytes) + rows * facts.width * 4
    require_space(out, wanted + _SPACE_MARGIN_BYTES)
    with GraphWriter(out / _GRAPH) as graph:
        WRITERS[str(kind)](
            Writing(
                graph=graph,
                weights=weights,
                shape=_shape(config, facts, weights),
                precision=precision,
                tell=tell,
            )
        )
    content = msgspec.json.encode(_genai_config(config, facts))
    (out / "genai_config.json").write_bytes(msgspec.json.format(content) + b"\n")
    source.take(TOKENIZER, out / TOKENIZER)
    source.take_template(out)
    return facts


def _require_plain(config: Mapping[str, Any]) -> None:
    settings = dict(config)
    for name in ("rope_scaling", "rope_parameters"):
        rotary = config.get(name)
        # Older files say `type` instead.
        if isinstance(rotary, dict) and _rotary_type(rotary) == "default":
            settings[name] = None
    if config.get("use_sliding_window") is False:
        settings["sliding_window"] = None
    if set(config.get("layer_types") or ()) <= {"full_attention"}:
        settings["layer_types"] = None
    for name, known in _PLAIN.items():
        if settings.get(name) not in known:
            raise PreparationError(
                f"config.json sets {name} to {str(settings[name])[:64]!r}, which is not written as "
                "ONNX here. Build it with onnxruntime-genai's own model builder and name that "
                "folder, or choose another engine."
            )


def _rotary_type(rotary: Mapping[str, Any]) -> object:
    return rotary.get("rope_type", rotary.get("type", "default"))


def _shape(config: Mapping[str, Any], facts: Facts, weights: Weights) -> Shape:
    gpt2 = facts.architecture == "gpt2"
    heads = config["n_head"] if gpt2 else config["num_attention_heads"]
    inner = config.get("n_inner") or 4 * facts.width if gpt2 else config.get("intermediate_size")
    rotary = config.get("rope_parameters") or config.get("rope_scaling") or {}
    theta = config.get("rope_theta") or rotary.get("rope_theta") or 10_000.0
    epsilon = config.get("layer_norm_epsilon", 1e-5) if gpt2 else config.get("rms_norm_eps", 1e-6)
    try:
        return Shape(
            layers=facts.layers,
            width=facts.width,
            inner=int(str(inner)),
            heads=int(heads),
            kv_heads=facts.kv_heads,
            head_size=facts.head_size,
            vocabulary=facts.vocabulary_size,
            positions=facts.context_tokens_max,
            epsilon=float(epsilon),
            theta=0.0 if gpt2 else float(theta),
            tied="lm_head.weight" not in weights,
        )
    except (TypeError, ValueError) as error:
        raise PreparationError(
            f"config.json does not describe a decoder ({error}). Fetch the model again."
        ) from error


def _genai_config(config: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    heads = config.get("num_attention_heads") or config.get("n_head")
    places = {"position_ids": "position_ids"} if facts.architecture == "gpt2" else {}
    model = {
        # What onnxruntime-genai calls gpt2 keeps keys and values in one tensor.
        "type": "llama",
        "context_length": facts.context_tokens_max,
        "vocab_size": facts.vocabulary_size,
        "bos_token_id": facts.bos_token_id if facts.bos_token_id is not None else 0,
        "eos_token_id": list(facts.eos_token_ids),
        "pad_token_id": facts.eos_token_ids[0],
        "decoder": {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": _GRAPH,
            "head_size": facts.head_size,
            "hidden_size": facts.width,
            "num_attention_heads": heads,
            "num_hidden_layers": facts.layers,
            "num_key_value_heads": facts.kv_heads,
            "inputs": {
                "input_ids": "input_ids",
                "attention_mask": "attention_mask",
                **places,
                "past_key_names": "past_key_values.%d.key",
                "past_value_names": "past_key_values.%d.value",
            },
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
        },
    }
    search = {"max_length": facts.context_tokens_max, "past_present_share_buffer": True}
    return {"model": model, "search": search}
