"""GGUF files: headers read within bounds, weights dequantised.

A GGUF comes from strangers, and the libraries that read it trust its counts and lengths.  So
the header is parsed here, each number checked against the file's size before it is used, and
no library sees the file: what the converter reads is a GGUF that we wrote ourselves.
"""

import math
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from forebay.models.stages import PreparationError, Progress, Report, Stage, Unit

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_KEYS_MAX: Final = 1_024  # llama.cpp's own models have under 60
_TENSORS_MAX: Final = 65_536
_STRING_BYTES_MAX: Final = 1 << 20  # a chat template is under 20 kB
_ARRAY_ITEMS_MAX: Final = 4_000_000  # the largest vocabularies are near 300,000
_DIMENSIONS_MAX: Final = 4
_ALIGNMENT_MAX: Final = 1 << 16
_HEADER_BYTES_MAX: Final = 1 << 28

_STRING, _ARRAY = 8, 9
_SCALARS: Final = {
    kind: f"<{letter}" for kind, letter in zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """Where a tensor lies.  `shape` is as NumPy has it: rows first."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    size_bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """Everything of a GGUF but its weights."""

    metadata: dict[str, Value]
    tensors: tuple[GgufTensor, ...]

    def text(self, key: str) -> str:
        """Return a string of the metadata, or raise `PreparationError`."""
        value = self.metadata.get(key)
        if not isinstance(value, str):
            raise PreparationError(
                f"The GGUF has no text {key!r}. Use a GGUF made by llama.cpp's converter."
            )
        return value

    def integer(self, key: str) -> int:
        """Return a number of the metadata, or raise `PreparationError`."""
        value = self.metadata.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise PreparationError(
                f"The GGUF has no number {key!r}. Use a GGUF made by llama.cpp's converter."
            )
        return value

    def items(self, key: str) -> list[Scalar]:
        """Return a list of the metadata, or raise `PreparationError`."""
        value = self.metadata.get(key)
        if not isinstance(value, list):
            raise PreparationError(
                f"The GGUF has no list {key!r}. Use a GGUF made by llama.cpp's converter."
            )
        return value


def read_header(path: Path) -> GgufHeader:
    """Parse a GGUF's header, or raise `PreparationError` that says where it is wrong."""
    with path.open("rb") as file:
        try:
            return _Reader(file, path).header()
        except (struct.error, UnicodeDecodeError) as error:
            raise _broken(path, f"it ends or garbles within its header ({error})") from error


def _broken(path: Path, what: str) -> PreparationError:
    return PreparationError(
        f"{path.name} is not a sound GGUF: {what}. Fetch it again, or from another place."
    )


class _Reader:
    """A file position that never trusts a length."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._size = path.stat().st_size

    def header(self) -> GgufHeader:
        magic = self._file.read(4)
        if magic != _MAGIC:
            raise _broken(self._path, f"it begins with {magic!r}, not with {_MAGIC!r}")
        version = self._scalar("<I")
        if version not in _VERSIONS:
            raise _broken(self._path, f"its version is {version}; known are 2 and 3")
        tensor_count = self._count(_TENSORS_MAX, "tensors")
        key_count = self._count(_KEYS_MAX, "metadata keys")
        metadata: dict[str, Value] = {}
        for _ in range(key_count):
            key = self._string()
            metadata[key] = self._value(self._scalar("<I"))
        descriptions = [self._describe() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= _ALIGNMENT_MAX:
            raise _broken(self._path, "its alignment is out of range")
        start = -(-self._file.tell() // alignment) * alignment
        tensors = tuple(self._place(start, description) for description in descriptions)
        if len({tensor.name for tensor in tensors}) != len(tensors):
            raise _broken(self._path, "two of its tensors have one name")
        return GgufHeader(metadata=metadata, tensors=tensors)

    def _scalar(self, form: str) -> Any:  # noqa: ANN401 - struct's formats decide the type
        if self._file.tell() > _HEADER_BYTES_MAX:
            raise _broken(self._path, f"its header is longer than {_HEADER_BYTES_MAX} bytes")
        return struct.unpack(form, self._file.read(struct.calcsize(form)))[0]

    def _count(self, maximum: int, what: str) -> int:
        count: int = self._scalar("<Q")
        # The smallest item takes a byte, so no count can exceed the size of the file.
        if count > min(maximum, self._size):
            raise _broken(self._path, f"it claims {count} {what}; at most {maximum} are read")
        return count

    def _string(self) -> str:
        return self._file.read(self._count(_STRING_BYTES_MAX, "bytes of text")).decode()

    def _value(self, kind: int) -> Value:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise _broken(self._path, f"it has a value of unknown type {kind}")
        value: Scalar = self._scalar(_SCALARS[kind])
        return value

    def _array(self) -> list[Scalar]:
        kind, count = self._scalar("<I"), self._count(_ARRAY_ITEMS_MAX, "items in a list")
        if kind == _STRING:
            return [self._string() for _ in range(count)]
        if kind not in _SCALARS:
            raise _broken(self._path, f"it has a list of unknown type {kind}")
        form = f"<{count}{_SCALARS[kind][1]}"
        return list(struct.unpack(form, self._file.read(struct.calcsize(form))))

    def _describe(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self._string()
        dimensions = self._scalar("<I")
        if not 1 <= dimensions <= _DIMENSIONS_MAX:
            raise _broken(self._path, f"a tensor has {dimensions} dimensions; 1 to 4 are allowed")
        shape = tuple(self._count(1 << 40, "rows or columns") for _ in range(dimensions))
        return name, shape[::-1], self._scalar("<I"), self._scalar("<Q")

    def _place(self, start: int, description: tuple[str, tuple[int, ...], int, int]) -> GgufTensor:
        name, shape, kind, offset = description
        items, size = _block_of(kind)
        if not all(shape) or shape[-1] % items:
            raise _broken(self._path, f"tensor {name[:64]!r} has a shape its type cannot have")
        size_bytes = math.prod(shape) // items * size
        if start + offset + size_bytes > self._size:
            raise _broken(self._path, f"tensor {name[:64]!r} reaches beyond the file's end")
        return GgufTensor(
            name=name, shape=shape, type=kind, offset=start + offset, size_bytes=size_bytes
        )


def _block_of(kind: int) -> tuple[int, int]:
    """Return (numbers, bytes) of one block of a quantised type."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType  # noqa: PLC0415 - heavy

    try:
        items, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (KeyError, ValueError):
        raise PreparationError(
            f"The GGUF holds tensors of type {kind}, which is not known here. "
            "Use one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or a K-quant."
        ) from None
    return int(items), int(size)


def type_name(kind: int) -> str:
    """Return what llama.cpp calls a type: `Q4_1`, `F16`."""
    from gguf import GGMLQuantizationType  # noqa: PLC0415 - heavy

    return str(GGMLQuantizationType(kind).name)


def write_f16(source: Path, header: GgufHeader, target: Path, *, report: Report) -> None:
    """Write a GGUF of the same model with its matrices in F16 and its vectors in F32."""
    import numpy as np  # noqa: PLC0415 - heavy
    from gguf import GGUFWriter  # noqa: PLC0415 - heavy

    with closing(GGUFWriter(target, arch=header.text("general.architecture"))) as writer:
        _copy_metadata(header, writer)
        for tensor in header.tensors:
            type_ = np.dtype(np.float32 if len(tensor.shape) == 1 else np.float16)
            size = tensor.elements * type_.itemsize
            writer.add_tensor_info(tensor.name, tensor.shape, type_, size)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        total = len(header.tensors)
        for done, (tensor, values) in enumerate(dequantised(source, header), 1):
            kind = "float32" if len(tensor.shape) == 1 else "float16"
            writer.write_tensor_data(finite(tensor, values, kind))
            report(Progress(stage=Stage.DEQUANTISE, done=done, total=total, unit=Unit.TENSORS))


def finite(tensor: GgufTensor, values: Any, kind: str) -> Any:  # noqa: ANN401 - NumPy is imported late
    """Return the values as `kind`, or raise `PreparationError` where one does not fit."""
    import numpy as np  # noqa: PLC0415 - heavy

    with np.errstate(over="ignore"):  # what does not fit becomes inf, and is refused below
        narrow = values.astype(kind, copy=False)
    if np.isfinite(narrow).all():
        return narrow
    raise PreparationError(
        f"Tensor {tensor.name[:64]!r} holds numbers that are not finite in 16 bits. "
        "The file is damaged, or the model needs a precision this version lacks."
    )


def _copy_metadata(header: GgufHeader, writer: Any) -> None:  # noqa: ANN401 - untyped library
    from gguf import GGUFValueType, LlamaFileType  # noqa: PLC0415 - heavy

    for key, value in header.metadata.items():
        if key in {"general.architecture", "general.alignment"} or value == []:
            continue
        if key == "general.file_type":
            value = int(LlamaFileType.MOSTLY_F16)  # noqa: PLW2901 - it is F16 from here on
        kind = GGUFValueType.get_type(value)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            kind = GGUFValueType.UINT32 if value < 1 << 32 else GGUFValueType.UINT64
        writer.add_key_value(key, value, kind)


def dequantised(source: Path, header: GgufHeader) -> Iterator[tuple[GgufTensor, Any]]:
    """Yield each tensor with its numbers as a NumPy array of floats, one in memory at a time."""
    import numpy as np  # noqa: PLC0415 - heavy
    from gguf import GGMLQuantizationType, quants  # noqa: PLC0415 - heavy

    for tensor in header.tensors:
        kind = GGMLQuantizationType(tensor.type)
        raw = np.fromfile(source, np.uint8, tensor.size_bytes, offset=tensor.offset)
        if kind == GGMLQuantizationType.F32:
            yield tensor, raw.view(np.float32).reshape(tensor.shape)
        elif kind == GGMLQuantizationType.F16:
            yield tensor, raw.view(np.float16).reshape(tensor.shape)
        else:
            rows = raw.reshape(*tensor.shape[:-1], -1)
            yield tensor, quants.dequantize(rows, kind)
