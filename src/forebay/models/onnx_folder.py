"""A folder as onnxruntime-genai loads it: checked, taken without what could run code.

Its genai_config.json may name libraries to load (custom operators, providers) and files by
paths.  Those settings are the machine's business, not the model's: they are left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.engine.manifest import TOKENIZER
from forebay.models.facts import Facts, end_token_ids, special_tokens, token_id
from forebay.models.onnx_file import read_beside
from forebay.models.source_folder import SourceFolder
from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit

CONFIG: Final = "genai_config.json"
_KIND: Final = (
    "a model for onnxruntime-genai with its tokenizer, as its model builder writes it: "
    f"{CONFIG}, model.onnx and {TOKENIZER}"
)
_LEFT_OUT: Final = ("session_options", "run_options")
_OBJECTS: Final = ("inputs", "outputs", "sliding_window")
_SESSION: Final[Mapping[str, Any]] = {"log_id": "onnxruntime-genai", "provider_options": []}


def take(source: SourceFolder, target: Path, report: Report) -> Facts:
    """Take what an engine needs from `source` into `target` and return the model's facts."""
    source.require(CONFIG, TOKENIZER, kind=_KIND)
    config = source.json(CONFIG)
    model = config.get("model")
    decoder = model.get("decoder") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(decoder, dict):
        raise PreparationError(f"{CONFIG} describes no decoder. It must be {_KIND}.")
    names = _files(source, str(decoder.get("filename", "")))
    facts = _facts(source, model, decoder)
    for done, name in enumerate((*names, TOKENIZER), 1):
        source.take(name, target / name)
        total = len(names) + 1
        report(Progress(stage=Stage.UNPACK, done=done, total=total, unit=Unit.STEPS))
    plain = {
        **_plain(model, ("decoder",), ("type",)),
        "decoder": {**_plain(decoder, _LEFT_OUT, ("filename",)), "session_options": _SESSION},
    }
    search = config.get("search")
    searched = _plain(search, (), ()) if isinstance(search, dict) else {}
    content = msgspec.json.encode({"model": plain, "search": searched})
    (target / CONFIG).write_bytes(msgspec.json.format(content) + b"\n")
    source.take_template(target)
    return facts


def _files(source: SourceFolder, name: str) -> tuple[str, ...]:
    """Return the graph's file and those with its weights; all of them are in the folder."""
    if not name.endswith(".onnx"):
        raise PreparationError(f"{CONFIG} names {name[:80]!r} as the model; it must be an .onnx.")
    weights = set()
    for part in read_beside(source.file(name)):
        size = source.file(part.location).stat().st_size
        if part.offset + (part.length or 0) > size:
            raise PreparationError(
                f"{name[:80]} refers to bytes {part.offset} to {part.offset + (part.length or 0)} "
                f"of {part.location[:80]}, which has {size}. Fetch the model again."
            )
        weights.add(part.location)
    taken = weights & {CONFIG, TOKENIZER, name}
    if taken:
        raise PreparationError(f"{name[:80]} keeps weights in {', '.join(taken)}, which is text.")
    return (name, *sorted(weights))


def _facts(source: SourceFolder, model: dict[str, Any], decoder: dict[str, Any]) -> Facts:
    try:
        heads = int(decoder["num_attention_heads"])
        width = int(decoder["hidden_size"])
        return Facts(
            architecture=str(model["type"])[:32],
            precision="as exported",
            parameters=0,
            context_tokens_max=int(model["context_length"]),
            layers=int(decoder["num_hidden_layers"]),
            width=width,
            kv_heads=int(decoder.get("num_key_value_heads") or heads),
            head_size=int(decoder.get("head_size") or 0) or width // heads,
            vocabulary_size=int(model["vocab_size"]),
            eos_token_ids=end_token_ids(model),
            bos_token_id=token_id(model.get("bos_token_id")),
            add_bos=source.json("tokenizer_config.json").get("add_bos_token") is True,
            special_tokens=special_tokens(source),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise PreparationError(
            f"{CONFIG} does not describe a language model ({type(error).__name__}: {error}). "
            "Build the model again with onnxruntime-genai's model builder."
        ) from error


def _plain(
    section: Mapping[str, Any], left_out: tuple[str, ...], texts: tuple[str, ...]
) -> dict[str, Any]:
    """Return a section's numbers, and of its other entries those that can name no file."""
    kept = {}
    for key, value in section.items():
        if key in left_out:
            continue
        inner = value if isinstance(value, list) else [value]
        named = key in texts or key in _OBJECTS
        if not named and any(isinstance(each, str | dict | list) for each in inner):
            # Vision, speech, pipelines of several graphs: each names files of its own.
            raise PreparationError(
                f"{CONFIG} has {key[:64]!r}, which is not loaded here: only decoders of text are."
            )
        kept[key] = value
    return kept
