"""docs/security.md: each row of the table of classes has tests, and each test named exists."""

import ast
import functools
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
ROWS: Final = 19
CONFIRMED: Final = frozenset(
    {
        *("CVE-2024-50050", "CVE-2025-23310", "CVE-2025-23311", "CVE-2025-23319", "CVE-2025-23320"),
        *("CVE-2025-23334", "CVE-2025-48944", "CVE-2025-48956", "CVE-2025-59425", "CVE-2026-3059"),
        *("CVE-2026-3060", "CVE-2026-5760", "CVE-2026-7301", "CVE-2026-7482", "CVE-2026-21869"),
        *("CVE-2026-22773", "CVE-2026-22778", "CVE-2026-22807", "CVE-2026-33626", "CVE-2026-42208"),
        *("CVE-2026-44223", "CVE-2026-48710", "CVE-2026-48746"),
    }
)
"""Numbers whose advisories were read; no other is published."""


@functools.cache
def defined_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, functions))


def rows(text: str) -> dict[int, list[str]]:
    """Return the tests of each row, as `file::name`."""
    found = {}
    for line in text.splitlines():
        if match := re.match(r"\| (\d+) \|", line):
            found[int(match[1])] = re.findall(r"`(tests/[\w/]+\.py::\w+)`", line)
    return found


def missing(text: str) -> list[str]:
    """Return what the table lacks."""
    table = rows(text)
    found = [f"row {row} has no test" for row in range(1, ROWS + 1) if not table.get(row)]
    for name in (name for names in table.values() for name in names):
        file, _, test = name.partition("::")
        if not (ROOT / file).is_file() or test not in defined_in(file):
            found.append(f"{name} does not exist")
    return found


def test_every_row_has_tests_and_each_of_them_exists() -> None:
    assert not missing((ROOT / "docs" / "security.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["docs/security.md", "SECURITY.md"])
def test_no_number_is_published_whose_advisory_nobody_read(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert set(re.findall(r"CVE-\d{4}-\d+", text)) <= CONFIRMED


def test_no_test_names_a_number_whose_advisory_nobody_read() -> None:
    for file in (ROOT / "tests" / "security").glob("*.py"):
        assert set(re.findall(r"CVE-\d{4}-\d+", file.read_text(encoding="utf-8"))) <= CONFIRMED, (
            file
        )


def test_a_row_without_a_test_and_a_test_that_is_none_are_seen() -> None:
    text = "\n".join(
        f"| {row} | x | `tests/security/test_table.py::test_x` |" for row in range(2, 20)
    )
    found = missing(text)
    assert "row 1 has no test" in found
    assert "tests/security/test_table.py::test_x does not exist" in found


def test_every_test_of_a_class_is_in_the_table() -> None:
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    for file in (ROOT / "tests" / "security").glob("test_c2_*.py"):
        assert f"tests/security/{file.name}::" in text, file.name
