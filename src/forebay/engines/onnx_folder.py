"""What stands in a folder for ONNX: `genai_config.json`, and a graph whose inputs fit it.

The names and sizes are those that onnxruntime-genai's builder writes.  Whatever does not fit is
said before the weights are loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.engine.manifest import ArtefactError
from forebay.engines.folder_json import read_json

GENAI_CONFIG: Final = "genai_config.json"

_LAYERS_MAX: Final = 1_024


class _Inputs(msgspec.Struct, frozen=True):
    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"
    position_ids: str = "position_ids"
    past_key_names: str = "past_key_values.%d.key"
    past_value_names: str = "past_key_values.%d.value"


class _Outputs(msgspec.Struct, frozen=True):
    logits: str = "logits"
    present_key_names: str = "present.%d.key"
    present_value_names: str = "present.%d.value"


class _Decoder(msgspec.Struct, frozen=True):
    filename: str
    head_size: int
    num_hidden_layers: int
    num_key_value_heads: int
    inputs: _Inputs = _Inputs()
    outputs: _Outputs = _Outputs()


class _Model(msgspec.Struct, frozen=True):
    context_length: int
    vocab_size: int
    decoder: _Decoder
    type: str = ""


class _Document(msgspec.Struct, frozen=True):
    model: _Model


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxModel:
    """A graph's file, the names of what goes in and comes out, and its sizes."""

    path: Path
    type: str
    layers: int
    kv_heads: int
    head_size: int
    context_tokens_max: int
    vocabulary_size: int
    input_ids: str
    attention_mask: str
    position_ids: str
    logits: str
    past: tuple[str, ...]
    """Keys and values of each layer, in turn; `present` has them in the same order."""
    present: tuple[str, ...]


def read_model(folder: Path) -> OnnxModel:
    """Read `genai_config.json`; raise ArtefactError where it describes nothing that runs here."""
    path = folder / GENAI_CONFIG
    try:
        model = read_json(path, _Document).model
    except ValueError as error:
        raise ArtefactError(f"{error} {_FIX}") from error
    decoder = model.decoder
    sizes = (decoder.num_hidden_layers, decoder.num_key_value_heads, decoder.head_size)
    if min(*sizes, model.context_length, model.vocab_size) < 1 or sizes[0] > _LAYERS_MAX:
        raise ArtefactError(f"{path} has sizes that no model has. {_FIX}")
    if Path(decoder.filename).name != decoder.filename or not (folder / decoder.filename).is_file():
        raise ArtefactError(f"{path} names {decoder.filename[:64]!r}, which is not there. {_FIX}")
    inputs, outputs = decoder.inputs, decoder.outputs
    return OnnxModel(
        path=folder / decoder.filename,
        type=model.type[:32],
        layers=decoder.num_hidden_layers,
        kv_heads=decoder.num_key_value_heads,
        head_size=decoder.head_size,
        context_tokens_max=model.context_length,
        vocabulary_size=model.vocab_size,
        input_ids=inputs.input_ids,
        attention_mask=inputs.attention_mask,
        position_ids=inputs.position_ids,
        logits=outputs.logits,
        past=_per_layer(decoder, inputs.past_key_names, inputs.past_value_names),
        present=_per_layer(decoder, outputs.present_key_names, outputs.present_value_names),
    )


def check_graph(model: OnnxModel, found: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raise ArtefactError where the graph's inputs and outputs are not those that it names.

    `found` and `made` are the library's inputs and outputs by name.  Keys and values must lie in
    a buffer that holds past and present, in 32-bit floats, and the graph must take no more than
    is filled in here.
    """
    known = {model.input_ids, model.attention_mask, model.position_ids, *model.past}
    wanted = known - {model.position_ids}
    if strange := sorted(found.keys() - known):
        raise ArtefactError(f"{model.path} asks for the input {strange[0][:64]!r}. {_EXPORT}")
    if missing := sorted((wanted - found.keys()) | ({model.logits, *model.present} - made.keys())):
        raise ArtefactError(f"{model.path} has no {missing[0][:64]!r}. {_EXPORT}")
    logits = made[model.logits]
    if logits.type != "tensor(float)" or logits.shape[2:] != [model.vocabulary_size]:
        raise ArtefactError(
            f"{model.path} makes {logits.type} of {logits.shape} as logits; 32-bit floats of "
            f"{model.vocabulary_size} tokens are read. {_EXPORT}"
        )
    shape = [model.kv_heads, model.head_size]
    for name in model.past:
        sizes = [size for size in found[name].shape if isinstance(size, int)]
        fits = len(found[name].shape) == _KV_RANK and all(size in shape for size in sizes)
        if found[name].type != "tensor(float)" or not fits:
            raise ArtefactError(
                f"{model.path} keeps {name[:64]!r} as {found[name].type} of {found[name].shape}; "
                f"32-bit floats of {model.kv_heads} heads x {model.head_size} are read. {_EXPORT}"
            )


def _per_layer(decoder: _Decoder, *templates: str) -> tuple[str, ...]:
    layers = range(decoder.num_hidden_layers)
    return tuple(name.replace("%d", str(layer)) for layer in layers for name in templates)


_KV_RANK: Final = 4
"""Sequences, heads, tokens, head size."""
_FIX: Final = "Remove the folder and run `forebay pull MODEL` again."
_EXPORT: Final = (
    "Export the model for the CPU with onnxruntime-genai's model builder (-e cpu), or let "
    "`forebay pull` convert its safetensors."
)
