"""The dashboard `alerting`: what fires, what fired, and how long it took to notice and to mend."""

from typing import Final

from forebay.monitoring.panel import Dashboard, Kind, Panel, Query, Row, Unit
from forebay.policy.slo import Spec


def alerting(spec: Spec) -> Dashboard:
    """Return the dashboard; alerts are told apart from others' by the service's name."""
    ours = f'service="{spec.service}", alertstate="firing"'
    return Dashboard(
        uid="alerting",
        title="Forebay: alerts",
        about="What fires, what fired, and how long it took to notice and to mend.",
        rows=(
            Row("Now", _now(ours)),
            Row("History", (_history(ours), *_INCIDENTS)),
        ),
        by_model=False,
    )


def _now(ours: str) -> tuple[Panel, ...]:
    return (
        *(
            Panel(
                title=title,
                about=about,
                queries=(
                    Query(f'count(ALERTS{{{ours}, severity="{severity}"}}) or vector(0)', severity),
                ),
                kind=Kind.STAT,
                width=4,
                warn=1 if severity != "page" else None,
                alarm=1 if severity == "page" else None,
            )
            for title, about, severity in (
                ("Active pages", "Alerts that wake somebody.", "page"),
                ("Active tickets", "Alerts for a working day.", "ticket"),
            )
        ),
        Panel(
            title="Dead man's switch",
            about="1 while Prometheus looks at its rules. What receives this alert raises the alarm"
            " when it stops coming.",
            queries=(
                Query(
                    'count(ALERTS{alertname="DeadMansSwitch", alertstate="firing"}) or vector(0)',
                    "fires",
                ),
            ),
            unit=Unit.BOOLEAN,
            kind=Kind.STAT,
            width=4,
            alarm=1,
            below=True,
        ),
        Panel(
            title="Active alerts",
            about="Each with its labels; its runbook is docs/runbooks/NAME.md.",
            queries=(Query(f'ALERTS{{{ours}, severity!="none"}}'),),
            kind=Kind.TABLE,
            width=12,
        ),
    )


def _history(ours: str) -> Panel:
    return Panel(
        title="Alert history",
        about="When which alert fired.",
        queries=(
            Query(
                f'count by (alertname, severity) (ALERTS{{{ours}, severity!="none"}})',
                "{{alertname}} ({{severity}})",
            ),
        ),
        kind=Kind.TIMELINE,
        width=24,
    )


_INCIDENTS: Final = (
    Panel(
        title="Mean time to detect",
        about="From when an alert's condition began to hold to when it fired, over 30 days. What"
        " its windows hide before is not in it; `forebay drill alerts` measures that, too.",
        queries=(Query("forebay:mttd:seconds30d", "{{severity}}"),),
        unit=Unit.SECONDS,
        kind=Kind.STAT,
        width=6,
    ),
    Panel(
        title="Mean time to resolve",
        about="From when an alert's condition began to hold to when it was over, over 30 days.",
        queries=(Query("forebay:mttr:seconds30d", "{{severity}}"),),
        unit=Unit.SECONDS,
        kind=Kind.STAT,
        width=6,
    ),
    Panel(
        title="Incidents",
        about="How many began within 30 days, by alert.",
        queries=(Query("forebay:incidents:count30d", "{{alertname}}"),),
        kind=Kind.TABLE,
        width=12,
    ),
)
