"""The file of rules that Prometheus reads, made from the alerts and the objectives.

A drill renders the same rules on a faster clock: windows, holding times and intervals are divided
by `speed`, thresholds are not.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from forebay.monitoring.alert import Alert, Links, duration, windowed
from forebay.monitoring.alerts import alerts_of
from forebay.monitoring.document import rendered
from forebay.monitoring.records import NAMES, Record, budget_records, incident_records
from forebay.policy.slo import Spec

INTERVAL_S: Final = 30.0
"""How often rules are looked at: twice within the shortest time that an alert must hold."""
_INTERVAL_S_MIN: Final = 1.0
_ABOUT: Final = """\
Made by `forebay monitoring write`; do not edit. The objectives are those of slo.yaml, the alerts
are explained in docs/alerts.md, and each has its runbook.
"""


def rules(spec: Spec, *, links: Links, speed: float = 1.0) -> str:
    """Return the text of the file of rules."""
    interval_s = max(INTERVAL_S / speed, _INTERVAL_S_MIN)
    alerts = [_alerting(alert, spec, links=links, speed=speed) for alert in alerts_of(spec)]
    groups = {
        "forebay-objectives": _recording(budget_records(spec), speed),
        "forebay-alerts": [*alerts, *_recording(incident_records(spec, interval_s), speed)],
        "forebay-names": _recording(NAMES, speed),
    }
    return rendered(
        {
            "groups": [
                {"name": name, "interval": duration(interval_s), "rules": group}
                for name, group in groups.items()
            ]
        },
        about=_ABOUT,
    )


def _recording(records: Iterable[Record], speed: float) -> list[Mapping[str, Any]]:
    return [
        {"record": record.name, "expr": windowed(record.expr, speed=speed)}
        | ({"labels": record.labels} if record.labels else {})
        for record in records
    ]


def _alerting(alert: Alert, spec: Spec, *, links: Links, speed: float) -> Mapping[str, Any]:
    times = {"for": alert.hold_s, "keep_firing_for": alert.keep_s}
    return {
        "alert": alert.name,
        "expr": windowed(alert.expr, speed=speed),
        **{key: duration(seconds / speed) for key, seconds in times.items() if seconds},
        "labels": {
            "severity": str(alert.severity),
            "service": spec.service,
            "area": str(alert.area),
        },
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": links.runbook(alert),
            "dashboard_url": links.dashboard(alert),
        },
    }
