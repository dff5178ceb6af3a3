"""Row 18, supply chain: what is installed is what was locked, hash by hash."""

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from scripts import supply_chain

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


def packages(file: Path) -> set[str]:
    """Return `name==version` of a locked file, names as PyPI compares them."""
    names = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?==([^ ;\\]+)", file.read_text(), re.MULTILINE
    )
    return {f"{re.sub(r'[-_.]+', '-', name).lower()}=={version}" for name, version in names}


def test_the_bill_of_materials_names_what_is_locked_with_its_hashes(tmp_path: Path) -> None:
    """`cyclonedx-py` checks it against CycloneDX's own schema as it writes it."""
    bill = json.loads(supply_chain.sbom("serve", tmp_path).read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "forebay"
    found = {
        f"{re.sub(r'[-_.]+', '-', each['name']).lower()}=={each['version']}"
        for each in bill["components"]
    }
    assert found == packages(ROOT / "requirements" / "serve.txt")
    for each in bill["components"]:
        hashes = [one for reference in each["externalReferences"] for one in reference["hashes"]]
        assert "SHA-256" in {one["alg"] for one in hashes}
    assert "pypi.org" in json.dumps(bill)


@pytest.mark.parametrize(
    ("dependencies", "words", "wrong"),
    [
        ([], "SKIPPED", False),
        ([{"name": "a", "skip_reason": "not found"}], "SKIPPED", False),
        ([{"name": "a", "version": "1", "vulns": []}], "1 packages looked up, 0 with", False),
        ([{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1"}]}], "a 1: PYSEC-1", True),
        (
            [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "x"}],
            "not looked up: b",
            False,
        ),
    ],
)
def test_an_audit_says_what_was_not_looked_up(
    dependencies: list[dict[str, Any]], words: str, wrong: bool
) -> None:
    lines, bad = supply_chain.told("serve", {"dependencies": dependencies})
    assert words in "\n".join(lines)
    assert bad is wrong
