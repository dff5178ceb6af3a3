"""The weights of a folder of safetensors, one at a time, and as matrices of 8 or 4 bits."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from forebay.models.checkpoint_folder import check, shard_names
from forebay.models.onnx_writing import GraphWriter
from forebay.models.precisions import BLOCK_NUMBERS, Precision
from forebay.models.safetensors_file import StoredTensor, read_tensors
from forebay.models.source_folder import SourceFolder
from forebay.models.stages import PreparationError

_FLOATS: Final = MappingProxyType({"F32": "float32", "F16": "float16", "BF16": "uint16"})
_INTEGERS: Final = 4
"""onnxruntime's accuracy level: activations are rounded to 8 bits too, block by block."""


class Weights:
    """Tensors by name, read from disk when they are asked for."""

    def __init__(self, source: SourceFolder) -> None:
        """Look at the headers; raise PreparationError where they are not sound."""
        shards = shard_names(source)
        check(source, shards)
        self._tensors: Mapping[str, tuple[Path, StoredTensor]] = {
            tensor.name: (source.file(shard), tensor)
            for shard in shards
            for tensor in read_tensors(source.file(shard))
        }

    @property
    def elements(self) -> int:
        """How many numbers all of them hold."""
        return sum(tensor.elements for _, tensor in self._tensors.values())

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def get(self, name: str, *shape: int) -> Any:  # noqa: ANN401 - numpy's
        """Return one as 32-bit floats; raise PreparationError if it is not of that shape."""
        import numpy as np  # noqa: PLC0415 - heavy

        if name not in self._tensors:
            raise PreparationError(
                f"The weights lack {name!r}, which config.json asks for. Fetch the model again."
            )
        path, tensor = self._tensors[name]
        if tensor.shape != shape or tensor.dtype not in _FLOATS:
            raise PreparationError(
                f"Tensor {name!r} is {tensor.dtype} of {tensor.shape}; by config.json it must be "
                f"floats of {shape}. Fetch the model again."
            )
        kind = np.dtype(_FLOATS[tensor.dtype])
        values = np.fromfile(path, dtype=kind, count=tensor.elements, offset=tensor.begin)
        if tensor.dtype == "BF16":
            # NumPy has no bf16: it is the upper half of an f32.
            values = (values.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(np.float32, copy=False).reshape(shape)
        if not np.isfinite(values).all():
            raise PreparationError(f"Tensor {name!r} holds numbers that are not finite.")
        return values


def product(graph: GraphWriter, value: str, matrix: Any, *, precision: Precision) -> str:  # noqa: ANN401 - numpy's
    """Multiply `value` by a matrix of [inputs, outputs], and return the product's name."""
    import numpy as np  # noqa: PLC0415 - heavy

    matrix = np.ascontiguousarray(matrix)
    if precision is Precision.FP32:
        return graph.node("MatMul", value, graph.weight(matrix))
    from onnxruntime.capi import _pybind_state as library  # noqa: PLC0415 - heavy

    inputs, outputs = matrix.shape
    blocks = -(-inputs // BLOCK_NUMBERS)
    padded = np.pad(matrix, ((0, blocks * BLOCK_NUMBERS - inputs), (0, 0)))
    packed = np.zeros((outputs, blocks, BLOCK_NUMBERS * precision.bits // 8), dtype=np.uint8)
    scales = np.zeros((outputs, blocks), dtype=np.float32)
    zeros = np.zeros((outputs, -(-blocks * precision.bits // 8)), dtype=np.uint8)
    quantise = {
        Precision.INT8: library.quantize_matmul_8bits,
        Precision.INT4: library.quantize_matmul_4bits,
    }[precision]
    symmetric = True
    quantise(packed, padded, scales, zeros, BLOCK_NUMBERS, outputs, inputs, symmetric)
    (made,) = graph.fused(
        "MatMulNBits",
        value,
        graph.weight(packed),
        graph.weight(scales),
        K=inputs,
        N=outputs,
        bits=precision.bits,
        block_size=BLOCK_NUMBERS,
        accuracy_level=_INTEGERS,
    )
    return made
