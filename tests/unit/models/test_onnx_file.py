"""An ONNX file is walked within bounds: sound, or refused with the fault."""

import random
from pathlib import Path

import pytest

from forebay.models.onnx_file import Beside, read_beside
from forebay.models.stages import PreparationError
from tests.support.weights import an_onnx, field


def read(tmp_path: Path, content: bytes) -> tuple[Beside, ...]:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    return read_beside(path)


def test_weights_beside_the_file_are_found_wherever_they_are_named(tmp_path: Path) -> None:
    found = read(tmp_path, an_onnx(location="model.onnx.data", offset=4, length=12))
    beside = Beside(location="model.onnx.data", offset=4, length=12)
    assert found == (beside, beside)  # one of the graph, one inside a node


def test_weights_within_the_file_are_stepped_over(tmp_path: Path) -> None:
    assert read(tmp_path, an_onnx()) == ()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it has 0 bytes"),
        (b"GGUF" + bytes(100), "is not a sound ONNX file"),
        (field(2, b"a producer, and no graph"), "no graph"),
        (field(7, b"")[:-1] + b"\x7f", "reaches beyond"),
        (b"\x3a" + b"\xff" * 20, "ends or garbles"),
        (b"\x3b" + bytes(20), "unknown type 3"),
        (field(7, b"\x0d\x00"), "ends within a field"),
        (an_onnx(location="x" * 2_000), "longer name"),
        (an_onnx(location="a", offset=-1), "no number"),
        (field(7, field(5, field(13, field(1, b"\xff\xfe")))), "no text"),
    ],
)
def test_a_file_that_lies_is_refused_with_the_fault(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(PreparationError, match=words):
        read(tmp_path, content)


def test_graphs_within_graphs_end_somewhere(tmp_path: Path) -> None:
    graph = b""
    for _ in range(40):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(PreparationError, match="deeper"):
        read(tmp_path, field(7, graph))


def test_any_changed_byte_is_read_or_refused(tmp_path: Path) -> None:
    whole = an_onnx(location="model.onnx.data")
    source = random.Random(6)
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        content[source.randrange(len(content))] = source.randrange(256)
        try:
            read(tmp_path, bytes(content))
        except PreparationError:
            refused += 1
    assert refused > 30


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    whole = an_onnx(location="model.onnx.data")
    for size in range(3, len(whole)):
        with pytest.raises(PreparationError):
            read(tmp_path, whole[:size])
