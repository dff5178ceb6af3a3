"""Cases for the rules: what was measured, and whether an alert fires; promtool judges."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from forebay.monitoring.alert import Alert, Links

Series = Mapping[str, str]
"""What was scraped once a minute, in promtool's notation: `0+10x30` grows by 10."""

STEPS: Final = 40
_TEMPLATE: Final = re.compile(r"\{\{ \$(labels\.(\w+)|value(?: \| \w+)?) \}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What an alert makes of some series."""

    alert: str
    about: str
    series: Series
    at: str = "20m"
    """The moment at which it is looked at; series begin at 0."""
    labels: Mapping[str, str] | None = None
    """What the alert says of whom; None: it does not fire."""
    shown: str = ""
    """How the value is written in the description."""
    interval: str = "1m"
    """How often was scraped."""
    looked: str = "1m"
    """How often the rules are looked at: promtool takes its time for each."""
    blank: tuple[str, ...] = ()
    """Labels that its texts mention and that it may lack."""

    @property
    def fires(self) -> bool:
        """Whether somebody is told."""
        return self.labels is not None


@dataclass(frozen=True, slots=True)
class Scraped:
    """Writes series: constant ones, growing ones, histograms."""

    labels: Mapping[str, str] = field(default_factory=dict)

    def name(self, metric: str, **more: str) -> str:
        """Return a series' name with its labels."""
        pairs = ", ".join(f'{key}="{value}"' for key, value in {**self.labels, **more}.items())
        return f"{metric}{{{pairs}}}"

    def flat(self, metric: str, value: float, **more: str) -> Series:
        """Return a gauge that stays, or a counter that does not grow."""
        return {self.name(metric, **more): f"{value}+0x{STEPS}"}

    def grows(self, metric: str, a_minute: float, **more: str) -> Series:
        """Return a counter."""
        return {self.name(metric, **more): f"0+{a_minute}x{STEPS}"}

    def goes(self, metric: str, values: str, **more: str) -> Series:
        """Return whatever is written."""
        return {self.name(metric, **more): values}

    def histogram(self, metric: str, upto: Mapping[str, float], **more: str) -> Series:
        """Return a histogram that grows each minute by as many as are up to each bound."""
        total = max(upto.values())
        found = dict(self.grows(f"{metric}_count", total, **more))
        for bound, a_minute in {**upto, "+Inf": total}.items():
            found |= self.grows(f"{metric}_bucket", a_minute, **more, le=bound)
        return found


def promtool_test(case: Case, alert: Alert, service: str, links: Links) -> dict[str, Any]:
    """Return a case as promtool reads it: labels and texts are compared, too."""
    expected = []
    if case.labels is not None:
        labels = {"severity": str(alert.severity), "area": str(alert.area), "service": service}
        expected = [
            {
                "exp_labels": {**case.labels, **labels},
                "exp_annotations": {
                    "summary": _filled(alert.summary, case),
                    "description": _filled(alert.description, case),
                    "runbook_url": links.runbook(alert),
                    "dashboard_url": links.dashboard(alert),
                },
            }
        ]
    return {
        "name": f"{case.alert}: {case.about}",
        "interval": case.interval,
        "input_series": [
            {"series": series, "values": values} for series, values in case.series.items()
        ],
        "alert_rule_test": [
            {"eval_time": case.at, "alertname": case.alert, "exp_alerts": expected}
        ],
    }


def _filled(text: str, case: Case) -> str:
    labels = {**dict.fromkeys(case.blank, ""), **(case.labels or {})}

    def fill(match: re.Match[str]) -> str:
        return labels[match[2]] if match[2] else case.shown

    return _TEMPLATE.sub(fill, text)
