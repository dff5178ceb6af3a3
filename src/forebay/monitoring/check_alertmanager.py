"""Alertmanager's links: does it hear of alerts, and is anybody told."""

import re
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import yaml

from forebay.monitoring.alert import PAGES, Severity
from forebay.monitoring.check_prometheus import SWITCH
from forebay.monitoring.finding import Finding, Link, Report
from forebay.monitoring.site import Site, Unanswered

TEST_ALERT: Final = "ForebayTestAlert"
"""Its name begins so; the rest is new each time, or it would wait for the group of the last."""
_SENT_S_MAX: Final = 75.0
"""Our configuration groups tickets for 30 s before it sends them; others' for a minute."""
_RESOLVED_S_MAX: Final = 15.0
_NAP_S: Final = 0.5
_LASTS: Final = timedelta(minutes=10)
_KINDS: Final = "_configs"
_MATCHER: Final = re.compile(r'\s*"?(\w+)"?\s*(=~|!~|!=|=)\s*"?((?:[^"\\]|\\.)*)"?\s*')
_RECEIVERS: Final = "Take the receivers of deploy/monitoring/alertmanager/alertmanager.yml."
_WRONG: Final = "Its address or secret is wrong: see alertmanager.yml and Alertmanager's log."
# Counted when an attempt has ended; `alertmanager_notifications_total` counts those under way.
_COUNTS: Final = re.compile(
    r'^alertmanager_notification_requests(_failed)?_total\{.*?integration="(\w+)".*\} (\S+)$',
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertmanagerCheck:
    """Asks Alertmanager; fires an alert of its own where that is wished for."""

    site: Site
    test_alerts: tuple[Severity, ...] = ()
    """What is to be fired as a trial, one after the other."""
    name: str = field(default_factory=lambda: f"{TEST_ALERT}{secrets.token_hex(3)}")
    """What the first of them is called."""

    def findings(self) -> Iterator[Finding]:
        """Yield what is there, link by link."""
        say = Report(Link.ALERTMANAGER)
        try:
            if not self.site.get("/-/ready").well:
                yield say.missing("It is not ready.", "Wait for it; else see its own log.")
                return
            yield say.ok("It is ready.")
            config = self._config()
            for severity in (Severity.PAGE, Severity.TICKET):
                yield from _receivers(say, config, severity)
            yield from self._heard(say)
            for number, severity in enumerate(self.test_alerts):
                trial = _Trial(site=self.site, name=f"{self.name}{number or ''}", severity=severity)
                yield from trial.findings(say, config)
            if not self.test_alerts:
                yield say.not_asked("Whether alerts arrive.", "Add --send-test-alert.")
            yield from self._refused(say)
        except Unanswered as why:
            yield say.missing(str(why), "Start it, or name its address: --alertmanager URL.")

    def _config(self) -> Mapping[str, Any]:
        answer = self.site.get("/api/v2/status")
        try:
            found = yaml.safe_load(answer.data()["config"]["original"])
        except (KeyError, TypeError, yaml.YAMLError):
            raise Unanswered("/api/v2/status is not Alertmanager's.") from None
        return found if isinstance(found, dict) else {}

    def _heard(self, say: Report) -> Iterator[Finding]:
        if _listed(self.site, SWITCH):
            yield say.ok(f"Prometheus reaches it: {SWITCH} is here.")
        else:
            fix = "Name this Alertmanager under alerting: in prometheus.yml, reload it."
            yield say.missing(f"{SWITCH} has not come from Prometheus.", fix)

    def _refused(self, say: Report) -> Iterator[Finding]:
        # Without a trial page nothing else says that pages fail, before somebody is to be woken.
        notices = _notices(self.site)
        for kind in sorted(notices.failed.keys() - notices.delivered.keys()):
            count = notices.failed[kind]
            yield say.missing(f"Nothing was sent by {kind}: {count} of {count} failed.", _WRONG)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """One alert that is fired to see where it arrives, and taken back."""

    site: Site
    name: str
    severity: Severity

    def findings(self, say: Report, config: Mapping[str, Any]) -> Iterator[Finding]:
        """Yield how it was sent, and whether it ended."""
        labels = {"severity": self.severity, **_LABELS}
        names = receivers_of(config.get("route", {}), labels)
        kinds = {kind for name in names for kind in _kinds(config, name)}
        before = _notices(self.site)
        self._post(_LASTS)
        try:
            yield from self._delivered(say, before, kinds)
        finally:
            self._post(timedelta())
        if _until(lambda: not _listed(self.site, self.name), _RESOLVED_S_MAX):
            yield say.ok(f"{self.name} was taken back, and is over.")
        else:
            yield say.missing(f"{self.name} does not end.", "Look at its list of alerts.")

    def _delivered(self, say: Report, before: "_Notices", kinds: set[str]) -> Iterator[Finding]:
        def told() -> list[str]:
            return sorted(kinds & _grown(_notices(self.site).delivered, before.delivered))

        def failed() -> list[str]:
            return sorted(kinds & _grown(_notices(self.site).failed, before.failed))

        what = f"{self.name}, a {self.severity},"
        if _until(lambda: bool(told()), _SENT_S_MAX):
            yield say.ok(f"{what} was sent by {', '.join(told())}.")
        elif not failed():
            fix = "Is it silenced, inhibited, or grouped for longer (group_wait)?"
            yield say.missing(f"{what} was not sent within {_SENT_S_MAX:g} s.", fix)
        if lost := failed():
            yield say.missing(f"{what} could not be sent by {', '.join(lost)}.", _WRONG)

    def _post(self, lasts: timedelta) -> None:
        now = datetime.now(UTC)
        alert = {
            "labels": {"alertname": self.name, "severity": str(self.severity), **_LABELS},
            "annotations": _ANNOTATIONS,
            "startsAt": (now - timedelta(seconds=1)).isoformat(),
            "endsAt": (now + lasts).isoformat(),
        }
        answer = self.site.post("/api/v2/alerts", [alert])
        if not answer.well:
            raise Unanswered(f"It does not take an alert: {answer.status}.")


def _listed(site: Site, name: str) -> bool:
    answer = site.get("/api/v2/alerts", {"filter": f'alertname="{name}"'})
    if not answer.well:
        raise Unanswered(f"/api/v2/alerts answers {answer.status}.")
    return bool(answer.data())


def _notices(site: Site) -> "_Notices":
    text = site.get("/metrics").body.decode(errors="replace")
    tried, failed = Counter[str](), Counter[str]()
    for is_failure, kind, value in _COUNTS.findall(text):
        (failed if is_failure else tried)[kind] += int(float(value))
    return _Notices(delivered=tried - failed, failed=+failed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notices:
    """How many messages were sent since its start, by the way they go: `slack`, `email`."""

    delivered: Counter[str]
    failed: Counter[str]


def _grown(now: Counter[str], before: Counter[str]) -> set[str]:
    return set(now - before)


_LABELS: Final = {"service": "forebay", "area": "telemetry"}
_ANNOTATIONS: Final = {
    "summary": "A test of the way from Alertmanager to you. Nothing is wrong.",
    "description": "Sent by `forebay check-monitoring --send-test-alert`; it ends by itself.",
    "runbook_url": f"{PAGES}/monitoring.md",
    "dashboard_url": f"{PAGES}/monitoring.md",
}


def receivers_of(route: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Return who is told of an alert with these labels, as Alertmanager's routes have it."""
    return _routed(route, labels, str(route.get("receiver", "")))


def _routed(route: Mapping[str, Any], labels: Mapping[str, str], receiver: str) -> list[str]:
    receiver, found = str(route.get("receiver") or receiver), []
    for below in route.get("routes") or ():
        if _matches(below, labels):
            found += _routed(below, labels, receiver)
            if not below.get("continue"):
                break
    return found or [receiver]


def _matches(route: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    older = [(k, "=", v) for k, v in (route.get("match") or {}).items()]
    older += [(k, "=~", v) for k, v in (route.get("match_re") or {}).items()]
    wanted = [_MATCHER.fullmatch(text) for text in _matchers(route)]
    return all(
        _fits(labels.get(name, ""), sign, str(value))
        for name, sign, value in (*older, *(each.groups() for each in wanted if each))
    )


def _matchers(route: Mapping[str, Any]) -> Sequence[str]:
    found = route.get("matchers") or ()
    return (found,) if isinstance(found, str) else tuple(map(str, found))


def _fits(value: str, sign: str, wanted: str) -> bool:
    same = bool(re.fullmatch(wanted, value)) if "~" in sign else value == wanted
    return same is not sign.startswith("!")


def _receivers(say: Report, config: Mapping[str, Any], severity: Severity) -> Iterator[Finding]:
    names = receivers_of(config.get("route") or {}, {"severity": severity, **_LABELS})
    silent = [name for name in names if not _kinds(config, name)]
    if silent or not names:
        said = ", ".join(silent) or "nobody"
        yield say.missing(f"A {severity} goes to {said}, which tells nobody.", _RECEIVERS)
    else:
        yield say.ok(f"A {severity} goes to {', '.join(names)}.")


def _kinds(config: Mapping[str, Any], name: str) -> list[str]:
    """Return by what a receiver tells people: `slack`, `email` and so on."""
    return [
        kind.removesuffix(_KINDS)
        for receiver in config.get("receivers") or ()
        if receiver.get("name") == name
        for kind, entries in receiver.items()
        if kind.endswith(_KINDS) and entries
    ]


def _until(true: Callable[[], bool], wait_s_max: float) -> bool:
    limit = time.monotonic() + wait_s_max
    while not true():
        if time.monotonic() > limit:
            return False
        time.sleep(_NAP_S)
    return True
