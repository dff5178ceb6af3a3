"""Alerts end to end: a fault, real Prometheus and Alertmanager, three receivers, and the end."""

import shutil
from pathlib import Path

import pytest

from forebay.drill import catalogue, running

PROGRAMS = ("prometheus", "prometheus-alertmanager", "amtool", "redis-server")
LACKING = [name for name in PROGRAMS if shutil.which(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}"),
]


def test_three_alerts_fire_reach_mail_slack_and_pagerduty_and_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (drill,) = catalogue.named(["alerts"])
    result = running.run(drill, "scripted", quick=True, models=tmp_path, say=lambda *_, **__: None)
    table = running.as_tables([result])
    with capsys.disabled():
        print("\n" + table)
    assert result.passed, table
    assert result.findings is not None
    told = [row["told_s"] for row in result.findings.figures["alerts"]]
    assert {channel for each in told for channel in each} == {"mail", "slack", "pagerduty"}
