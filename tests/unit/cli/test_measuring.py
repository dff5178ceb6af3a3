"""`forebay drill`: what is run, what is shown, and how it ends."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from forebay.cli.main import app as command_line
from forebay.drill import catalogue, faults
from forebay.drill.findings import DrillFailed, Findings, Skipped, exactly
from forebay.drill.stage import Drill, Stage

Ran = list[tuple[str, str, bool]]


@pytest.fixture(autouse=True)
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """Drills that need no server, under the names of the real ones; what was run of them."""
    found: Ran = []

    def playing(name: str, measured: int) -> Drill:
        def run(stage: Stage) -> Findings:
            found.append((" ".join([name, *stage.only]), stage.engine, stage.quick))
            with stage.broken(faults.Fault(name="nothing", inject=lambda: None)):
                stage.say("playing", 1, 2)
            return Findings(gates=(exactly("lost", measured, 0),), figures={"p99": 1.5})

        return Drill(name=name, about=f"about {name}", run=run)

    def skip(_: Stage) -> Findings:
        raise Skipped("there is no moon")

    def fall(_: Stage) -> Findings:
        raise DrillFailed("the server ended")

    real = {drill.name for drill in catalogue.DRILLS}
    assert {"worker", "vanish", "gateway", "alerts"} <= real
    drills = (
        playing("worker", 0),
        playing("vanish", 0),
        playing("gateway", 3),
        playing("alerts", 0),
        Drill(name="skipped", about="", run=skip),
        Drill(name="fallen", about="", run=fall),
    )
    monkeypatch.setattr(catalogue, "DRILLS", drills)
    return found


def typed(*arguments: str) -> tuple[int, str]:
    told = CliRunner().invoke(command_line, ["drill", *arguments], env={"COLUMNS": "100"})
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told.exit_code, told.output


def written(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_documented_commands_are_understood(
    ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, text = typed("--list")
    assert status == 0
    assert "about gateway" in text
    assert ran == []
    assert typed("worker", "vanish", "--quick")[0] == 0
    assert ran == [("worker", "scripted", True), ("vanish", "scripted", True)]
    assert typed("alerts", "--only", "ForebayDown")[0] == 0
    assert ran[-1] == ("alerts ForebayDown", "scripted", False)
    assert typed("--json", "drills.json")[0] == 1
    assert Path("drills.json").exists()


def test_a_gate_that_fails_is_exit_status_1_and_stands_in_the_table() -> None:
    status, text = typed("worker", "gateway")
    assert status == 1
    assert "FAIL" in text
    assert "pass" in text


def test_a_drill_that_could_not_be_measured_fails() -> None:
    status, text = typed("fallen")
    assert status == 1
    assert "the server ended" in text


def test_a_drill_that_this_machine_cannot_run_is_skipped_by_name() -> None:
    status, text = typed("skipped")
    assert status == 0
    assert "there is no moon" in text


def test_an_unknown_drill_is_answered_with_those_there_are(ran: Ran) -> None:
    status, text = typed("wrker")
    assert status == 2
    assert "wrker" in text
    assert "vanish" in text
    assert ran == []


def test_the_file_holds_machine_gates_faults_and_raw_figures(tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    typed("gateway", "--json", str(file))
    found = written(file)
    assert {"processor", "commit", "command"} <= found["machine"].keys()
    (drill,) = found["drills"]
    assert drill["passed"] is False
    assert drill["findings"]["gates"][0] == {
        "what": "lost",
        "required": 0,
        "measured": 3,
        "bound": "=",
        "unit": "",
        "passed": False,
    }
    assert drill["findings"]["figures"] == {"p99": 1.5}
    assert [fault["fault"] for fault in drill["faults"]] == ["nothing"]
    assert "| gateway | scripted | lost | = 0 | 3 | FAIL |" in file.with_suffix(".md").read_text()


def test_one_engine_can_be_chosen(ran: Ran) -> None:
    typed("worker", "--engine", "auto")
    assert ran == [("worker", "auto", False)]
