"""Dashboards: made from the code, asking for what there is, in a form that Prometheus takes."""

import importlib.util
import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from forebay.monitoring import dashboards
from forebay.monitoring.alert import Alert, Links
from forebay.monitoring.alerts import ALERTS
from forebay.monitoring.alerts_machine import MACHINE
from forebay.monitoring.panel import DATASOURCE, Dashboard, Kind
from forebay.monitoring.rules import rules
from forebay.policy.slo import Measure, Spec
from forebay.serve.slo_file import built_in
from forebay.telemetry.catalogue import CATALOGUE
from forebay.telemetry.metric import Kind as MetricKind
from tests.support.dashboards import FOLDER, PAGES, Asked, asked, page, panels

ASKED = tuple(asked())
PROMETHEUS_OWN = {"up", "ALERTS"}
PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_max_fds",
}
DOCS = Path(__file__).parents[3] / "docs"


def named(asked: Asked) -> str:
    return f"{asked.panel}:{asked.letter}"


def made(spec: Spec | None = None) -> tuple[Dashboard, ...]:
    return dashboards.dashboards(spec or built_in())


@pytest.mark.skipif(
    importlib.util.find_spec("grafana_foundation_sdk") is None,
    reason="grafana-foundation-sdk is not installed",
)
def test_the_committed_files_are_what_the_code_writes() -> None:
    written = dashboards.files(built_in(), Links())
    assert len(written) == 6
    for path, text in written.items():
        assert (FOLDER / path).read_text() == text, f"{path}: run forebay monitoring write"


def test_who_lacks_the_library_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(dashboards.DashboardsUnavailable, match="pip install"):
        dashboards.files(built_in(), Links())


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_every_query(tmp_path: Path) -> None:
    records = [
        {"record": f"panel:q{number}", "expr": each.filled("5m")}
        for number, each in enumerate(ASKED)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": records}]}))
    found = subprocess.run(
        ["promtool", "check", "rules", file],
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"SUCCESS: {len(ASKED)} rules found" in found.stdout


@pytest.mark.parametrize("asked", ASKED, ids=named)
def test_a_query_asks_for_what_is_catalogued_or_recorded(asked: Asked) -> None:
    ends = ("_bucket", "_sum", "_count")
    served = {metric.name for metric in CATALOGUE} | PROCESS | PROMETHEUS_OWN
    served |= {m.name + end for m in CATALOGUE if m.kind is MetricKind.HISTOGRAM for end in ends}
    recorded = {
        rule["record"]
        for group in yaml.safe_load(rules(built_in(), links=Links()))["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    assert asked.names, "it asks for nothing"
    assert asked.names <= served | recorded


@pytest.mark.parametrize("asked", ASKED, ids=named)
def test_counters_are_asked_for_how_fast_they_count_and_quantiles_of_rates(asked: Asked) -> None:
    counters = {metric.name for metric in CATALOGUE if metric.kind is MetricKind.COUNTER}
    for name in asked.names:
        if name in counters or name.endswith(("_bucket", "_sum", "_count", "_seconds_total")):
            assert re.search(rf"(rate|increase)\({name}[^\]]*\[", asked.expr), name
    for quantile in re.findall(r"histogram_quantile\(.*", asked.expr):
        assert re.search(r"sum by \((\w+, )*le\) \(rate\(\w+_bucket\{", quantile)


@pytest.mark.parametrize("asked", ASKED, ids=named)
def test_whatever_is_counted_for_an_instance_can_be_narrowed_to_it(asked: Asked) -> None:
    for name in asked.names - {"ALERTS"}:
        if ":" not in name:
            assert re.search(rf'{name}\{{[^}}]*instance=~"\$instance"', asked.expr), name


@pytest.mark.parametrize("uid", PAGES)
def test_a_panel_has_its_own_id_place_title_and_unit(uid: str) -> None:
    found = page(uid)["panels"]
    ids = [panel["id"] for panel in found]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in panels(uid)]
    assert len(set(titles)) == len(titles)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another"
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] not in {"row", "text"}:
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert panel["description"]


@pytest.mark.parametrize("uid", PAGES)
def test_every_question_goes_to_the_data_source_that_is_provisioned(uid: str) -> None:
    sources = FOLDER / "grafana/provisioning/datasources/forebay.yaml"
    (source,) = yaml.safe_load(sources.read_text())["datasources"]
    assert source["uid"] == DATASOURCE
    found = page(uid)
    assert found["uid"] == uid
    assert {each["name"] for each in found["templating"]["list"]} <= {"model", "instance"}
    for holder in (*found["templating"]["list"], *panels(uid)):
        if holder["type"] != "text":
            assert holder["datasource"]["uid"] == DATASOURCE
    for panel in panels(uid):
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == DATASOURCE


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_the_panel_of_an_alert_is_there_and_leads_to_its_runbook(alert: Alert) -> None:
    uid, _, title = alert.panel.partition("/")
    (panel,) = [each for each in panels(uid) if each["title"] == title]
    assert Links().runbook(alert) in [link["url"] for link in panel["links"]]


def test_thresholds_are_those_of_the_objectives() -> None:
    spec = built_in()
    found = {panel.title: panel.alarm for panel in made()[0].panels}
    (ttft,) = [
        goal.at_most_s
        for goal in spec.goals
        if goal.measure is Measure.TTFT and goal.name.endswith("interactive")
    ]
    assert found["Time to first token"] == ttft
    assert found["Error budget burn"] == max(burn.rate for burn in spec.burns)
    drawn = [each for each in panels("llm") if each["title"] == "Time to first token"]
    steps = drawn[0]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert steps[-1] == {"color": "red", "value": ttft}


@pytest.mark.parametrize("alert", MACHINE, ids=lambda alert: alert.name)
def test_a_panel_of_the_machine_changes_colour_where_its_alert_fires(alert: Alert) -> None:
    (panel,) = (
        each for page in made() for each in page.panels if f"{page.uid}/{each.title}" == alert.panel
    )
    bound = re.search(r"[<>] (\d[\d.]*(?: \* \d+)?)", alert.expr)
    assert bound is not None
    assert math.prod(map(float, bound[1].split("*"))) in {panel.warn, panel.alarm}


def test_no_dashboard_asks_by_tenant_key_or_user() -> None:
    for each in ASKED:
        assert not re.search(r"tenant|\bkey\b|user", re.sub(r'"[^"]*"', "", each.expr))


def test_how_to_ask_about_one_tenant_is_what_the_documents_say() -> None:
    (text,) = [panel.text for panel in made()[3].panels if panel.kind is Kind.TEXT]
    assert "/v1/usage?by=tenant,model&tenant=*" in text
    assert "`user`, `tenant`, `key`" in (DOCS / "budgets.md").read_text()
