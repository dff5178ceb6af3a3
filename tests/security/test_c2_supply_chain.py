"""Row 18, supply chain: what is installed is what was locked, hash by hash."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LOCKED: Final = sorted((ROOT / "requirements").glob("*.txt"))
REQUIREMENT: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z,]+\])?==[^ ;]+")


def loose(text: str) -> list[str]:
    """Return what a locked file leaves open: no exact version, or no hash."""
    entries = text.replace("\\\n", " ").splitlines()
    wanted = [line for line in entries if line.strip() and not line.lstrip().startswith("#")]
    return [
        line[:80]
        for line in wanted
        if not (REQUIREMENT.match(line) and re.search(r"--hash=sha256:[0-9a-f]{64}", line))
    ]


@pytest.mark.parametrize("file", LOCKED, ids=lambda file: file.name)
def test_every_requirement_has_an_exact_version_and_a_hash(file: Path) -> None:
    assert not loose(file.read_text())


@pytest.mark.parametrize(
    "line",
    ["x>=1 --hash=sha256:" + "0" * 64, "x==1", "git+https://x/y", "x @ https://x/y.whl", "-e ."],
)
def test_a_loose_requirement_is_seen(line: str) -> None:
    assert loose(line + "\n")
    assert not loose(
        "# a comment\nx[y]==1.0 ; python_version < '4' \\\n    --hash=sha256:" + "0" * 64
    )


def test_nothing_is_installed_but_by_hash() -> None:
    """Each `pip install` of ours asks for hashes, or fetches nothing."""
    scripts = [
        ROOT / "Makefile",
        *(ROOT / "scripts").glob("*.sh"),
        *ROOT.glob("deploy/**/Dockerfile*"),
    ]
    found = []
    for script in scripts:
        for line in script.read_text().replace("\\\n", " ").splitlines():
            if re.search(r"pip install", line) and not line.lstrip().startswith(("#", "@#")):
                found += [line.strip()] if not _bound(line) else []
    assert all("$(TORCH)" in line or "uv==" in line for line in found), found
    assert len(found) <= 2, "torch, which the machine decides, and the resolver in its own folder"


def _bound(line: str) -> bool:
    return bool(re.search(r"--require-hashes|--no-index|--no-deps --no-build-isolation", line))
