"""What we stand on: a CycloneDX list of it (`sbom`), and what is known to be wrong with it.

`make sbom` and `make audit` call this with `sbom` and `audit`; both read
requirements/*.txt, in which every package has an exact version and its hashes.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
LOCKED: Final = ("serve", "dev", "transformers")
FOLDER: Final = ROOT / "build" / "sbom"
BIN: Final = Path(sys.executable).parent
_FOUND: Final = 1
_AUDIT_S_MAX: Final = 300.0


def sbom(name: str, folder: Path) -> Path:
    """Write the list of one locked file as CycloneDX JSON, checked against its schema."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"forebay-{name}.cdx.json"
    command = [str(BIN / "cyclonedx-py"), "requirements", f"requirements/{name}.txt"]
    command += ["--pyproject", "pyproject.toml", "--output-reproducible", "--validate"]
    command += ["--index-url", "https://pypi.org/simple", "--output-file", str(output)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return output


def audit(name: str) -> dict[str, Any]:
    """Ask pip-audit about one locked file, without installing anything."""
    command = [str(BIN / "pip-audit"), "--requirement", f"requirements/{name}.txt"]
    command += [
        "--disable-pip",
        "--require-hashes",
        "--format",
        "json",
        "--progress-spinner",
        "off",
    ]
    try:
        done = subprocess.run(  # noqa: S603 - ours
            command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=_AUDIT_S_MAX
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return {"dependencies": []}
    return found


def told(name: str, found: dict[str, Any]) -> tuple[list[str], bool]:
    """Return what to say of an audit, and whether something is wrong.

    A database that does not know a package answers like one that does not answer at all, so
    packages that were not looked up are named, and none of them passes for sound.
    """
    packages = found["dependencies"]
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    wrong = [each for each in packages if each.get("vulns")]
    looked_up = len(packages) - len(skipped)
    if not looked_up:
        return [
            f"{name}: SKIPPED, no vulnerability database (PyPI's) can be reached from here"
        ], False
    lines = [f"{name}: {looked_up} packages looked up, {len(wrong)} with known vulnerabilities"]
    lines += [f"{name}: not looked up: {', '.join(skipped)}"] if skipped else []
    for each in wrong:
        ids = ", ".join(vulnerability["id"] for vulnerability in each["vulns"])
        lines.append(f"{name}: {each['name']} {each['version']}: {ids}")
    return lines, bool(wrong)


def main(words: list[str]) -> int:
    """Do what is asked for; the exit status is 1 where a vulnerability is known."""
    match words:
        case ["sbom"]:
            for name in LOCKED:
                print(sbom(name, FOLDER).relative_to(ROOT))
            return 0
        case ["audit"]:
            wrong = False
            for name in LOCKED:
                lines, bad = told(name, audit(name))
                print("\n".join(lines))
                wrong = wrong or bad
            return _FOUND if wrong else 0
        case _:
            print("usage: supply_chain.py sbom | audit")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
