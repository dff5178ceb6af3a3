"""Which engines there are, and which of them can run here."""

from pathlib import Path
from typing import NoReturn

import pytest

from forebay.engine import registry
from forebay.engine.protocol import StepEngine
from forebay.engine.registry import EngineKind, runnable


def needing(*modules: str) -> EngineKind:
    def make(_: object, folder: Path | None) -> StepEngine:
        raise AssertionError(folder)

    return EngineKind(name="e", config=object, form=None, needs=modules, make=make)


@pytest.mark.parametrize(
    ("modules", "there"),
    [((), True), (("json",), True), (("json", "no_such_library"), False)],
    ids=["nothing", "what is there", "what is not there"],
)
def test_an_engine_runs_where_every_library_that_it_needs_is_installed(
    modules: tuple[str, ...], there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "find", lambda _: needing(*modules))
    assert runnable("e") is there


def test_an_engine_that_cannot_be_imported_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(_: str) -> NoReturn:
        raise ImportError("no such library")

    monkeypatch.setattr(registry, "find", find)
    assert not runnable("e")


def test_an_engine_that_others_run_needs_no_library() -> None:
    assert runnable("upstream")
