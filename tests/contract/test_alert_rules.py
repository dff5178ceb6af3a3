"""The rules as Prometheus's own tool judges them: each alert fires when it should, and only then.

`promtool test rules` evaluates the file that `forebay monitoring write` makes, with its records.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from forebay.monitoring.alert import Links, Severity
from forebay.monitoring.alerts import ALERTS, alerts_of
from forebay.monitoring.rules import rules
from forebay.policy.slo import Burn, Spec
from forebay.serve.slo_file import built_in
from tests.support.alert_case import Case, Scraped, promtool_test
from tests.support.alert_cases import CASES

_LINKS = Links(runbooks="https://example.com/runbooks/", grafana="https://grafana.example.com")
_HERE = Scraped({"instance": "a:8000", "job": "forebay"})
pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here")


class Promtool:
    """Runs promtool in a folder of its own."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        self.folder = folder
        self.spec = spec
        (folder / "rules.yml").write_text(rules(spec, links=_LINKS))

    def test(self, tests: Iterable[Mapping[str, Any]], looked: str = "1m") -> None:
        """Fail with what promtool says, unless all of it is as expected."""
        content = {
            "rule_files": ["rules.yml"],
            "evaluation_interval": looked,
            "tests": list(tests),
        }
        (self.folder / "test.yml").write_text(json.dumps(content))
        told = self.run("test", "rules", "test.yml")
        assert told.returncode == 0, told.stdout + told.stderr

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        return subprocess.run(
            ["promtool", *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture
def promtool(tmp_path: Path) -> Promtool:
    return Promtool(tmp_path, built_in())


def _tests(cases: Iterable[Case], spec: Spec) -> list[dict[str, Any]]:
    alerts = {alert.name: alert for alert in alerts_of(spec)}
    return [promtool_test(case, alerts[case.alert], spec.service, _LINKS) for case in cases]


@pytest.mark.parametrize("looked", sorted({case.looked for case in CASES}))
def test_each_alert_fires_when_it_should_with_texts_that_say_whom(
    promtool: Promtool, looked: str
) -> None:
    cases = [case for case in CASES if case.looked == looked]
    promtool.test(_tests(cases, promtool.spec), looked)


def test_an_expectation_that_is_wrong_is_noticed(promtool: Promtool) -> None:
    fires = next(case for case in CASES if case.alert == "NotReady" and case.fires)
    for wrong in (replace(fires, labels=None), replace(fires, labels={"instance": "b:8000"})):
        with pytest.raises(AssertionError, match="NotReady"):
            promtool.test(_tests([wrong], promtool.spec))


def test_each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires = {case.alert for case in CASES if case.fires}
    silent = {case.alert for case in CASES if not case.fires}
    always = {alert.name for alert in ALERTS if alert.severity is Severity.NONE}
    assert fires == {alert.name for alert in ALERTS}
    assert silent == fires - always


def test_nobody_is_told_of_a_server_that_nobody_asks(promtool: Promtool) -> None:
    counters = {name for case in CASES for name in case.series if _is_counter(name)}
    assert len(counters) > 30
    promtool.test([_silence({**_AT_REST, **dict.fromkeys(counters, "7+0x120")})])


def test_nobody_is_told_of_a_server_of_which_nothing_but_its_life_is_known(
    promtool: Promtool,
) -> None:
    promtool.test([_silence(_HERE.goes("up", "1+0x120"))])


def test_incidents_are_timed_from_the_moment_their_condition_began(promtool: Promtool) -> None:
    # Not ready from 10:00 to 20:00: told of at 15:00, over at 20:00.
    about = {"alertname": "NotReady", "area": "availability", "service": "forebay"}
    whom = {"instance": "a:8000", "job": "forebay", "severity": "page", **about}
    promtool.test(
        [
            {
                "interval": "30s",
                "input_series": [
                    {"series": series, "values": values}
                    for series, values in {
                        **_HERE.goes("up", "1+0x60"),
                        **_HERE.goes("forebay_ready", "1+0x19 0+0x19 1+0x20"),
                    }.items()
                ],
                "promql_expr_test": [
                    _value("forebay:incident_detected:seconds", whom, 300, at="15m"),
                    _value("forebay:incident_resolved:seconds", whom, 600, at="20m"),
                    # Once each, or the mean would weigh long incidents more.
                    *(
                        _value(
                            f"sum(count_over_time(forebay:incident_{what}[30m]))", {}, 1, at="29m"
                        )
                        for what in ("detected:seconds", "resolved:seconds")
                    ),
                    _value("forebay:mttd:seconds30d", {"severity": "page"}, 300, at="29m"),
                    _value("forebay:mttr:seconds30d", {"severity": "page"}, 600, at="29m"),
                ],
            }
        ],
        "30s",
    )


def test_objectives_of_ones_own_make_alerts_of_their_own(tmp_path: Path) -> None:
    spec = built_in()
    goal = replace(spec.goals[0], name="ours", goal=0.9)
    burns = tuple(
        replace(burn, rate=rate) for burn, rate in zip(spec.burns, (5, 3, 1), strict=True)
    )
    own = replace(spec, service="own", goals=(goal,), burns=burns)
    bad, good = "0+55x40", "0+45x40"
    series = {
        **_HERE.goes("llm_slo_events_total", bad, slo="ours", result="bad"),
        **_HERE.goes("llm_slo_events_total", good, slo="ours", result="good"),
    }
    fires = Case(
        alert="ErrorBudgetBurnFast", about="", series=series, labels={"slo": "ours"}, shown="5.5"
    )
    Promtool(tmp_path, own).test(_tests([fires], own))


def test_the_fastest_burn_rate_is_that_of_the_workbook() -> None:
    assert built_in().burns[0] == Burn(
        alert="ErrorBudgetBurnFast", severity="page", rate=14.4, long_s=3_600, short_s=300
    )


@pytest.mark.parametrize("speed", [1.0, 7.0, 60.0, 900.0])
def test_the_rules_are_prometheus_rules_on_any_clock(promtool: Promtool, speed: float) -> None:
    text = rules(promtool.spec, links=_LINKS, speed=speed)
    (promtool.folder / "rules.yml").write_text(text)
    told = promtool.run("check", "rules", "rules.yml")
    assert told.returncode == 0, told.stdout + told.stderr
    groups = yaml.safe_load(text)["groups"]
    found = sum(len(group["rules"]) for group in groups)
    assert f"{found} rules found" in told.stdout
    assert "$" not in "".join(rule["expr"] for group in groups for rule in group["rules"])


def test_a_faster_clock_shortens_times_and_leaves_thresholds_alone() -> None:
    slow, fast = (
        {
            rule.get("alert"): rule
            for group in yaml.safe_load(text)["groups"]
            for rule in group["rules"]
        }
        for text in (rules(built_in(), links=_LINKS, speed=speed) for speed in (1.0, 60.0))
    )
    assert (slow["NotReady"]["for"], fast["NotReady"]["for"]) == ("5m", "5s")
    assert slow["Saturated"]["expr"] == "avg_over_time(llm_saturation_ratio[5m]) > 1"
    assert fast["Saturated"]["expr"] == "avg_over_time(llm_saturation_ratio[5s]) > 1"


_AT_REST: Mapping[str, str] = {
    **_HERE.goes("up", "1+0x120"),
    **_HERE.goes("forebay_ready", "1+0x120"),
    **_HERE.goes("forebay_memory_used_bytes", "100+0x120"),
    **_HERE.goes("forebay_memory_limit_bytes", "1000+0x120"),
    **_HERE.goes("forebay_disk_free_bytes", "900+0x120", volume="state"),
    **_HERE.goes("forebay_disk_size_bytes", "1000+0x120", volume="state"),
    **_HERE.goes("forebay_certificate_expiry_timestamp_seconds", "9e9+0x120"),
    **_HERE.goes("forebay_gpu_memory_used_bytes", "100+0x120", gpu="0"),
    **_HERE.goes("forebay_gpu_memory_total_bytes", "1000+0x120", gpu="0"),
    **_HERE.goes("forebay_gpu_utilization_ratio", "0+0x120", gpu="0"),
    **_HERE.goes("llm_requests_running", "0+0x120", model="m"),
    **_HERE.goes("llm_saturation_ratio", "0+0x120", model="m"),
    **_HERE.goes("llm_ledger_imbalance", "0+0x120"),
    **_HERE.goes("llm_event_loop_lag_seconds", "0.001+0x120"),
    **_HERE.goes("llm_books_degraded", "0+0x120"),
    **_HERE.goes("llm_store_degraded", "0+0x120"),
    **_HERE.goes("llm_limits_degraded", "0+0x120"),
}
_COUNTERS = ("_total{", "_count{", "_bucket{")


def _is_counter(series: str) -> bool:
    return any(ending in series for ending in _COUNTERS)


def _silence(series: Mapping[str, str]) -> dict[str, Any]:
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            _value(firing, {"alertname": "DeadMansSwitch"}, 1, at=at) for at in ("5m", "2h")
        ],
    }


def _value(expr: str, labels: Mapping[str, str], value: float, *, at: str) -> dict[str, Any]:
    name = expr if expr.replace(":", "").replace("_", "").isalnum() else ""
    pairs = ", ".join(f'{key}="{said}"' for key, said in labels.items())
    return {
        "expr": expr,
        "eval_time": at,
        "exp_samples": [{"labels": f"{name}{{{pairs}}}", "value": value}],
    }
