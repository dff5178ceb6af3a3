"""What a measurement has to say of where and how it was made."""

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"
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
        "packages": {name: version(name) for name in _PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", "src")),
        "command": " ".join(sys.orig_argv[1:]),
        "load_average": os.getloadavg(),
    }


def save(name: str, result: dict[str, Any], text: str) -> Path:
    """Write a result and its tables, named by date and machine; return where."""
    found = result["machine"]
    kind = "-".join(found["processor"].replace("(R)", "").split()[:2]).lower()
    day = found["date"][:10]
    path = RESULTS / f"{day}-{found['cores']}x-{kind}-{name}.json"
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(text.lstrip() + "\n", encoding="utf-8")
    return path


def table(title: str, rows: list[list[str]]) -> str:
    """Return a Markdown table; the first row is its head."""
    head, *rest = rows
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rest]
    return "\n".join([f"\n**{title}**\n", *(f"| {' | '.join(line)} |" for line in lines)])


def _git(*words: str) -> str:
    found = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()
