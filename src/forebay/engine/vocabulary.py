"""A model's vocabulary, loaded from its artefact.  Untrusted input."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from forebay.engine.manifest import CHAT_TEMPLATE, TOKENIZER, ArtefactError

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

_VOCABULARY_BYTES_MAX: Final = 268_435_456
"""Eight times the largest that we have met: 256,000 tokens in 34 MB."""
_TEMPLATE_BYTES_MAX: Final = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A loaded vocabulary."""

    library: "Library"
    markup: frozenset[str]
    """Added tokens that the model writes as text and the template reads as structure."""


def read_template(folder: Path) -> str | None:
    """Return the chat template's text; None if the model has none."""
    path = folder / CHAT_TEMPLATE
    return _read(path, _TEMPLATE_BYTES_MAX) if path.exists() else None


def read_vocabulary(folder: Path, template: str) -> Vocabulary:
    """Return the vocabulary; `template` is the chat template's text, or empty."""
    from tokenizers import Tokenizer as Library  # noqa: PLC0415 - heavy

    text = _read(folder / TOKENIZER, _VOCABULARY_BYTES_MAX)
    markup = []
    if '"added_tokens"' in text and template:
        document = _object(text)
        added = document.get("added_tokens") or []
        markup = [entry for entry in added if _is_markup(entry, template)]
        for entry in markup:
            # Only special tokens can be read as text, which those in a content must be.
            entry["special"] = True
        text = json.dumps(document) if markup else text
    try:
        library = Library.from_buffer(text.encode())  # from_str raises plain Exception
    except ValueError as error:
        raise _unusable(TOKENIZER, "the tokenizers library cannot read it") from error
    library.no_truncation()
    library.no_padding()
    return Vocabulary(library=library, markup=frozenset(entry["content"] for entry in markup))


def _is_markup(entry: Any, template: str) -> bool:  # noqa: ANN401 - JSON that nobody checked
    content = entry.get("content") if isinstance(entry, dict) else None
    if not isinstance(content, str) or entry.get("special"):
        return False
    return bool(content.strip()) and content in template


def _read(path: Path, bytes_max: int) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
        text = data.decode()
    except OSError as error:
        raise _unusable(path.name, "it is missing or cannot be read") from error
    except UnicodeDecodeError as error:
        raise _unusable(path.name, "it is not UTF-8") from error
    if len(data) > bytes_max:
        raise _unusable(path.name, f"it has more than {bytes_max} bytes")
    return text


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unusable(TOKENIZER, "it is not JSON") from error
    if not isinstance(found, dict):
        raise _unusable(TOKENIZER, "it is not a JSON object")
    return found


def _unusable(name: str, fault: str) -> ArtefactError:
    return ArtefactError(
        f"The model's {name} cannot be used: {fault}. Remove the model's folder and run "
        "`forebay pull MODEL` again."
    )
