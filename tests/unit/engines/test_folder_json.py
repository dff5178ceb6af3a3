"""JSON files that are not what they should be are named, with what is wrong."""

from pathlib import Path
from typing import Any

import pytest

from forebay.engines.folder_json import read_json


def test_what_a_file_holds_is_returned_as_its_kind(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"a": [1, 2]}')
    assert read_json(file, dict[str, list[int]]) == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", r"cannot be read \("),
        (b"[]", r"cannot be read \("),
        (b'{"a": NaN}', r"cannot be read \("),
        (b'{"a": "\xff"}', r"cannot be read \("),
        (b'{"a": ' + b"[" * 100_000, r"cannot be read \("),
        (b" " * (1 << 20) + b"{}", "has 1048578 bytes"),
        (None, r"cannot be read \(No such file"),
    ],
    ids=["cut", "a list", "no number", "no text", "too deep", "too long", "not there"],
)
def test_anything_else_is_refused_by_name(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"config\.json .*{words}"):
        read_json(file, dict[str, Any])
