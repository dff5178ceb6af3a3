"""A prepared model: what stands in its folder, and the proof that it still does.

`models/` writes the manifest last, so a folder without one was never finished.  Whoever loads
verifies every digest first: a file that changed by one bit is not loaded.
"""

import enum
import hashlib
from pathlib import Path
from typing import Final

import msgspec

from forebay.engine.protocol import CannotLoad

FORMAT: Final = 2
"""Raised when prepared folders of before can no longer be loaded."""

MANIFEST: Final = "manifest.json"
TOKENIZER: Final = "tokenizer.json"
CHAT_TEMPLATE: Final = "chat_template.jinja"

_MANIFEST_BYTES_MAX: Final = 1 << 20
_HASH_BLOCK_BYTES: Final = 1 << 20


class Form(enum.StrEnum):
    """What a prepared model's weights are written as; an engine loads one of them."""

    OPENVINO = "openvino"
    """`openvino_model.xml` and `.bin`."""
    GGUF = "gguf"
    """`model.gguf`."""
    SAFETENSORS = "safetensors"
    """`config.json` and `*.safetensors`, as transformers and vLLM read them."""
    ONNX = "onnx"
    """`genai_config.json` and `model.onnx`, as onnxruntime-genai reads them."""


class ArtefactError(CannotLoad):
    """A prepared model cannot be loaded; the text says what is wrong and how to mend it."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facts of one prepared model, saved as `manifest.json`."""

    format: int
    name: str
    source: str
    source_sha256: str
    form: Form
    architecture: str
    """The family of the model, as its source names it: `llama`, `qwen2`; never empty."""
    precision: str
    prepared_by: str
    """Name and version of the program that prepared it."""
    parameters: int
    """Numbers in its weights; 0 where the source does not say: a finished IR or ONNX."""
    weights_bytes: int
    """Bytes of the files that hold weights: the least memory that any engine takes for them."""
    context_tokens_max: int
    layers: int
    width: int
    """Numbers between two layers, a token: the hidden size."""
    kv_heads: int
    head_size: int
    vocabulary_size: int
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None = None
    add_bos: bool = False
    """Whether plain prompts begin with the bos token."""
    special_tokens: dict[str, int]
    """Control tokens by their text; in a client's text they are text."""
    files: dict[str, str]
    """File name -> sha256 in hexadecimal; the manifest itself is not in it."""


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read the facts of a prepared model without touching its weights."""
    path = folder / MANIFEST
    if not path.is_file() or path.stat().st_size > _MANIFEST_BYTES_MAX:
        raise ArtefactError(
            f"{folder} holds no finished model. Remove it and run `forebay pull MODEL`."
        )
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise ArtefactError(
            f"{path} cannot be read ({error}). "
            "Remove the folder and run `forebay pull MODEL` again."
        ) from error
    if manifest.format != FORMAT:
        raise ArtefactError(
            f"{folder} has format {manifest.format}; this version of Forebay loads {FORMAT}. "
            "Remove the folder and run `forebay pull MODEL` again."
        )
    return manifest


def load_verified(folder: Path) -> Manifest:
    """Read the facts of a prepared model and check every file against its digest."""
    manifest = read_manifest(folder)
    for name, digest in manifest.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise ArtefactError(
                f"{folder} lacks {name!r}. Remove the folder and run `forebay pull MODEL` again."
            )
        found = file_sha256(path)
        if found != digest:
            raise ArtefactError(
                f"{path} was changed after it was prepared: its sha256 is {found}, "
                f"the manifest says {digest}. Remove the folder and run `forebay pull MODEL` again."
            )
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Save the facts; the last file that a preparation writes."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / MANIFEST).write_bytes(text + b"\n")
