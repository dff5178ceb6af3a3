"""Recording rules: error ratios and burn rates by objective, and how long incidents took.

Their names hold the windows of the specification, at whatever speed a drill runs them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from forebay.monitoring.alert import duration
from forebay.policy.slo import Spec

_EVENTS: Final = "llm_slo_events_total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A query whose answer Prometheus keeps under a name; windows are written `$5m`."""

    name: str
    expr: str
    about: str
    labels: dict[str, str] = field(default_factory=dict)


def budget_records(spec: Spec) -> Iterator[Record]:
    """Yield what burn-rate alerts and dashboards read of the objectives, in reading order."""
    for goal in spec.goals:
        yield Record(
            name="slo:goal:ratio",
            expr=f"vector({goal.goal:g})",
            about="What share of events is to be good.",
            labels={"slo": goal.name},
        )
    for window_s in spec.windows_s:
        window = duration(window_s)
        bad = f'sum by (slo) (rate({_EVENTS}{{result="bad"}}[${window}]))'
        # Nothing is said of a window without events: 0/0 would be neither good nor bad.
        all_ = f"(sum by (slo) (rate({_EVENTS}[${window}])) > 0)"
        yield Record(
            name=f"slo:errors:ratio{window}",
            expr=f"{bad} / {all_}",
            about=f"What share of the events of {window} was bad.",
        )
        yield Record(
            name=f"slo:burn:rate{window}",
            expr=f"slo:errors:ratio{window} / on (slo) (1 - slo:goal:ratio)",
            about=f"How many times as fast as it may the budget went over {window}.",
        )
    for window_s in sorted({spec.window_s, *(burn.long_s for burn in spec.burns)}):
        window = duration(window_s)
        yield Record(
            name=f"slo:bad:increase{window}",
            expr=f'sum by (slo) (increase({_EVENTS}{{result="bad"}}[${window}]))',
            about=f"How many events of {window} were bad.",
        )
    yield Record(
        name="slo:budget_left:ratio",
        expr=f"1 - slo:burn:rate{duration(spec.window_s)}",
        about="What share of the budget is left; below 0, more was spent than there was.",
    )


def incident_records(spec: Spec, interval_s: float) -> Iterator[Record]:
    """Yield how long it took to detect and to resolve what alerts told of.

    For the alerts' own group and after them: there they see the alerts of the same moment, and
    `interval_s` ago is the one before.
    """
    firing = f'ALERTS{{alertstate="firing", service="{spec.service}", severity!="none"}}'
    before = f"offset {duration(interval_s)}"
    yield Record(
        name="forebay:incident_detected:seconds",
        expr=f"time() - ALERTS_FOR_STATE and ignoring (alertstate) {firing}"
        f" unless ignoring (alertstate) {firing} {before}",
        about="Once per incident, when it fires: how long its condition had held.",
    )
    yield Record(
        name="forebay:incident_resolved:seconds",
        expr=f"time() - ALERTS_FOR_STATE {before} and ignoring (alertstate) {firing} {before}"
        f" unless ignoring (alertstate) {firing}",
        about="Once per incident, when it is over: how long ago its condition began.",
    )
    for name, what, about in (
        ("mttd", "incident_detected", "Mean time to detect, over 30 days."),
        ("mttr", "incident_resolved", "Mean time to resolve, over 30 days."),
    ):
        yield Record(
            name=f"forebay:{name}:seconds30d",
            expr=f"sum by (severity) (sum_over_time(forebay:{what}:seconds[$30d]))"
            f" / sum by (severity) (count_over_time(forebay:{what}:seconds[$30d]))",
            about=about,
        )
    yield Record(
        name="forebay:incidents:count30d",
        expr="sum by (alertname, severity)"
        " (count_over_time(forebay:incident_detected:seconds[$30d]))",
        about="How many incidents began within 30 days, by alert.",
    )


NAMES: Final = (
    Record(
        name="llm_generation_tokens",
        expr="llm_generation_tokens_total",
        about="A source document's name, which OpenMetrics does not allow beside the other.",
    ),
)
