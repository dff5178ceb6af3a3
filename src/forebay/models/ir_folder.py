"""A folder with a finished OpenVINO IR: checked, copied, its facts read from its JSON files."""

import shutil
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.engine.manifest import CHAT_TEMPLATE, TOKENIZER
from forebay.models.conversion import Facts
from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit

_REQUIRED: Final = (
    *("openvino_model.xml", "openvino_model.bin", "config.json", TOKENIZER),
    *("openvino_tokenizer.xml", "openvino_tokenizer.bin"),
)
_OPTIONAL: Final = ("openvino_detokenizer.xml", "openvino_detokenizer.bin", CHAT_TEMPLATE)
_JSON_BYTES_MAX: Final = 64 << 20  # the largest tokenizers are near 35 MB


def take(source: Path, target: Path, report: Report) -> Facts:
    """Copy what an engine needs from `source` into `target` and return the model's facts."""
    missing = [name for name in _REQUIRED if not (source / name).is_file()]
    if missing:
        raise PreparationError(
            f"The folder lacks {', '.join(missing)}. It must hold an OpenVINO IR with its "
            "tokenizer, as `optimum-cli export openvino` and openvino-tokenizers write them."
        )
    names = [*_REQUIRED, *(name for name in _OPTIONAL if (source / name).is_file())]
    facts = _facts(source)
    for done, name in enumerate(names, 1):
        if name != "config.json":
            shutil.copyfile(source / name, target / name)
        total = len(names)
        report(Progress(stage=Stage.UNPACK, done=done, total=total, unit=Unit.STEPS))
    _write_template(source, target)
    return facts


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > _JSON_BYTES_MAX:
        raise PreparationError(f"{path.name} is larger than any known. Fetch the model again.")
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PreparationError(
            f"{path.name} is not JSON ({error}). Fetch the model again."
        ) from error
    return content


def _facts(source: Path) -> Facts:
    config = _read(source / "config.json")
    generation = _read(source / "generation_config.json")
    added = _read(source / TOKENIZER).get("added_tokens", [])
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    bos = config.get("bos_token_id")
    try:
        heads = int(config["num_attention_heads"])
        return Facts(
            context_tokens_max=int(config["max_position_embeddings"]),
            layers=int(config["num_hidden_layers"]),
            kv_heads=int(config.get("num_key_value_heads", heads)),
            head_size=int(config.get("head_dim") or int(config["hidden_size"]) // heads),
            vocabulary_size=int(config["vocab_size"]),
            eos_token_ids=tuple(ends) if isinstance(ends, list) else (int(str(ends)),),
            bos_token_id=bos if isinstance(bos, int) else None,
            add_bos=_read(source / "tokenizer_config.json").get("add_bos_token") is True,
            special_tokens={entry["content"]: entry["id"] for entry in added if entry["special"]},
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise PreparationError(
            f"config.json does not describe a language model ({type(error).__name__}: {error}). "
            "Export the model again with `optimum-cli export openvino`."
        ) from error


def _write_template(source: Path, target: Path) -> None:
    """Older exports keep the chat template inside tokenizer_config.json."""
    template = _read(source / "tokenizer_config.json").get("chat_template")
    if isinstance(template, str) and not (target / CHAT_TEMPLATE).exists():
        (target / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
