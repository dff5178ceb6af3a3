"""A Hugging Face folder with safetensors: checked tensor by tensor, taken without its code."""

from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from forebay.engine.manifest import TOKENIZER
from forebay.models.facts import Facts, of_config
from forebay.models.safetensors_file import StoredTensor, read_tensors
from forebay.models.source_folder import SourceFolder, read_json
from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
_KIND: Final = "a model as transformers saves it: config.json, tokenizer.json and *.safetensors"
_OPTIONAL: Final = ("generation_config.json",)
_SHARDS_MAX: Final = 1_000
_CODE: Final = ("auto_map", "custom_pipelines")
"""Keys of a config.json that name Python files of the model's own."""


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def take(source: SourceFolder, target: Path, report: Report) -> Facts:
    """Take what an engine needs from `source` into `target` and return the model's facts."""
    source.require("config.json", TOKENIZER, kind=_KIND)
    shards = shard_names(source)
    tensors = check(source, shards)
    facts = of_config(
        source,
        precision=_precision(tensors),
        parameters=sum(tensor.elements for tensor in tensors),
    )
    names = [*shards, TOKENIZER, *(name for name in _OPTIONAL if source.holds(name))]
    if shards != (WEIGHTS,):
        names.append(INDEX)
    for done, name in enumerate(names, 1):
        source.take(name, target / name)
        total = len(names)
        report(Progress(stage=Stage.UNPACK, done=done, total=total, unit=Unit.STEPS))
    # Loaders run a model's own code only if told to, and ours never are.  Without these keys
    # there is nothing that they could be told to run.
    config = {key: value for key, value in source.json("config.json").items() if key not in _CODE}
    (target / "config.json").write_bytes(msgspec.json.format(msgspec.json.encode(config)))
    source.take_template(target)
    return facts


def check(source: SourceFolder, shards: tuple[str, ...]) -> tuple[StoredTensor, ...]:
    """Return the tensors of all shards, or raise `PreparationError` where they do not agree."""
    found: dict[str, tuple[str, StoredTensor]] = {}
    for shard in shards:
        for tensor in read_tensors(source.file(shard)):
            if tensor.name in found:
                raise PreparationError(
                    f"{shard} and {found[tensor.name][0]} both hold tensor {tensor.name[:64]!r}. "
                    "Fetch the model again."
                )
            found[tensor.name] = (shard, tensor)
    if shards != (WEIGHTS,):
        for name, shard in _index(source).weight_map.items():
            if name not in found or found[name][0] != shard:
                raise PreparationError(
                    f"{INDEX} says that {shard[:80]} holds tensor {name[:64]!r}, and it does not. "
                    "Fetch the model again."
                )
    if not found:
        raise PreparationError(f"{shards[0]} holds no tensors. Fetch the model again.")
    return tuple(tensor for _, tensor in found.values())


def shard_names(source: SourceFolder) -> tuple[str, ...]:
    """Return the files with the weights, each of them inside the folder."""
    if source.holds(INDEX):
        names = tuple(sorted(set(_index(source).weight_map.values())))
        if not 1 <= len(names) <= _SHARDS_MAX:
            raise PreparationError(f"{INDEX} names {len(names)} files. Fetch the model again.")
    else:
        names = (WEIGHTS,)
    for name in names:
        if not name.endswith(".safetensors"):
            raise PreparationError(
                f"{INDEX} names {name[:80]!r}, which is no safetensors file. Only those are read."
            )
        source.file(name)
    return names


def _index(source: SourceFolder) -> _Index:
    index = read_json(source.file(INDEX), _Index)
    assert isinstance(index, _Index), "read_json decodes what it is asked for"
    return index


def _precision(tensors: tuple[StoredTensor, ...]) -> str:
    """Return the name of the type that most of the weights have."""
    counts: Counter[str] = Counter()
    for tensor in tensors:
        counts[tensor.dtype] += tensor.elements
    return counts.most_common(1)[0][0].lower()
