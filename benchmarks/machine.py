"""Where a measurement is kept: one file of raw figures, and its tables beside it."""

import json
from pathlib import Path
from typing import Any, Final

from forebay.bench.machine import facts, table

ROOT: Final = Path(__file__).parent.parent
RESULTS: Final = ROOT / "benchmarks" / "results"

__all__ = ["RESULTS", "ROOT", "facts", "save", "table"]


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
