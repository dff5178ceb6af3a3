"""The drill of alerts: it has a case for each alert, and what it saw is held against its gates."""

from typing import Any

import pytest

from forebay.drill import alerts, alerts_table
from forebay.drill.alerts_case import Case, Outcome, Row
from forebay.drill.findings import Findings, Skipped
from forebay.drill.sinks import Channel
from forebay.monitoring.alerts import ALERTS

NAMES = {alert.name for alert in ALERTS}
DOWN = next(case for case in alerts.CASES if case.alerts == ("ForebayDown",))
SEEN = {Channel.MAIL: 5.0, Channel.PAGERDUTY: 3.0}


def row(**fields: Any) -> Row:
    seen = {"fired_s": 2.0, "told_s": dict(SEEN), "cleared_s": 1.0, "over_s": dict(SEEN)}
    known = {"case": DOWN.name, "injected": DOWN.injected, "speed": 60.0, "severity": "page"}
    return Row(alert="ForebayDown", **{**known, **seen, **fields})


def found(**fields: Any) -> Findings:
    return alerts.findings([Outcome(**{"case": DOWN, "rows": (row(),), **fields})], whole=False)


def failed(findings: Findings) -> list[str]:
    return [gate.what for gate in findings.gates if not gate.passed]


def test_every_alert_of_the_catalogue_has_one_case() -> None:
    tried = [name for case in alerts.CASES for name in case.alerts]
    assert sorted(tried) == sorted(NAMES)


@pytest.mark.parametrize("case", alerts.CASES, ids=lambda case: case.name)
def test_a_case_names_alerts_that_there_are(case: Case) -> None:
    assert case.companions | case.muted <= NAMES
    assert not case.muted & set(case.alerts)


def test_an_alert_that_fired_was_told_and_ended_passes() -> None:
    assert not failed(found())


@pytest.mark.parametrize(
    "seen",
    [
        {"told_s": {Channel.MAIL: 5.0, Channel.PAGERDUTY: None}},
        {"told_s": {}},
        {"told_s": {Channel.MAIL: 5.0, Channel.PAGERDUTY: DOWN.fires_s_max + 1}},
    ],
    ids=["somebody was not told", "nobody is to be told", "told too late"],
)
def test_an_alert_that_did_not_reach_everybody_in_time_fails(seen: dict[str, Any]) -> None:
    assert failed(found(rows=(row(**seen),))) == ["ForebayDown: everybody told"]


def test_an_alert_whose_end_was_not_told_fails() -> None:
    over = {Channel.MAIL: None, Channel.PAGERDUTY: 3.0}
    assert failed(found(rows=(row(over_s=over),))) == ["ForebayDown: over, everybody told"]


@pytest.mark.parametrize(
    ("fields", "gate"),
    [
        ({"before": ("DiskFull", "EventLoopLagging")}, "alerts that fired while all was well"),
        ({"strangers": {"NotReady": "page"}}, "pages for another fault than there was"),
        ({"unmuted": ("HighErrorRate",)}, "alerts that should have been inhibited and were not"),
    ],
)
def test_what_else_fired_fails(fields: dict[str, Any], gate: str) -> None:
    assert failed(found(**fields)) == [gate]


def test_a_ticket_for_another_fault_is_listed_and_fails_nothing() -> None:
    findings = found(strangers={"DiskFilling": "ticket"})
    assert not failed(findings)
    assert "DiskFilling" in findings.tables[-1]


def test_an_alert_without_a_case_fails_the_whole_drill() -> None:
    outcomes = [Outcome(case=DOWN, rows=(row(),))]
    assert "alerts that no case is for" in failed(alerts.findings(outcomes, whole=True))


def test_what_the_machine_lacks_is_named_in_the_table_and_fails_nothing() -> None:
    lacking = Outcome(case=DOWN, rows=(row(),), skipped="only root may")
    findings = alerts.findings([lacking, Outcome(case=DOWN, rows=(row(),))], whole=False)
    assert not failed(findings)
    assert "only root may" in findings.tables[0]
    with pytest.raises(Skipped, match="only root may"):
        alerts.findings([lacking], whole=False)


def test_the_table_says_when_it_fired_on_both_clocks_and_whom_it_reached() -> None:
    table, means, _ = alerts_table.tables([Outcome(case=DOWN, rows=(row(),))])
    assert "| ForebayDown | kill -9 of the server | 60x | 2.0 s | 2.0 min |" in table
    assert "mail 5.0 s, pagerduty 3.0 s" in table
    assert "| page | 1 | 2.0 s | 2.0 min | 5.0 s | 5.0 s |" in means
