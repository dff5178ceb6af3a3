"""What a measurement has to say of where and how it was made."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

_HERE: Final = Path(__file__).parent
_PACKAGES: Final = ("uvicorn", "uvloop", "httptools", "msgspec", "openvino-genai", "tokenizers")


def facts() -> dict[str, Any]:
    """Return machine, software, commit and command."""
    processor = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor[0] if processor else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", ":/src")),
        "command": " ".join(_command()),
        "load_average": os.getloadavg(),
    }


def table(title: str, rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *rest = rows
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rest]
    return "\n".join([f"\n**{title}**\n", *(f"| {' | '.join(line)} |" for line in lines)])


def _command() -> list[str]:
    """Return the words that started this, without the folder that the program is in."""
    program, *words = sys.orig_argv[1:]
    return [Path(program).name, *words]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _git(*words: str) -> str:
    """Return what git says of this checkout; nothing where there is none, or no git."""
    try:
        found = subprocess.run(  # noqa: S603 - the words are ours
            ["git", *words],  # noqa: S607 - whichever git there is
            cwd=_HERE,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ""
    return found.stdout.strip()
