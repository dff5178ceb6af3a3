"""A GGUF's header is believed only as far as the file goes."""

import struct
from pathlib import Path

import pytest

from forebay.models.gguf import read_header, write_f16
from forebay.models.stages import PreparationError, Progress
from tests.support.models import CONTEXT, LAYERS, a_gguf

pytest.importorskip("gguf")


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def a_header(
    *, tensors: bytes = b"", tensor_count: int = 0, keys: bytes = b"", key_count: int = 0
) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensor_count, key_count) + keys + tensors


def a_tensor(*, dims: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    return text("t") + shape + struct.pack("<IQ", kind, offset)


def test_a_sound_file_is_read(tmp_path: Path) -> None:
    header = read_header(a_gguf(tmp_path / "m.gguf"))
    assert header.text("general.architecture") == "llama"
    assert header.integer("llama.context_length") == CONTEXT
    assert len(header.tensors) == 2 + 9 * LAYERS
    assert header.tensors[0].shape[1] == 64


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "begins with"),
        (b"GG", "begins with"),
        (b"PK\x03\x04" + bytes(100), "begins with"),
        (b"\x80\x04\x95pickle", "begins with"),
        (b"version https://git-lfs.github.com/spec/v1\n", "begins with"),
        (b"GGUF\x03", "header"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 2**63, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "metadata keys"),
        (a_header(keys=struct.pack("<Q", 2**62), key_count=1), "bytes of text"),
        (a_header(keys=struct.pack("<Q", 2) + b"\xff\xff" + bytes(20), key_count=1), "header"),
        (a_header(keys=text("k") + struct.pack("<I", 99), key_count=1), "unknown type"),
        (a_header(keys=text("k") + struct.pack("<IIQ", 9, 9, 1), key_count=1), "unknown type"),
        (a_header(keys=text("k") + struct.pack("<IIQ", 9, 4, 2**40), key_count=1), "items"),
        (a_header(keys=text("k") + struct.pack("<IIQ", 9, 4, 9), key_count=1), "header"),
        (a_header(tensors=a_tensor(dims=(1,) * 5), tensor_count=1), "dimensions"),
        (a_header(tensors=a_tensor(dims=(0,)), tensor_count=1), "shape"),
        (a_header(tensors=a_tensor(dims=(5,), kind=2), tensor_count=1), "shape"),
        (a_header(tensors=a_tensor(), tensor_count=1), "beyond"),
        (a_header(tensors=a_tensor(offset=2**63), tensor_count=1) + bytes(64), "beyond"),
        (a_header(tensors=a_tensor() * 2, tensor_count=2) + bytes(64), "one name"),
        (
            a_header(
                keys=text("general.alignment") + struct.pack("<II", 4, 0),
                key_count=1,
                tensors=a_tensor(),
                tensor_count=1,
            ),
            "alignment",
        ),
    ],
)
def test_a_broken_file_is_refused_with_what_is_wrong(
    tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(PreparationError, match=words):
        read_header(path)


def test_an_unknown_tensor_type_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(a_header(tensors=a_tensor(kind=250), tensor_count=1) + bytes(64))
    with pytest.raises(PreparationError, match="type 250"):
        read_header(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = a_gguf(tmp_path / "m.gguf").read_bytes()
    short = tmp_path / "short.gguf"
    for length in [*range(0, 4_000, 97), len(whole) // 2, len(whole) - 1]:
        short.write_bytes(whole[:length])
        with pytest.raises(PreparationError):
            read_header(short)


def test_dequantising_keeps_text_and_numbers(tmp_path: Path) -> None:
    import numpy as np  # noqa: PLC0415 - heavy

    source, target = a_gguf(tmp_path / "m.gguf"), tmp_path / "f16.gguf"
    told: list[Progress] = []
    before = read_header(source)
    write_f16(source, before, target, report=told.append)
    after = read_header(target)
    assert after.metadata | {"general.file_type": 0} == before.metadata
    assert [(t.name, t.shape) for t in after.tensors] == [(t.name, t.shape) for t in before.tensors]
    for old, new in zip(before.tensors, after.tensors, strict=True):
        wide = np.fromfile(source, np.float32, old.elements, offset=old.offset)
        narrow = np.float32 if len(new.shape) == 1 else np.float16
        assert np.array_equal(
            np.fromfile(target, narrow, new.elements, offset=new.offset), wide.astype(narrow)
        )
    assert told[-1].done == told[-1].total == len(before.tensors)


def test_numbers_that_16_bits_cannot_hold_are_refused(tmp_path: Path) -> None:
    source = a_gguf(tmp_path / "m.gguf")
    header = read_header(source)
    with source.open("r+b") as file:
        file.seek(header.tensors[0].offset)
        file.write(struct.pack("<f", 1e30))
    with pytest.raises(PreparationError, match="not finite"):
        write_f16(source, header, tmp_path / "f16.gguf", report=lambda _: None)
