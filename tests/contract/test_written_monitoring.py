"""What `forebay monitoring write` writes: whole, taken by Prometheus, and what is committed."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from forebay.cli.main import app
from forebay.monitoring.alert import Links
from forebay.monitoring.writing import files
from forebay.serve.slo_file import BUILT_IN, built_in

_COMMITTED = Path(__file__).parents[2] / "deploy" / "monitoring"
_NO_PROMTOOL = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")


def written(*arguments: str) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["monitoring", "write", *arguments])
    assert told.exception is None or isinstance(told.exception, SystemExit), told.exception
    return told.exit_code, told.output


def checked(config: Path) -> str:
    told = subprocess.run(
        ["promtool", "check", "config", str(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.mark.parametrize("name", sorted(files(built_in(), Links())))
def test_what_is_committed_is_what_is_written(name: str) -> None:
    fresh = files(built_in(), Links())[name]
    assert (_COMMITTED / name).read_text(encoding="utf-8") == fresh, (
        "Run `forebay monitoring write deploy/monitoring`."
    )


def _commands(page: str) -> list[str]:
    text = (_COMMITTED.parents[1] / "docs" / page).read_text(encoding="utf-8")
    (block,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return str(block).splitlines()


@pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("amtool")), reason="no promtool or amtool here"
)
@pytest.mark.parametrize("page", ["alerts.md", "slo.md"])
def test_the_documented_commands_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("slo.yaml").write_text(BUILT_IN.read_text(encoding="utf-8"), encoding="utf-8")
    for command in _commands(page):
        program, *words = shlex.split(command)
        if program == "forebay":
            told = CliRunner().invoke(app, words)
            assert told.exit_code == 0, told.output
        else:
            subprocess.run([program, *words], check=True, capture_output=True, timeout=60)
    assert Path("monitoring/prometheus/rules/forebay.yml").exists()


@_NO_PROMTOOL
def test_prometheus_takes_the_configuration_with_its_rules(tmp_path: Path) -> None:
    status, told = written(str(tmp_path))
    assert status == 0
    assert str(tmp_path / "prometheus" / "rules" / "forebay.yml") in told.splitlines()
    assert "1 rule files found" in checked(tmp_path / "prometheus" / "prometheus.yml")


@_NO_PROMTOOL
def test_what_is_commented_out_is_taken_too_once_it_is_not(tmp_path: Path) -> None:
    written(str(tmp_path))
    config = tmp_path / "prometheus" / "prometheus.yml"
    text = config.read_text()
    secret = tmp_path / "secret"
    secret.write_text("not-a-real-one")
    text = re.sub(r"(?m)^#(?=remote_write:|  )", "", text)
    text = re.sub(r"(?m)^    # (?=authorization:|  credentials_file:|scheme:)", "    ", text)
    text = re.sub(r"/etc/prometheus/secrets/\w+", str(secret), text)
    assert "\nremote_write:\n" in text
    assert "\n      credentials_file:" in text
    config.write_text(text)
    checked(config)
    config.write_text(text.replace("password_file:", "pasword_file:"))
    with pytest.raises(AssertionError, match="pasword_file"):
        checked(config)


def test_objectives_and_addresses_of_ones_own_are_in_the_rules(tmp_path: Path) -> None:
    own = tmp_path / "slo.yaml"
    own.write_text(BUILT_IN.read_text(encoding="utf-8").replace("goal: 0.999", "goal: 0.9985"))
    status, _ = written(
        *(str(tmp_path / "out"), "--slo", str(own)),
        *("--grafana", "https://grafana.example.com/"),
        *("--runbooks", "https://wiki.example.com/runbooks"),
    )
    rules = (tmp_path / "out" / "prometheus" / "rules" / "forebay.yml").read_text()
    assert status == 0
    assert "vector(0.9985)" in rules
    assert "runbook_url: https://wiki.example.com/runbooks/NotReady.md\n" in rules
    assert "dashboard_url: https://grafana.example.com/d/llm\n" in rules
    assert "localhost:3000" not in rules


@pytest.mark.parametrize("option", ["--grafana", "--runbooks"])
def test_what_is_no_address_is_refused(tmp_path: Path, option: str) -> None:
    status, told = written(str(tmp_path / "out"), option, "grafana.example.com")
    assert status == 2
    assert option in told
    assert not (tmp_path / "out").exists()


def test_wrong_objectives_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    own = tmp_path / "slo.yaml"
    own.write_text("service: forebay\nwindow: 30d\nobjectives: {}\nalerts: {}\n")
    status, told = written(str(tmp_path / "out"), "--slo", str(own))
    assert status == 2
    assert "objectives: Name 1 to 20 objectives." in told
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    status, told = written(str(tmp_path / "file"))
    assert status == 1
    assert "cannot be written" in told
