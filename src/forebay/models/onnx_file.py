"""ONNX files: walked within bounds before a library reads them.

An ONNX file is a protobuf that may keep its weights in files beside it, and names them: a name
can climb out of the folder.  So each message that may hold such a name is walked here, each
length held against what encloses it; numbers are stepped over, not read.
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from forebay.models.stages import PreparationError

_FILE_BYTES_MAX: Final = (1 << 31) - 1  # protobuf's own limit; larger models keep weights beside
_MESSAGES_MAX: Final = 2_000_000  # a model of 7 billion weights has some 10,000
_DEPTH_MAX: Final = 32
_TEXT_BYTES_MAX: Final = 1_024
_VARINT_BYTES_MAX: Final = 10

_EXTERNAL: Final = 13
_CHILDREN: Final[Mapping[str, Mapping[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": dict.fromkeys((5, 10), "tensor")
    | dict.fromkeys((6, 11), "graph")
    | dict.fromkeys((22, 23), "sparse"),
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {_EXTERNAL: "entry"},
    "entry": {},
}
"""Messages of onnx.proto, by the fields through which a tensor can be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Numbers of one tensor in a file beside the model; `length` is None up to its end."""

    location: str
    offset: int
    length: int | None


def read_beside(path: Path) -> tuple[Beside, ...]:
    """Return which parts of other files a model refers to, or raise `PreparationError`."""
    size = path.stat().st_size
    if not 1 <= size <= _FILE_BYTES_MAX:
        raise _broken(path, f"it has {size} bytes; 1 to {_FILE_BYTES_MAX} are possible")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _Walk(content).run()
        except _FaultError as error:
            raise _broken(path, str(error)) from error


class _FaultError(ValueError):
    """What is wrong with the bytes."""


class _Walk:
    """One pass.  Mutable state: messages still to be walked, and those met so far."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._left = [("model", 0, len(content), 0)]
        self._met = 0

    def run(self) -> tuple[Beside, ...]:
        found = []
        graphs = 0
        while self._left:
            kind, begin, end, depth = self._left.pop()
            self._met += 1
            if self._met > _MESSAGES_MAX or depth > _DEPTH_MAX:
                raise _FaultError("it has more parts, or deeper, than any model")
            children, entries = _CHILDREN[kind], {}
            for field, first, last in self._fields(begin, end):
                child = children.get(field)
                graphs += child == "graph"
                if child == "entry":
                    key, value = self._entry(first, last)
                    entries[key] = value
                elif child is not None:
                    self._left.append((child, first, last, depth + 1))
            if entries:
                found.append(_beside(entries))
        if not graphs:
            raise _FaultError("it holds no graph")
        return tuple(found)

    def _fields(self, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield (number, begin, end) of each field that has a length; step over the others."""
        at = begin
        while at < end:
            tag, at = self._varint(at, end)
            match tag & 7:
                case 0:
                    _, at = self._varint(at, end)
                case 1:
                    at += 8
                case 5:
                    at += 4
                case 2:
                    length, at = self._varint(at, end)
                    if length > end - at:
                        raise _FaultError("a part of it reaches beyond what holds it")
                    yield tag >> 3, at, at + length
                    at += length
                case other:
                    raise _FaultError(f"a field at byte {at} has the unknown type {other}")
        if at > end:
            raise _FaultError("it ends within a field")

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = 0
        for index in range(min(_VARINT_BYTES_MAX, end - at)):
            byte = self._content[at + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
                return value, at + index + 1
        raise _FaultError(f"it ends or garbles at byte {at}")

    def _entry(self, begin: int, end: int) -> tuple[str, str]:
        texts = {1: "", 2: ""}
        for field, first, last in self._fields(begin, end):
            if last - first > _TEXT_BYTES_MAX:
                raise _FaultError("it names a file with a longer name than any has")
            try:
                texts[field] = self._content[first:last].decode()
            except UnicodeDecodeError as error:
                raise _FaultError("it names a file in bytes that are no text") from error
        return texts[1], texts[2]


def _beside(entries: dict[str, str]) -> Beside:
    numbers = {key: entries.get(key, "") for key in ("offset", "length")}
    if not all(text.isascii() and (text.isdigit() or not text) for text in numbers.values()):
        raise _FaultError("it names a part of a file by what is no number")
    return Beside(
        location=entries.get("location", ""),
        offset=int(numbers["offset"] or 0),
        length=int(numbers["length"]) if numbers["length"] else None,
    )


def _broken(path: Path, what: str) -> PreparationError:
    return PreparationError(
        f"{path.name[:80]} is not a sound ONNX file: {what}. Fetch it again, or from another place."
    )
