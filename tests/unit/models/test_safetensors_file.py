"""A safetensors file is what its header says, or it is refused before anything is mapped."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from forebay.models.safetensors_file import read_tensors, write_tensors
from forebay.models.stages import PreparationError
from tests.support.weights import TENSOR, safetensors, zeros


def read(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return read_tensors(path)


def test_a_sound_file_is_read_in_its_order(tmp_path: Path) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "second": {"dtype": "BF16", "shape": [], "data_offsets": [24, 26]},
        "first": TENSOR,
    }
    first, second = read(tmp_path, safetensors(header, bytes(26)))
    assert (first.name, first.shape, first.elements, second.elements) == ("first", (2, 3), 6, 1)
    assert (first.end, second.end - second.begin) == (second.begin, 2)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "claims a header"),
        (b"\x01\x00", "claims a header"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "claims a header"),
        ((1 << 30).to_bytes(8, "little") + b"{}", "claims a header"),
        (b"GGUF\x03\x00\x00\x00" + bytes(64), "it is a GGUF"),
        (b"PK\x03\x04" + bytes(64), "as PyTorch's pickles are"),
        (b"\x80\x02" + bytes(64), "a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
        (safetensors(b"[" * 1_000_000), "not what the format asks for"),
        (safetensors(b'{"a":' * 100_000), "not what the format asks for"),
        (safetensors(b'{"a": \xff}'), "not what the format asks for"),
        (safetensors([]), "not what the format asks for"),
        (safetensors({"a": {**TENSOR, "dtype": "F31"}}), "unknown type 'F31'"),
        (safetensors({"a": {**TENSOR, "extra": 1}}), "not what the format asks for"),
        (safetensors({"a": {**TENSOR, "shape": [-2, -3]}}), "a shape that none can have"),
        (safetensors({"a": {**TENSOR, "shape": [1] * 99}}), "a shape that none can have"),
        (safetensors({"a": {**TENSOR, "shape": [2**62, 2**62]}}), "not what its shape says"),
        (safetensors({"a": {**TENSOR, "shape": [1e300]}}), "not what the format asks for"),
        (safetensors({"a": {**TENSOR, "data_offsets": [24, 0]}}), "not what its shape says"),
        (safetensors({"a": {**TENSOR, "data_offsets": [-24, 0]}}), "not what its shape says"),
        (safetensors({"a": TENSOR, "b": TENSOR}), "overlaps another"),
        (safetensors({"a": {**TENSOR, "data_offsets": [8, 32]}}, bytes(32)), "leaves a gap"),
        (safetensors({"a": TENSOR}, bytes(23)), "end at byte"),
        (safetensors({"a": TENSOR}, bytes(25)), "end at byte"),
        (safetensors({"a": {**TENSOR, "data_offsets": [0, 24, 48]}}), "not what the format"),
    ],
)
def test_a_file_that_lies_is_refused_with_the_fault(
    tmp_path: Path, content: bytes, words: str
) -> None:
    with pytest.raises(PreparationError, match=words):
        read(tmp_path, content)


def test_any_changed_byte_of_a_header_is_read_or_refused(tmp_path: Path) -> None:
    whole = zeros({"model.embed": (4, 8), "model.norm": (8,)})
    length = 8 + int.from_bytes(whole[:8], "little")
    source = random.Random(5)
    refused = 0
    for _ in range(200):
        content = bytearray(whole)
        for _ in range(source.randint(1, 3)):
            content[source.randrange(length)] = source.randrange(256)
        try:
            read(tmp_path, bytes(content))
        except PreparationError:
            refused += 1
    assert refused > 150


def test_every_cut_is_refused(tmp_path: Path) -> None:
    whole = zeros({"a": (4, 8), "b": (8,)})
    for size in range(len(whole)):
        with pytest.raises(PreparationError):
            read(tmp_path, whole[:size])


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    path = tmp_path / "model.safetensors"
    arrays = [numpy.arange(6, dtype="float32").reshape(2, 3), numpy.ones(5, "uint16")]
    write_tensors(path, [("a", "F32", (2, 3)), ("b", "BF16", (5,))], iter(arrays))
    first, second = read_tensors(path)
    content = path.read_bytes()
    assert first.begin % 8 == 0
    assert content[first.begin : first.end] == arrays[0].tobytes()
    assert content[second.begin : second.end] == arrays[1].tobytes()
    assert json.loads(content[8 : first.begin])["__metadata__"] == {"format": "pt"}
