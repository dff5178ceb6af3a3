"""Gates: a promise as a number, kept or not."""

from typing import Any

import pytest

from forebay.drill.findings import Findings, Gate, Result, at_least, at_most, exactly


def a_result(*gates: Gate, **fields: Any) -> Result:
    findings = Findings(gates=gates) if gates else None
    return Result(drill="d", engine="scripted", took_s=1.0, quick=True, findings=findings, **fields)


@pytest.mark.parametrize(
    ("gate", "passed"),
    [
        (at_most("x", 1.0, 1.0), True),
        (at_most("x", 1.1, 1.0), False),
        (at_least("x", 1.0, 1.0), True),
        (at_least("x", 0.9, 1.0), False),
        (exactly("x", 0, 0), True),
        (exactly("x", 1, 0), False),
    ],
)
def test_a_gate_is_passed_on_its_own_side_only(gate: Gate, *, passed: bool) -> None:
    assert gate.passed is passed


def test_what_was_not_measured_is_not_passed() -> None:
    assert not at_most("x", None, 1.0).passed
    assert not at_least("x", None, 0.0).passed
    assert not exactly("x", None, 0).passed


def test_a_drill_passes_with_all_its_gates() -> None:
    good, bad = exactly("x", 0, 0), exactly("x", 1, 0)
    assert a_result(good, good).passed
    assert not a_result(good, bad).passed


def test_a_drill_that_could_not_be_measured_fails_and_one_that_was_skipped_does_not() -> None:
    assert not a_result(failed="the server did not start").passed
    assert a_result(skipped="there is no peer").passed
