"""Rows keep what is theirs, move it whole, and give memory back without their neighbours'."""

import sys

import pytest

from forebay.engines.kv_memory import KvShape
from forebay.engines.onnx_rows import KvRows

np = pytest.importorskip("numpy", reason="numpy is not installed")

SHAPE = KvShape(layers=2, kv_heads=3, head_size=20, element_bytes=4)
"""80 bytes a token: no whole number of them makes a page but 256 and its multiples."""


@pytest.fixture
def rows() -> KvRows:
    made = KvRows(SHAPE, rows=3, tokens_max=300)
    for number, tensor in enumerate(made._tensors):
        for row in range(3):
            tensor[row] = 10 * number + row + 1
    return made


def test_rows_hold_at_least_what_was_asked_for(rows: KvRows) -> None:
    assert rows.capacity >= 300
    assert rows.shape == (3, rows.capacity, 20)
    first, second = rows.addresses(0), rows.addresses(1)
    assert {two - one for one, two in zip(first, second, strict=True)} == {rows.row_bytes}


@pytest.mark.parametrize("tokens", [1, 100, 300])
def test_a_released_row_leaves_its_neighbours_as_they_were(rows: KvRows, tokens: int) -> None:
    rows.release(1, tokens)
    for number, tensor in enumerate(rows._tensors):
        assert (tensor[0] == 10 * number + 1).all()
        assert (tensor[2] == 10 * number + 3).all()
        if sys.platform == "linux":
            assert (tensor[1, :, :tokens] == 0).all()


def test_a_moved_sequence_is_whole_in_its_new_row(rows: KvRows) -> None:
    rows.release(0, rows.capacity)
    rows.move(2, 0, 150)
    for number, tensor in enumerate(rows._tensors):
        assert (tensor[0, :, :150] == 10 * number + 3).all()
        assert (tensor[1] == 10 * number + 2).all()


def test_nothing_is_released_of_a_row_that_holds_nothing(rows: KvRows) -> None:
    rows.release(1, 0)
    assert (rows._tensors[0][1] == 2).all()
