"""Queries on another clock, and the catalogue of alerts as data."""

import re

import pytest

from forebay.monitoring.alert import Alert, Severity, duration, seconds, windowed
from forebay.monitoring.alerts import ALERTS
from forebay.monitoring.records import budget_records
from forebay.serve.slo_file import built_in
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.readings import ModelReading, ServerReading
from tests.support.records import a_completed

_MODEL = ModelReading(loaded=True)
_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")


@pytest.mark.parametrize(
    ("length_s", "written"),
    [(0, "0s"), (0.25, "250ms"), (90, "1m30s"), (3_600, "1h"), (90_061, "1d1h1m1s")],
)
def test_a_duration_is_written_and_read_as_prometheus_does(length_s: float, written: str) -> None:
    assert duration(length_s) == written
    assert seconds(written) == pytest.approx(length_s)


def test_windows_run_on_a_faster_clock_and_seconds_do_too() -> None:
    expr = "predict_linear(x[$6h], ${1d}) < 0 and x offset $30m > 5"
    assert windowed(expr) == "predict_linear(x[6h], 86400) < 0 and x offset 30m > 5"
    assert windowed(expr, speed=60.0) == "predict_linear(x[6m], 1440) < 0 and x offset 30s > 5"


def test_on_the_fastest_clock_a_window_still_holds_two_scrapes() -> None:
    assert windowed("rate(x[$5m])", speed=3_600.0) == "rate(x[4s])"


def test_each_alert_has_a_name_of_its_own() -> None:
    names = [alert.name for alert in ALERTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_says_what_happened_in_words_that_can_be_read(alert: Alert) -> None:
    for text in (alert.summary, alert.description):
        assert text == text.strip()
        assert text.endswith(".")
        for inner in _TEMPLATE.findall(text):
            assert re.fullmatch(r" \$(labels\.\w+|value( \| humanize\w*)?) ", inner)
    assert len(alert.summary) <= 100
    assert re.fullmatch(r"(llm|resources|alerting|tenants)/[A-Z].*", alert.panel)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_who_is_woken_is_woken_soon_and_by_no_single_scrape(alert: Alert) -> None:
    guarded = "increase" in alert.expr
    if alert.severity is not Severity.NONE:
        assert alert.hold_s >= 60 or guarded
    if alert.severity is Severity.PAGE:
        assert alert.hold_s <= 300


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_quantiles_are_of_rates_by_bucket(alert: Alert) -> None:
    quantiles = alert.expr.count("histogram_quantile(")
    by_bucket = re.findall(r"histogram_quantile\([\d.]+, sum by \([\w, ]*le\) \(rate\(", alert.expr)
    assert len(by_bucket) == quantiles


def test_the_series_that_alerts_ask_for_are_on_the_page_that_prometheus_reads() -> None:
    metrics = Metrics(models=["m"])
    metrics.watch_server(lambda: ServerReading(slo={("s", "good"): 1}, models={"m": _MODEL}))
    metrics(a_completed())
    _, page = metrics.exposition("application/openmetrics-text; version=1.0.0")
    told = set(re.findall(r"(?m)^(\w+)[{ ]", page.decode()))
    asked = {name for alert in alerts_and_records() for name in re.findall(r"\bllm_\w+", alert)}
    # Those of a lane and its worker are there once a lane is.
    assert {name for name in asked - told if name.endswith(("_count", "_bucket", "_sum"))} == set()
    assert "llm_slo_events_total" in asked & told


def alerts_and_records() -> list[str]:
    """Every query of the rules."""
    return [alert.expr for alert in ALERTS] + [each.expr for each in budget_records(built_in())]
