"""What the manifest says of a model, as its source tells it."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from forebay.engine.manifest import TOKENIZER
from forebay.models.source_folder import SourceFolder
from forebay.models.stages import PreparationError

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "context": ("max_position_embeddings", "n_positions"),
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "width": ("hidden_size", "n_embd"),
    "vocabulary": ("vocab_size",),
}
"""What a config.json calls it; the second names are GPT-2's."""

_SPECIAL_MAX: Final = 65_536
_COUNT_MAX: Final = 1 << 31


class Facts(msgspec.Struct, frozen=True, kw_only=True, tag="facts"):
    """The facts of a model, as far as its weights and text rules tell."""

    architecture: str
    precision: str
    parameters: int
    context_tokens_max: int
    layers: int
    width: int
    kv_heads: int
    head_size: int
    vocabulary_size: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    add_bos: bool
    special_tokens: dict[str, int]

    def __post_init__(self) -> None:
        """Refuse numbers that no model has: engines make memory and loops of them."""
        sizes = (self.context_tokens_max, self.layers, self.width, self.kv_heads, self.head_size)
        ids = (*self.eos_token_ids, *self.special_tokens.values(), self.bos_token_id or 0)
        if (
            not all(1 <= number < _COUNT_MAX for number in (*sizes, self.vocabulary_size))
            or not all(0 <= id < self.vocabulary_size + _SPECIAL_MAX for id in ids)
            or len(self.eos_token_ids) > _SPECIAL_MAX
        ):
            raise PreparationError(
                "The model describes itself with numbers that none can have: "
                f"context {self.context_tokens_max}, layers {self.layers}, width {self.width}, "
                f"heads {self.kv_heads} of {self.head_size}, vocabulary {self.vocabulary_size}. "
                "Fetch it again, or from another place."
            )


def of_config(folder: SourceFolder, *, precision: str, parameters: int) -> Facts:
    """Return the facts in a Hugging Face folder, or raise `PreparationError`."""
    config = folder.json("config.json")
    try:
        heads, width = _number(config, "heads"), _number(config, "width")
        return Facts(
            architecture=str(config["model_type"])[:32] if "model_type" in config else "unknown",
            precision=precision,
            parameters=parameters,
            context_tokens_max=_number(config, "context"),
            layers=_number(config, "layers"),
            width=width,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_size=int(config.get("head_dim") or 0) or width // heads,
            vocabulary_size=_number(config, "vocabulary"),
            eos_token_ids=end_token_ids(folder.json("generation_config.json"), config),
            bos_token_id=token_id(config.get("bos_token_id")),
            add_bos=folder.json("tokenizer_config.json").get("add_bos_token") is True,
            special_tokens=special_tokens(folder),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise PreparationError(
            f"config.json does not describe a language model ({type(error).__name__}: {error}). "
            "Fetch the model again, or export it again."
        ) from error


def end_token_ids(*documents: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the ids of `eos_token_id` in the first document that has any."""
    named = (document.get("eos_token_id") for document in documents)
    found = next((ids for ids in named if ids is not None and ids != []), None)
    if found is None:
        raise KeyError("eos_token_id")
    return tuple(int(id) for id in found) if isinstance(found, list) else (int(found),)


def token_id(value: object) -> int | None:
    """Return a token's id where there is one."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def special_tokens(folder: SourceFolder) -> dict[str, int]:
    """Return the control tokens in the folder's tokenizer.json by their text."""
    added = folder.json(TOKENIZER).get("added_tokens", [])
    found = [entry for entry in added if entry["special"]]
    if len(found) > _SPECIAL_MAX:
        raise ValueError(f"tokenizer.json has {len(found)} special tokens")
    return {str(entry["content"]): int(entry["id"]) for entry in found}


def _number(config: Mapping[str, Any], what: str) -> int:
    name = next((name for name in _NAMES[what] if name in config), _NAMES[what][0])
    return int(config[name])
