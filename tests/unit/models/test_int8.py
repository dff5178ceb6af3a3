"""Weights in 8 bits stay within half a step of what they were, row by row."""

from pathlib import Path
from typing import Any

import pytest

from forebay.models.int8 import compress
from forebay.models.stages import PreparationError

pytest.importorskip("openvino")

ROWS, COLUMNS = 40, 24


def a_graph(path: Path, *, transposed: bool = True) -> Any:
    """Save a graph that looks a row up and multiplies by the same matrix; return the matrix."""
    import numpy as np  # noqa: PLC0415 - heavy
    import openvino  # noqa: PLC0415 - heavy
    from openvino import opset13  # noqa: PLC0415 - heavy

    rng = np.random.default_rng(7)
    weights = rng.normal(0.0, 1.0, (ROWS, COLUMNS)).astype(np.float16)
    weights[3] = 0.0
    weights[5] *= 100.0
    shared = opset13.convert(opset13.constant(weights), "f32")
    row = opset13.parameter([1], np.int64)
    found = opset13.gather(shared, row, opset13.constant(0))
    other = opset13.transpose(shared, opset13.constant([1, 0]))
    scores = opset13.matmul(
        found, shared if transposed else other, transpose_a=False, transpose_b=transposed
    )
    openvino.save_model(openvino.Model([found, scores], [row]), path, compress_to_fp16=False)
    return weights.astype(np.float32)


def test_each_number_is_within_half_a_step_of_its_row(tmp_path: Path) -> None:
    import numpy as np  # noqa: PLC0415 - heavy
    import openvino  # noqa: PLC0415 - heavy

    weights = a_graph(tmp_path / "a.xml")
    told: list[tuple[int, int]] = []
    compress(tmp_path / "a.xml", tmp_path / "b.xml", lambda done, total: told.append((done, total)))
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(tmp_path / "b.xml", "CPU", exact)
    for index in range(ROWS):
        found = model([np.array([index])])[0][0]
        step = np.abs(weights[index]).max() / 127
        # A thousandth more, because the step itself is kept in 16 bits.
        assert np.abs(found - weights[index]).max() <= 0.5 * step * 1.001 + 0.127 * step
    assert told == [(1, 1)]


def test_the_matrix_is_kept_once_in_8_bits(tmp_path: Path) -> None:
    import openvino  # noqa: PLC0415 - heavy

    a_graph(tmp_path / "a.xml")
    compress(tmp_path / "a.xml", tmp_path / "b.xml", lambda *_: None)
    model = openvino.Core().read_model(tmp_path / "b.xml")
    matrices = [
        node.get_element_type().to_string()
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and node.get_byte_size() >= ROWS * COLUMNS
    ]
    assert matrices == ["i8"]


def test_a_matrix_whose_rows_are_not_outputs_is_left_alone(tmp_path: Path) -> None:
    a_graph(tmp_path / "a.xml", transposed=False)
    with pytest.raises(PreparationError, match="no 16-bit matrices"):
        compress(tmp_path / "a.xml", tmp_path / "b.xml", lambda *_: None)
