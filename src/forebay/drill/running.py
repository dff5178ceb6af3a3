"""Drills run one after another, and what is written of them."""

import dataclasses
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from forebay.bench import machine
from forebay.drill.findings import DrillFailed, Findings, Gate, Result, Skipped
from forebay.drill.stage import Drill, Say, Stage

_INFO: Final = '"log.level":"info"'
_SAID_MAX: Final = 20


def run(  # noqa: PLR0913 - each is an option of the command line
    drill: Drill,
    engine: str,
    *,
    quick: bool,
    models: Path,
    say: Say,
    only: Sequence[str] = (),
) -> Result:
    """Run one drill on one engine; whatever goes wrong is in the result."""
    began = time.monotonic()
    findings: Findings | None = None
    skipped = failed = ""
    with tempfile.TemporaryDirectory(prefix="forebay-drill-") as folder:
        stage = Stage(engine=engine, quick=quick, folder=Path(folder), models=models, say=say)
        stage.only = tuple(only)
        try:
            findings = drill.run(stage)
        except Skipped as reason:
            skipped = str(reason)
        except DrillFailed as reason:
            failed = str(reason)
        said = _said(stage.folder)
    return Result(
        drill=drill.name,
        engine=engine,
        took_s=time.monotonic() - began,
        quick=quick,
        findings=findings,
        faults=tuple(stage.faults),
        skipped=skipped,
        failed=failed,
        said=said,
    )


def _said(folder: Path) -> dict[str, int]:
    """Return what the servers logged as warnings and errors, counted."""
    found: Counter[str] = Counter()
    for log in folder.glob("*.log"):
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("{") and _INFO not in line:
                event = json.loads(line)
                words = (
                    event.get(key)
                    for key in ("message", "error.type", "error.message", "forebay.reason")
                )
                found[" ".join(word for word in words if word)] += 1
    return dict(found.most_common(_SAID_MAX))


def as_data(results: Sequence[Result]) -> dict[str, Any]:
    """Return results as JSON has them: where, how, gates, raw figures."""
    return {"machine": machine.facts(), "drills": [_one(result) for result in results]}


def as_tables(results: Sequence[Result]) -> str:
    """Return results as Markdown."""
    rows = [["drill", "engine", "what", "required", "measured", ""]]
    rows += [row for result in results for row in lines(result)]
    tables = [machine.table("Drills", rows)]
    found = (result.findings for result in results)
    tables += [table for findings in found if findings for table in findings.tables]
    return "\n".join(tables)


def lines(result: Result) -> list[list[str]]:
    """Return one line for each gate: drill, engine, what, required, measured, verdict."""
    head = [result.drill, result.engine]
    if result.findings is None:
        return [[*head, result.skipped or result.failed, "", "", verdict(result.passed)]]
    return [
        [*head, gate.what, _required(gate), _measured(gate), verdict(gate.passed)]
        for gate in result.findings.gates
    ]


def verdict(passed: bool) -> str:  # noqa: FBT001 - it is what the word is made of
    """Return a gate's end in a word."""
    return "pass" if passed else "FAIL"


def _required(gate: Gate) -> str:
    return f"{gate.bound} {gate.required:,.4g} {gate.unit}".rstrip()


def _measured(gate: Gate) -> str:
    if gate.measured is None:
        return "not measured"
    return f"{gate.measured:,.4g} {gate.unit}".rstrip()


def _one(result: Result) -> dict[str, Any]:
    found = dataclasses.asdict(result)
    found["passed"] = result.passed
    if result.findings is not None:
        for gate, data in zip(result.findings.gates, found["findings"]["gates"], strict=True):
            data["passed"] = gate.passed
    return found
