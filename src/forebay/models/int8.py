"""Weights in 8 bits: one pass over the constants of an OpenVINO model.

Each matrix becomes whole numbers in [-127, 127] and one scale per output row, in the form that
the CPU plugin recognises and multiplies in int8: Constant(i8) -> Convert -> Multiply(scale).
The embedding is such a matrix too, used twice: looked up, and multiplied as the output layer.
docs/adr/0004-default-engine-and-model.md has the measurements against NNCF.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from forebay.models.stages import PreparationError

_LEVELS: Final = 127
_SCALE_MIN: Final = 6.0e-8  # the smallest F16; a row of zeros stays zeros
_GRAPH_MATRICES_MIN: Final = 1


def compress(source: Path, target: Path, report: Callable[[int, int], None]) -> None:
    """Save the model at `source` (an .xml) to `target` with its matrices in int8.

    `report` is told (matrices done, of how many).
    """
    import openvino  # noqa: PLC0415 - heavy

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": True})
    model = core.read_model(source)
    matrices = [node for node in model.get_ordered_ops() if _is_matrix(node)]
    if len(matrices) < _GRAPH_MATRICES_MIN:
        raise PreparationError(
            "The graph holds no 16-bit matrices to compress. "
            "Prepare from the model's own GGUF, or serve a finished OpenVINO IR as it is."
        )
    for done, constant in enumerate(matrices, 1):
        _replace(constant)
        report(done, len(matrices))
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, target, compress_to_fp16=False)


def _is_matrix(node: Any) -> bool:  # noqa: ANN401 - untyped library
    """Tell whether a node is a weight that some MatMul reads, through its Convert alone."""
    if node.get_type_name() != "Constant" or str(node.get_element_type().to_string()) != "f16":
        return False
    readers = list(node.output(0).get_target_inputs())
    if len(node.get_output_shape(0)) != 2 or len(readers) != 1:  # noqa: PLR2004 - a matrix
        return False
    convert = readers[0].get_node()
    users = [user.get_node() for user in convert.output(0).get_target_inputs()]
    multiplied = [user for user in users if user.get_type_name() == "MatMul"]
    # transpose_b: rows of the constant are output channels, so one scale a row is exact enough.
    return (
        convert.get_type_name() == "Convert"
        and bool(multiplied)
        and all(user.get_attributes()["transpose_b"] for user in multiplied)
    )


def _replace(constant: Any) -> None:  # noqa: ANN401 - untyped library
    import numpy as np  # noqa: PLC0415 - heavy
    from openvino import opset13  # noqa: PLC0415 - heavy

    weights = constant.data.astype(np.float32)
    peaks = np.abs(weights).max(axis=1, keepdims=True)
    scales = np.maximum(peaks / _LEVELS, _SCALE_MIN).astype(np.float16)
    levels = np.rint(weights / scales.astype(np.float32)).clip(-_LEVELS, _LEVELS)
    whole = opset13.constant(levels.astype(np.int8), name=f"{constant.get_friendly_name()}/i8")
    scaled = opset13.multiply(opset13.convert(whole, "f16"), opset13.constant(scales))
    (reader,) = constant.output(0).get_target_inputs()
    reader.replace_source_output(scaled.output(0))
