"""Queries on another clock, and the catalogue of alerts as data."""

import re

import pytest

from forebay.monitoring.alert import Alert, Severity, duration, windowed
from forebay.monitoring.alerts import ALERTS

_TEMPLATE = re.compile(r"\{\{(.*?)\}\}")


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "0s"), (0.25, "250ms"), (90, "1m30s"), (3_600, "1h"), (90_061, "1d1h1m1s")],
)
def test_a_duration_is_written_as_prometheus_reads_it(seconds: float, written: str) -> None:
    assert duration(seconds) == written


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
