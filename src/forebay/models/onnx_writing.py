"""Writes an ONNX graph: nodes in a protobuf, numbers in a file beside it.

The few messages of onnx.proto that a decoder needs are written here byte by byte, so that a
preparation needs neither the onnx package nor torch.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

Dimension = int | str
"""A size, or the name of one that is known when it runs."""

_IR_VERSION: Final = 10
_OPSET: Final = 21
_MICROSOFT: Final = "com.microsoft"
_ALIGNED: Final = 4_096
"""Bytes: so that weights can be mapped instead of read."""
_TYPES: Final = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "float16": 10}
_BITS_LOW: Final = 0x7F


@dataclass(frozen=True, slots=True)
class Value:
    """What goes into a graph or comes out of it."""

    name: str
    type: str
    shape: Sequence[Dimension]


class GraphWriter:
    """One graph.  Mutable state: its parts so far, a counter of names, the file of numbers."""

    def __init__(self, path: Path) -> None:
        """Begin `path`, and `path`.data with the numbers; `finish` writes the first."""
        self._path = path
        self._data = (path.parent / f"{path.name}.data").open("wb")
        self._nodes: list[bytes] = []
        self._tensors: list[bytes] = []
        self._count = 0

    def __enter__(self) -> Self:
        """Return itself; the file of numbers is closed at the end."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file of numbers."""
        self._data.close()

    def constant(self, array: Any) -> str:  # noqa: ANN401 - numpy's
        """Add a few numbers to the graph itself, and return their name."""
        name = self._name("constant")
        self._tensors.append(_tensor(name, array) + _text(9, array.tobytes()))
        return name

    def weight(self, array: Any) -> str:  # noqa: ANN401 - numpy's
        """Add many numbers to the file beside the graph, and return their name."""
        name = self._name("weight")
        self._data.write(b"\0" * (-self._data.tell() % _ALIGNED))
        facts = {
            "location": f"{self._path.name}.data",
            "offset": str(self._data.tell()),
            "length": str(array.nbytes),
        }
        array.tofile(self._data)
        entries = b"".join(_text(13, _text(1, key) + _text(2, facts[key])) for key in facts)
        self._tensors.append(_tensor(name, array) + entries + _number(14, 1))
        return name

    def node(self, kind: str, *inputs: str, **attributes: float | str | Sequence[int]) -> str:
        """Add a node of ONNX with one output, and return that output's name."""
        (made,) = self._add(kind, inputs, [self._name(kind)], attributes=attributes)
        return made

    def fused(
        self,
        kind: str,
        *inputs: str,
        outputs: Sequence[str | None] = ("",),
        **attributes: float | str | Sequence[int],
    ) -> list[str]:
        """Add a node of onnxruntime's own; `outputs` are names, "" for a new one, None for none."""
        names = [self._name(kind) if name == "" else name or "" for name in outputs]
        return self._add(kind, inputs, names, attributes=attributes, domain=_MICROSOFT)

    def name(self, source: str, target: str) -> None:
        """Give a value a name of its own: that of an output."""
        self._add("Identity", [source], [target], attributes={})

    def finish(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        """Write the graph."""
        graph = b"".join(
            (
                *(_text(1, node) for node in self._nodes),
                _text(2, "decoder"),
                *(_text(5, tensor) for tensor in self._tensors),
                *(_text(11, _described(value)) for value in inputs),
                *(_text(12, _described(value)) for value in outputs),
            )
        )
        model = b"".join(
            (
                _number(1, _IR_VERSION),
                _text(2, "forebay"),
                _text(7, graph),
                _text(8, _text(1, "") + _number(2, _OPSET)),
                _text(8, _text(1, _MICROSOFT) + _number(2, 1)),
            )
        )
        self._path.write_bytes(model)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}.{self._count}"

    def _add(
        self,
        kind: str,
        inputs: Sequence[str],
        outputs: list[str],
        *,
        attributes: Mapping[str, float | str | Sequence[int]],
        domain: str = "",
    ) -> list[str]:
        parts = [_text(1, name) for name in inputs]
        parts += [_text(2, name) for name in outputs]
        parts += [_text(3, self._name(kind)), _text(4, kind)]
        parts += [_text(5, _attribute(name, value)) for name, value in attributes.items()]
        self._nodes.append(b"".join((*parts, _text(7, domain))))
        return outputs


def _attribute(name: str, value: float | str | Sequence[int]) -> bytes:
    match value:
        case int():
            return _text(1, name) + _number(3, value) + _number(20, 2)
        case float():
            return _text(1, name) + b"\x15" + struct.pack("<f", value) + _number(20, 1)
        case str():
            return _text(1, name) + _text(4, value) + _number(20, 3)
        case _:
            return _text(1, name) + b"".join(_number(8, each) for each in value) + _number(20, 7)


def _tensor(name: str, array: Any) -> bytes:  # noqa: ANN401 - numpy's
    sizes = b"".join(_number(1, size) for size in array.shape)
    return sizes + _number(2, _TYPES[str(array.dtype)]) + _text(8, name)


def _described(value: Value) -> bytes:
    sizes = b"".join(
        _text(1, _number(1, size) if isinstance(size, int) else _text(2, size))
        for size in value.shape
    )
    kind = _number(1, _TYPES[value.type]) + _text(2, sizes)
    return _text(1, value.name) + _text(2, _text(1, kind))


def _text(field: int, content: bytes | str) -> bytes:
    raw = content.encode() if isinstance(content, str) else content
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value & 0xFFFF_FFFF_FFFF_FFFF)


def _varint(value: int) -> bytes:
    parts = []
    while value > _BITS_LOW:
        parts.append(value & _BITS_LOW | 0x80)
        value >>= 7
    return bytes((*parts, value))
