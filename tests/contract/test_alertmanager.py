"""The configuration of Alertmanager, by the word of its own tool: who is told of what."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from forebay.monitoring.alert import Alert, Severity
from forebay.monitoring.alertmanager import DIGEST, PAGES, SWITCH, TICKETS, alertmanager
from forebay.monitoring.alerts import ALERTS
from forebay.monitoring.inhibitions import INHIBITIONS
from forebay.serve.slo_file import built_in
from tests.support.alert_cases import CASES

_TOLD = {
    Severity.PAGE: {PAGES, DIGEST},
    Severity.TICKET: {TICKETS, DIGEST},
    Severity.NONE: {SWITCH},
}
_NO_AMTOOL = pytest.mark.skipif(shutil.which("amtool") is None, reason="no amtool here")
_SECRETS = re.compile(r"(password|api_url|_key|token|credentials)(_file)?:")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "alertmanager.yml"
    path.write_text(alertmanager(built_in()))
    return path


def amtool(*words: str) -> str:
    told = subprocess.run(
        ["amtool", *words], capture_output=True, text=True, check=False, timeout=30
    )
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@_NO_AMTOOL
def test_alertmanager_takes_the_configuration(config: Path) -> None:
    told = amtool("check-config", str(config))
    assert "SUCCESS" in told
    assert f"{len(INHIBITIONS)} inhibit rules" in told
    assert "4 receivers" in told


@_NO_AMTOOL
@pytest.mark.parametrize("severity", list(Severity))
def test_each_severity_goes_where_somebody_looks(config: Path, severity: Severity) -> None:
    labels = ["alertname=Any", "service=forebay", f"severity={severity}"]
    told = amtool("config", "routes", "test", f"--config.file={config}", *labels)
    assert set(told.strip().split(",")) == _TOLD[severity]


@_NO_AMTOOL
def test_an_alert_of_nobodys_severity_is_at_least_mailed(config: Path) -> None:
    told = amtool("config", "routes", "test", f"--config.file={config}", "alertname=Disk")
    assert told.strip() == DIGEST


def test_every_receiver_is_told_of_something_and_the_switch_comes_every_minute() -> None:
    content = yaml.safe_load(alertmanager(built_in()))
    routes = {route["receiver"]: route for route in content["route"]["routes"]}
    assert set(routes) == {each["name"] for each in content["receivers"]}
    assert routes[SWITCH]["repeat_interval"] == "1m"
    assert content["route"]["group_by"] == ["alertname", "service", "model"]


def test_secrets_stand_in_files_only() -> None:
    lines = alertmanager(built_in()).splitlines()
    found = [match[2] for line in lines if (match := _SECRETS.search(line))]
    assert len(found) == 3
    assert set(found) == {"_file"}


def test_each_way_of_telling_shows_the_runbook_and_the_dashboard_of_each_alert() -> None:
    content = yaml.safe_load(alertmanager(built_in()))
    for receiver in content["receivers"]:
        if receiver["name"] == SWITCH:
            continue
        (told,) = (text for key, text in receiver.items() if key.endswith("_configs"))
        assert told[0]["send_resolved"], receiver["name"]
        assert "Annotations.runbook_url" in str(told), receiver["name"]
        assert "Annotations.dashboard_url" in str(told), receiver["name"]


def _named(name: str) -> Alert:
    (found,) = (alert for alert in ALERTS if alert.name == name)
    return found


def test_what_inhibits_is_the_graver_of_two_about_the_same() -> None:
    labels = {case.alert: set(case.labels or ()) for case in reversed(CASES) if case.fires}
    for rule in INHIBITIONS:
        assert _named(rule.by).severity is Severity.PAGE
        for name in rule.of:
            told = _named(name)
            assert told.area is _named(rule.by).area
            # A label that an alert lacks would make it equal to all others that lack it.
            equal = set(rule.equal) - {"service"}
            assert equal <= labels[name]
            assert equal <= labels[rule.by]


def test_nothing_keeps_the_dead_mans_switch_from_coming() -> None:
    content = yaml.safe_load(alertmanager(built_in()))
    for rule in content["inhibit_rules"]:
        assert 'severity=~"page|ticket"' in rule["target_matchers"]


def test_no_two_alerts_keep_each_other_quiet() -> None:
    order = [alert.name for alert in ALERTS]
    for rule in INHIBITIONS:
        assert all(order.index(rule.by) < order.index(name) for name in rule.of)
    assert [rule.by for rule in INHIBITIONS if not rule.of] == ["ForebayDown"]
