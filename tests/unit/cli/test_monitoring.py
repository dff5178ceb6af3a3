"""`forebay monitoring write`: what is written, and what is said where a library is missing."""

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli.main import app as command_line


@pytest.mark.skipif(
    importlib.util.find_spec("grafana_foundation_sdk") is None,
    reason="grafana-foundation-sdk is not installed",
)
def test_dashboards_and_their_provisioning_are_written_with_the_rest(tmp_path: Path) -> None:
    answer = CliRunner().invoke(command_line, ["monitoring", "write", str(tmp_path)])
    assert answer.exit_code == 0
    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    assert {f"grafana/dashboards/{uid}.json" for uid in ("llm", "tenants")} < written
    assert "grafana/provisioning/dashboards/forebay.yaml" in written
    assert "prometheus/rules/forebay.yml" in written


def test_without_the_library_the_rest_is_written_and_its_absence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "grafana_foundation_sdk" else real(name, *rest),
    )
    answer = CliRunner().invoke(command_line, ["monitoring", "write", str(tmp_path)])
    assert answer.exit_code == 0
    assert "pip install 'forebay[dashboards]'" in answer.stderr
    assert (tmp_path / "prometheus/rules/forebay.yml").exists()
    assert not (tmp_path / "grafana").exists()


@pytest.mark.parametrize("address", ["grafana.example.com", "http://a b", "http://{{x}}"])
def test_an_address_that_would_break_a_message_s_links_writes_nothing(
    address: str, tmp_path: Path
) -> None:
    folder = tmp_path / "monitoring"
    words = ["monitoring", "write", str(folder), "--grafana", address]
    answer = CliRunner().invoke(command_line, words)
    assert answer.exit_code == 2
    assert "--grafana takes an address" in answer.stderr
    assert not folder.exists()
