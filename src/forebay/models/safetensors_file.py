"""safetensors files: headers checked within bounds, files written.

A file is eight bytes of length, that much JSON, and the numbers.  The JSON comes from
strangers, so each claim in it is held against the file before anything is read or mapped.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from forebay.models.stages import PreparationError

_HEADER_BYTES_MAX: Final = 32 << 20  # a model of 100,000 tensors has 12 MB
_TENSORS_MAX: Final = 200_000
_DIMENSIONS_MAX: Final = 8
_METADATA: Final = "__metadata__"

TYPE_BYTES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of one number, by the format's names."""

_OTHERS: Final = (
    (b"GGUF", "a GGUF"),
    (b"PK", "a zip, as PyTorch's pickles are"),
    (b"\x80", "a pickle"),
    (b"version ", "a pointer of Git LFS, not the file itself"),
    (b"\x89HDF", "an HDF5 file"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """One tensor; `begin` and `end` count from the file's first byte."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


class _Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


def read_tensors(path: Path) -> tuple[StoredTensor, ...]:
    """Return what a file holds, in its order, or raise `PreparationError` with the fault."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > min(_HEADER_BYTES_MAX, size - 8):  # noqa: PLR2004 - the length's own bytes
            # Only now: a sound header's length may begin with any of these bytes.
            kinds = [kind for magic, kind in _OTHERS if first.startswith(magic)]
            claim = f"it claims a header of {length} bytes in a file of {size}"
            raise _broken(path, f"it is {kinds[0]}" if kinds else claim)
        header = file.read(length)
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries.pop(_METADATA, None)
        if len(entries) > _TENSORS_MAX:
            raise _broken(path, f"it claims {len(entries)} tensors; {_TENSORS_MAX} are read")
        claims = {name: msgspec.json.decode(raw, type=_Claim) for name, raw in entries.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(path, f"its header is not what the format asks for ({error})") from error
    tensors = [_place(path, name, claim, start=8 + length) for name, claim in claims.items()]
    tensors.sort(key=lambda tensor: (tensor.begin, tensor.end))
    _require_seamless(path, tensors, start=8 + length, size=size)
    return tuple(tensors)


def _place(path: Path, name: str, claim: _Claim, *, start: int) -> StoredTensor:
    shown = name[:64]
    if claim.dtype not in TYPE_BYTES:
        raise _broken(path, f"tensor {shown!r} has the unknown type {claim.dtype[:16]!r}")
    if len(claim.shape) > _DIMENSIONS_MAX or any(n < 0 for n in claim.shape):
        raise _broken(path, f"tensor {shown!r} has a shape that none can have")
    begin, end = claim.data_offsets
    if end - begin != math.prod(claim.shape) * TYPE_BYTES[claim.dtype] or begin < 0:
        raise _broken(path, f"tensor {shown!r} has {end - begin} bytes, not what its shape says")
    return StoredTensor(
        name=name,
        dtype=claim.dtype,
        shape=tuple(claim.shape),
        begin=start + begin,
        end=start + end,
    )


def _require_seamless(path: Path, tensors: list[StoredTensor], *, start: int, size: int) -> None:
    """Refuse gaps and overlaps, which the format has not: each byte belongs to one tensor."""
    at = start
    for tensor in tensors:
        if tensor.begin != at:
            raise _broken(path, f"tensor {tensor.name[:64]!r} overlaps another, or leaves a gap")
        at = tensor.end
    if at != size:
        raise _broken(path, f"its tensors end at byte {at} and the file at {size}")


def write_tensors(
    path: Path,
    described: Iterable[tuple[str, str, tuple[int, ...]]],
    values: Iterable[Any],
) -> None:
    """Write a file: (name, type, shape) of each tensor, then their NumPy arrays in that order.

    The arrays are taken one at a time, so that one is in memory at once.
    """
    header: dict[str, Any] = {_METADATA: {"format": "pt"}}
    sizes = []
    at = 0
    for name, dtype, shape in described:
        sizes.append(math.prod(shape) * TYPE_BYTES[dtype])
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (at, at + sizes[-1])}
        at += sizes[-1]
    text = msgspec.json.encode(header)
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for size, array in zip(sizes, values, strict=True):
            assert array.nbytes == size, "it was described so"
            array.tofile(file)


def _broken(path: Path, what: str) -> PreparationError:
    return PreparationError(
        f"{path.name[:80]} is not a sound safetensors file: {what}. Fetch it again, or from "
        "another place."
    )
