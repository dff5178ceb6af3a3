"""safetensors -> a GGUF in 16 bits, of which OpenVINO GenAI builds its graph without torch.

It stays inside a preparation: its pre-tokenizer is a near one, because the text rules that an
engine uses are those of tokenizer.json.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from forebay.engine.manifest import TOKENIZER
from forebay.models import dequantised
from forebay.models.checkpoint_folder import check, shard_names
from forebay.models.facts import Facts, of_config
from forebay.models.gguf import GgufTensor, finite
from forebay.models.onnx_weights import Weights
from forebay.models.safetensors_file import StoredTensor
from forebay.models.source_folder import SourceFolder
from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit
from forebay.models.tokenizer_json import TokenType

ARCHITECTURES: Final = ("llama", "qwen2", "qwen3")
"""Those whose graph OpenVINO GenAI builds from a GGUF."""

_INSTEAD: Final = (
    "Export it with `optimum-cli export openvino` and name that folder, or choose the engine "
    "transformers."
)
_TENSOR: Final = re.compile(r"(?:model\.layers\.(\d{1,4})\.)?([a-z_.]+)\.(weight|bias)")
_FLOAT_MAX: Final = 1e30
_F16: Final = 1
"""What llama.cpp calls a file whose matrices are F16."""


def write(source: SourceFolder, target: Path, *, report: Report) -> Facts:
    """Write the GGUF and return the model's facts; raise PreparationError where it is not known."""
    import numpy as np  # noqa: PLC0415 - heavy
    from gguf import GGUFWriter  # noqa: PLC0415 - heavy

    config = source.json("config.json")
    stored = check(source, shard_names(source))
    facts = of_config(source, precision="f16", parameters=sum(t.elements for t in stored))
    _require_known(config, facts, stored)
    named = [(tensor, _name(tensor)) for tensor in stored]
    with closing(GGUFWriter(target, arch=facts.architecture)) as writer:
        _describe(writer, config, facts)
        _write_tokenizer(writer, source, facts)
        for tensor, name in named:
            kind = np.dtype(_kind(tensor))
            size = tensor.elements * kind.itemsize
            writer.add_tensor_info(name, tensor.shape, kind, size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for done, values in enumerate(_values(source, facts, named), 1):
            writer.write_tensor_data(values)
            total = len(named)
            report(Progress(stage=Stage.DEQUANTISE, done=done, total=total, unit=Unit.TENSORS))
    return facts


def _require_known(
    config: Mapping[str, Any], facts: Facts, stored: tuple[StoredTensor, ...]
) -> None:
    if facts.architecture not in ARCHITECTURES:
        raise PreparationError(
            f"config.json says model_type {facts.architecture!r}; OpenVINO graphs are built of "
            f"{', '.join(ARCHITECTURES)}. {_INSTEAD}"
        )
    rotary = _rotary(config)
    tied = config.get("tie_word_embeddings") is True
    plain = (
        rotary.get("rope_type", rotary.get("type", "default")) == "default"
        and config.get("hidden_act", "silu") == "silu"
        and config.get("partial_rotary_factor", 1) == 1
        and not config.get("use_sliding_window")
        and not config.get("quantization_config")
        and all(kind == "full_attention" for kind in config.get("layer_types") or ())
        and (tied or any(tensor.name == "lm_head.weight" for tensor in stored))
    )
    if not plain:
        raise PreparationError(
            "config.json asks for something that OpenVINO graphs are not built with here: "
            "stretched positions, sliding windows, quantised weights, or another activation than "
            f"silu. {_INSTEAD}"
        )


def _rotary(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    return found if isinstance(found, dict) else {"rope_type": "unknown"}


def _name(tensor: StoredTensor) -> str:
    """Return what llama.cpp calls a tensor."""
    match = _TENSOR.fullmatch(tensor.name)
    layer, part, kind = match.groups() if match else (None, "", "")
    table = dequantised.WHOLE if layer is None else dequantised.LAYER
    names = {theirs: ours for ours, theirs in table.items()}
    if part not in names:
        raise PreparationError(
            f"The weights have a tensor {tensor.name[:64]!r} that OpenVINO graphs are not built "
            f"with here. {_INSTEAD}"
        )
    where = "" if layer is None else f"blk.{layer}."
    return f"{where}{names[part]}.{kind}"


def _describe(writer: Any, config: Mapping[str, Any], facts: Facts) -> None:  # noqa: ANN401 - untyped library
    theta = config.get("rope_theta") or _rotary(config).get("rope_theta") or 10_000.0
    try:
        writer.add_feed_forward_length(_count(config["intermediate_size"]))
        writer.add_head_count(_count(config["num_attention_heads"]))
        writer.add_rope_freq_base(_float(theta))
        writer.add_layer_norm_rms_eps(_float(config.get("rms_norm_eps", 1e-6)))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PreparationError(
            f"config.json does not describe a decoder ({type(error).__name__}: {error}). "
            "Fetch the model again."
        ) from error
    writer.add_context_length(facts.context_tokens_max)
    writer.add_block_count(facts.layers)
    writer.add_embedding_length(facts.width)
    writer.add_head_count_kv(facts.kv_heads)
    writer.add_key_length(facts.head_size)
    writer.add_value_length(facts.head_size)
    writer.add_rope_dimension_count(facts.head_size)
    writer.add_vocab_size(facts.vocabulary_size)
    writer.add_file_type(_F16)


def _count(value: Any) -> int:  # noqa: ANN401 - JSON that nobody checked
    number = int(value)
    if not 1 <= number < 1 << 31:
        raise ValueError(f"{str(value)[:32]} is out of range")
    return number


def _float(value: Any) -> float:  # noqa: ANN401 - JSON that nobody checked
    number = float(value)
    if not 0.0 <= number < _FLOAT_MAX:
        raise ValueError(f"{str(value)[:32]} is out of range")
    return number


def _write_tokenizer(writer: Any, source: SourceFolder, facts: Facts) -> None:  # noqa: ANN401 - untyped library
    """Write the vocabulary; grammars are compiled against it, nothing else reads it."""
    document = source.json(TOKENIZER)
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or model.get("byte_fallback"):
        raise PreparationError(
            f"{TOKENIZER} is not a byte-level BPE, of which alone OpenVINO graphs are built here. "
            f"{_INSTEAD}"
        )
    tokens = [f"[PAD{index}]" for index in range(facts.vocabulary_size)]
    types = [TokenType.UNUSED] * facts.vocabulary_size
    try:
        for text, index in model["vocab"].items():
            tokens[index], types[index] = str(text), TokenType.NORMAL
        for entry in document.get("added_tokens", []):
            special = TokenType.CONTROL if entry["special"] else TokenType.USER_DEFINED
            tokens[entry["id"]], types[entry["id"]] = str(entry["content"]), special
        merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise PreparationError(
            f"{TOKENIZER} does not agree with config.json ({type(error).__name__}: {error}). "
            "Fetch the model again."
        ) from error
    digits = '"Digits"' in str(document.get("pre_tokenizer")).replace("'", '"')
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if digits else "gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kind) for kind in types])
    writer.add_token_merges(merges)
    if facts.bos_token_id is not None:
        writer.add_bos_token_id(facts.bos_token_id)
    writer.add_eos_token_id(facts.eos_token_ids[0])


def _kind(tensor: StoredTensor) -> str:
    return "float32" if len(tensor.shape) == 1 else "float16"


def _values(
    source: SourceFolder, facts: Facts, named: list[tuple[StoredTensor, str]]
) -> Iterator[Any]:
    weights = Weights(source)
    heads = {
        "attn_q": source.json("config.json")["num_attention_heads"],
        "attn_k": facts.kv_heads,
    }
    for tensor, name in named:
        values = weights.get(tensor.name, *tensor.shape)
        part = name.split(".")[-2]
        if facts.architecture == "llama" and part in heads:
            values = _neighboured(values, int(heads[part]), tensor.name)
        described = GgufTensor(name=name, shape=tensor.shape, type=0, offset=0, size_bytes=0)
        yield finite(described, values, _kind(tensor))


def _neighboured(values: Any, heads: int, name: str) -> Any:  # noqa: ANN401 - NumPy is imported late
    """Put rows in llama.cpp's order: it turns neighbours, transformers the halves of a head."""
    try:
        halves = values.reshape(heads, 2, -1, *values.shape[1:])
    except (ValueError, ZeroDivisionError) as error:
        raise PreparationError(
            f"Tensor {name[:64]!r} has {values.shape[0]} rows, which {heads} heads cannot share. "
            "Fetch the model again, or from another place."
        ) from error
    return halves.swapaxes(1, 2).reshape(values.shape)
