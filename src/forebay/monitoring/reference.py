"""The pages of objectives and alerts, read from what they are made of."""

from collections.abc import Iterable, Iterator
from typing import Final

from forebay.monitoring.alert import Alert, duration, windowed
from forebay.monitoring.alerts import ALERTS
from forebay.monitoring.inhibitions import INHIBITIONS
from forebay.monitoring.records import budget_records, incident_records
from forebay.monitoring.rules import INTERVAL_S
from forebay.policy.slo import Goal, Measure, Spec
from forebay.policy.slo_budget import BAD_LEAST
from forebay.serve.slo_file import built_in

_SLO: Final = """\
# Objectives

What this service is held to. `src/forebay/monitoring/slo.yaml` is the one source: of the recording
rules and burn-rate alerts below, of the dashboards' thresholds, of `GET /admin/slo`, of this page.

A request is an event of each objective that it says something about: a good one or a bad one.
Whose fault an ending is, the table of [outcomes](errors.md) says: refusals for want of capacity
count as bad, what a caller did wrong is no event, nor is a copy for a shadow model.
"""

_OWN: Final = """\
## Objectives of your own

Copy `slo.yaml`, change it, name it in `slo.file`, and make the rules from the same file:

```bash
forebay monitoring write monitoring --slo slo.yaml --grafana https://grafana.example.com
```

A file that is wrong stops the start, with the key and the fix: `objectives.ttft_interactive.goal:
Write less than 1`. A goal so low that an alert on it could never fire is refused, too.

## What the server knows by itself

`GET /admin/slo` (right: `operate`) tells each objective's events, its burn rates over every window,
what is left of its budget, and which alerts' conditions hold. It needs no Prometheus, and knows
only what its own process has seen since its start; `llm_slo_events_total` has the same counts.
Prometheus knows all replicas, and what was before.
"""

_MEASURES: Final = {
    Measure.AVAILABILITY: "The request was served. Refused for want of capacity, timed out or"
    " failed is bad; what is its caller's fault is no event.",
    Measure.TTFT: "The first token came within the threshold, queue and prefill included. Who"
    " waited longer and got none is bad, also if it left by itself; who got none sooner is no"
    " event.",
    Measure.TPOT: "Each token after the first took the threshold at most, on average. Answers of"
    " one token are no event.",
    Measure.COMPLETENESS: "A stream that had begun was sent to its end. One that its reader left"
    " is no event.",
}

_ALERTS: Final = """\
# Alerts

Every alert, with what makes it fire. All are in `deploy/monitoring/prometheus/rules/forebay.yml`;
`promtool` tries each on either side of its threshold (`tests/contract/test_alert_rules.py`), and
`forebay drill alerts` makes each fire in a real Prometheus. Ratios count events, too: one failure
in a quiet hour is nobody's alert.
"""

_SETTING_UP: Final = """\
## Setting it up

```bash
forebay monitoring write monitoring
promtool check config monitoring/prometheus/prometheus.yml
amtool check-config monitoring/alertmanager/alertmanager.yml
```

The head of each file says what in it is yours to set: the servers to scrape, mail addresses, the
Slack channel, the address that the dead man's switch reports to. Secrets are files, because
neither program reads variables of the environment: under `/etc/alertmanager/secrets` there are
`slack_url`, `pagerduty_key` and `smtp_password`, readable by Alertmanager only.

The job of `prometheus.yml` must be called `forebay`. Prometheus needs 30 days of what it has
scraped for the budgets (`--storage.tsdb.retention.time=31d`), and, to lead from a bucket to a
trace, `--enable-feature=exemplar-storage`. To send all of it to Grafana Cloud, uncomment
`remote_write` and put the token into its file.

Of `GpuMemoryHigh`: an engine that takes nine tenths of a GPU at its start keeps it firing. Let
vLLM take less (`vllm.gpu_memory_ratio`), or silence it for that server.
"""

_WHO: Final = """\
## Who is told

| Severity | Receiver | How soon |
| --- | --- | --- |
| page | PagerDuty, and by mail | after 10 s; again each hour |
| ticket | Slack, and by mail | after 30 s; again each day |
| none | the dead man's switch | at once, each minute |

Mail is a digest: what fired within five minutes, and then what changed within an hour. Alerts are
grouped by name, service and model. Each message has the runbook and the dashboard in it, also when
it is over.

The dead man's switch always fires. What receives it (a service that expects a call each minute, on
other machines than these) raises the alarm when it stops coming: then Prometheus, Alertmanager or
the way between them is gone, and nobody would hear of anything else.

## Who is not told

| While this fires | nobody is told of | with the same | because |
| --- | --- | --- | --- |
"""


def objectives_page() -> str:
    """Return docs/slo.md."""
    spec = built_in()
    goals = [_goal(goal) for goal in spec.goals]
    measures = [f"- `{measure}`: {text}" for measure, text in _MEASURES.items()]
    return "\n".join(
        [
            _SLO,
            *_table(("Objective", "Measure", "Class", "Threshold", "Goal", "In words"), goals),
            "",
            f"Goals are held over {duration(spec.window_s)}; what they leave is the error budget.",
            "",
            *measures,
            "",
            "## Burn rates",
            "",
            *_burns(spec),
            "",
            "## Records",
            "",
            *_records(spec),
            "",
            _OWN,
        ]
    )


def _goal(goal: Goal) -> tuple[str, ...]:
    return (
        f"`{goal.name}`",
        f"`{goal.measure}`",
        "all" if goal.priority is None else goal.priority.name.lower(),
        "" if goal.at_most_s is None else f"{goal.at_most_s:g} s",
        f"{100 * goal.goal:g} %",
        goal.description,
    )


def _burns(spec: Spec) -> Iterator[str]:
    yield (
        "A budget burns at rate 1 if it just lasts. An alert fires while the rate is higher over"
        " both windows: the long one says that it matters, the short one that it goes on. There"
        f" must be {BAD_LEAST} bad events in the long one at least."
    )
    yield ""
    rows = [
        (
            f"[{burn.alert}](runbooks/{burn.alert}.md)",
            burn.severity,
            f"{burn.rate:g}",
            duration(burn.long_s),
            duration(burn.short_s),
            f"{burn.rate * burn.long_s / spec.window_s:.0%}",
        )
        for burn in spec.burns
    ]
    head = ("Alert", "Severity", "Rate over", "Long", "Short", "Of the budget, by then")
    yield from _table(head, rows)


def _records(spec: Spec) -> Iterator[str]:
    yield "What Prometheus keeps under names of its own, by `slo`, or by the incident's labels:"
    yield ""
    found = {record.name: record.about for record in budget_records(spec)}
    found |= {record.name: record.about for record in incident_records(spec, INTERVAL_S)}
    yield from _table(("Record", "What"), [(f"`{name}`", about) for name, about in found.items()])


def alerts_page() -> str:
    """Return docs/alerts.md."""
    parts = [_ALERTS]
    for area in dict.fromkeys(alert.area for alert in ALERTS):
        rows = [_alert(alert) for alert in ALERTS if alert.area is area]
        head = ("Alert", "Severity", "Fires while", "For", "Panel")
        parts += [f"## {area.title()}", "", *_table(head, rows), ""]
    inhibited = [
        f"| {rule.by} | {', '.join(rule.of) or 'every other'} |"
        f" {', '.join(rule.equal)} | {rule.because} |"
        for rule in INHIBITIONS
    ]
    return "\n".join([*parts, _WHO.rstrip(), *inhibited, "", _SETTING_UP])


def _alert(alert: Alert) -> tuple[str, ...]:
    return (
        f"[{alert.name}](runbooks/{alert.name}.md)",
        str(alert.severity),
        f"`{windowed(alert.expr)}`",
        duration(alert.hold_s) if alert.hold_s else "",
        alert.panel,
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [_row(head), _row(tuple("---" for _ in head))]
    return lines + [_row(tuple(cell.replace("|", "\\|") for cell in row)) for row in rows]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
