"""Prometheus's links: is this server scraped, are our rules there, does anything fire."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from forebay.monitoring.alert import Alert, seconds, windowed
from forebay.monitoring.alerts import alerts_of
from forebay.monitoring.finding import Finding, Link, Report
from forebay.monitoring.records import NAMES, budget_records, incident_records
from forebay.monitoring.rules import INTERVAL_S
from forebay.monitoring.samples import Samples
from forebay.monitoring.site import Site, Unanswered
from forebay.policy.slo import Spec

_JOB: Final = "forebay"
SWITCH: Final = "DeadMansSwitch"
_START: Final = "process_start_time_seconds"
_SCRAPES_MISSED_MAX: Final = 3
_SPACE: Final = re.compile(r"\s+")
_WRITE: Final = "Run `forebay monitoring write DIR`, name rules/*.yml in prometheus.yml, reload it."
_GOAL: Final = "slo:goal:ratio"
_GOALS: Final = "Name their file by --slo, or write the rules anew from it; reload Prometheus."
_TARGET: Final = "Name it under the job forebay in prometheus.yml (docs/monitoring.md), reload it."


@dataclass(frozen=True, slots=True, kw_only=True)
class PrometheusCheck:
    """Asks Prometheus about the server whose page of metrics is known."""

    site: Site
    page: Samples | None
    """What the server itself says; None: it said nothing."""
    spec: Spec

    def findings(self) -> Iterator[Finding]:
        """Yield what is there, link by link."""
        say = Report(Link.PROMETHEUS)
        try:
            if not self.site.get("/-/ready").well:
                yield say.missing("It is not ready.", "Wait for it; else see its own log.")
                return
            yield say.ok("It is ready.")
            yield from self._targets(say)
            yield from self._rules(Report(Link.RULES))
            yield from self._told(say)
        except Unanswered as why:
            yield say.missing(str(why), "Start it, or name its address: --prometheus URL.")

    def _targets(self, say: Report) -> Iterator[Finding]:
        found = [
            each
            for each in self._data("/api/v1/targets", {"state": "active"})["activeTargets"]
            if each["labels"].get("job") == _JOB
        ]
        if not found:
            yield say.missing("It has no target of the job forebay.", _TARGET)
            return
        ages = {
            each["metric"].get("instance", ""): float(each["value"][1])
            for each in self._vector(f'time() - timestamp(up{{job="{_JOB}"}})')
        }
        for each in found:
            yield from self._target(say, each, ages.get(each["labels"].get("instance", "")))
        yield from self._same_process(say)

    def _target(
        self, say: Report, found: Mapping[str, Any], age_s: float | None
    ) -> Iterator[Finding]:
        name = found["labels"].get("instance", "")
        if found["health"] != "up":
            said = found.get("lastError") or "not yet scraped"
            yield say.missing(f"{name} is {found['health']}: {said}.", "See runbook ForebayDown.")
            return
        interval_s = seconds(str(found.get("scrapeInterval", "15s")))
        if age_s is None or age_s > _SCRAPES_MISSED_MAX * interval_s:
            said = "never" if age_s is None else f"{age_s:.0f} s ago"
            yield say.missing(f"{name} was scraped {said}.", "Is Prometheus out of memory or disk?")
        else:
            yield say.ok(f"{name} is up, scraped {age_s:.0f} s ago, every {interval_s:g} s.")

    def _same_process(self, say: Report) -> Iterator[Finding]:
        # A target that is up may be another server; this one began at a moment of its own.
        began = None if self.page is None else self.page.values.get((_START, frozenset()))
        if began is None:
            yield say.not_asked(
                "Whether it is this server.", "Mend what is missing of the metrics."
            )
            return
        known = [float(each["value"][1]) for each in self._vector(f'{_START}{{job="{_JOB}"}}')]
        if began in known:
            yield say.ok("One of its targets is this very process.")
        else:
            yield say.missing("None of its targets is this process, or not yet.", _TARGET)

    def _rules(self, say: Report) -> Iterator[Finding]:
        groups = self._data("/api/v1/rules", {})["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        for rule in rules:
            if rule.get("health") == "err":
                said = rule.get("lastError", "")
                yield say.missing(f"{rule['name']} cannot be evaluated: {said}.", _WRITE)
        yield from self._alerts(say, {r["name"]: r for r in rules if r["type"] == "alerting"})
        if others := other_goals(self.spec, rules):
            yield say.missing(f"It has another goal for {', '.join(others)}.", _GOALS)
        yield from self._records(say, {r["name"] for r in rules if r["type"] == "recording"})

    def _alerts(self, say: Report, loaded: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
        ours = alerts_of(self.spec)
        lacking = [alert.name for alert in ours if alert.name not in loaded]
        if lacking:
            yield say.missing(f"Not loaded: {', '.join(lacking)}.", _WRITE)
        others = [
            f"{alert.name} ({difference})"
            for alert in ours
            if alert.name in loaded and (difference := self._difference(alert, loaded[alert.name]))
        ]
        if others:
            yield say.missing(f"Not as this version writes them: {', '.join(others)}.", _WRITE)
        if not lacking and not others:
            yield say.ok(f"All {len(ours)} alerts are loaded, as this version writes them.")

    def _difference(self, alert: Alert, rule: Mapping[str, Any]) -> str:
        ours = windowed(alert.expr)
        if _bare(ours) != _bare(rule["query"]) and _bare(self._formatted(ours)) != _bare(
            rule["query"]
        ):
            return "its query"
        if float(rule["duration"]) != alert.hold_s:
            return f"fires after {rule['duration']:g} s, not {alert.hold_s:g}"
        if rule["labels"].get("severity") != alert.severity:
            return "its severity"
        return ""

    def _formatted(self, query: str) -> str:
        answer = self.site.get("/api/v1/format_query", {"query": query})
        return str(answer.data().get("data", "")) if answer.well else query

    def _records(self, say: Report, loaded: set[str]) -> Iterator[Finding]:
        lasting = {each.name for each in (*budget_records(self.spec), *NAMES)}
        passing = {each.name for each in incident_records(self.spec, INTERVAL_S)}
        if lacking := sorted((lasting | passing) - loaded):
            yield say.missing(f"Recording rules not loaded: {', '.join(lacking)}.", _WRITE)
            return
        names = "|".join(sorted(lasting))
        found = self._vector(f'count by (__name__) ({{__name__=~"{names}"}})')
        empty = sorted(lasting - {each["metric"]["__name__"] for each in found})
        if empty:
            fix = "Have it answer requests, and wait for two scrapes and an evaluation (a minute)."
            yield say.missing(f"Without data: {', '.join(empty)}.", fix)
        else:
            yield say.ok(f"All {len(lasting)} recording rules have data.")

    def _told(self, say: Report) -> Iterator[Finding]:
        alerts = self._data("/api/v1/alerts", {})["alerts"]
        firing = {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}
        if SWITCH in firing:
            yield say.ok(f"{SWITCH} fires, as it always must.")
        else:
            yield say.missing(f"{SWITCH} does not fire.", "See runbook DeadMansSwitch.")
        others = ", ".join(sorted(firing - {SWITCH}))
        yield say.ok(f"Firing now: {others or 'nothing else'}.")
        if self._data("/api/v1/alertmanagers", {})["activeAlertmanagers"]:
            yield say.ok("It knows an Alertmanager.")
        else:
            fix = "Name it under alerting: alertmanagers: in prometheus.yml, reload it."
            yield say.missing("It knows no Alertmanager: nobody is told.", fix)

    def _vector(self, query: str) -> list[Any]:
        found: list[Any] = self._data("/api/v1/query", {"query": query})["result"]
        return found

    def _data(self, path: str, query: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON
        answer = self.site.get(path, query)
        if not answer.well:
            raise Unanswered(f"{path} answers {answer.status}.")
        found = answer.data()
        if not isinstance(found, dict) or "data" not in found:
            raise Unanswered(f"{path} is not Prometheus's: {json.dumps(found)[:80]}.")
        return found["data"]


def other_goals(spec: Spec, rules: Iterable[Mapping[str, Any]]) -> list[str]:
    """Name each objective that Prometheus holds to another goal, or does not share with us."""
    ours = {
        each.labels["slo"]: _bare(each.expr) for each in budget_records(spec) if each.name == _GOAL
    }
    theirs = {
        rule.get("labels", {}).get("slo", ""): _bare(rule["query"])
        for rule in rules
        if rule["name"] == _GOAL
    }
    # Where it has none, the rules are missing, which is said of them all.
    return sorted(n for n in ours | theirs if theirs and ours.get(n) != theirs.get(n))


def _bare(query: str) -> str:
    return _SPACE.sub("", query)
