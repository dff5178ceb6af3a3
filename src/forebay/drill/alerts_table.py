"""What the drill of alerts writes down: the table of alerts, and what fired besides."""

from collections.abc import Mapping, Sequence
from typing import Any

from forebay.bench import machine
from forebay.drill.alerts_case import Outcome, Row
from forebay.drill.sinks import Channel


def as_data(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return all that was seen, as JSON has it."""
    return {
        "alerts": [row.as_data() for outcome in outcomes for row in outcome.rows],
        "cases": [
            {
                "name": outcome.case.name,
                "alerts": outcome.case.alerts,
                "injected": outcome.case.injected,
                "speed": outcome.case.speed,
                "fired_before": outcome.before,
                "fired_besides": dict(outcome.strangers),
                "companions": sorted(outcome.companions),
                "inhibited": sorted(outcome.case.muted),
                "not_inhibited": outcome.unmuted,
                "callers": {str(status): count for status, count in outcome.callers.items()},
                "failed": outcome.failed,
                "skipped": outcome.skipped,
            }
            for outcome in outcomes
        ],
    }


def tables(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    """Return the tables, as Markdown."""
    head = ["alert", "injected fault", "clock", "fired after", "in rule time", "delivered to"]
    rows = [[*head, "cleared after", "over told to"]]
    rows += [_line(row, outcome) for outcome in outcomes for row in outcome.rows]
    return (machine.table("Alerts", rows), _detection(outcomes), _besides(outcomes))


def _line(row: Row, outcome: Outcome) -> list[str]:
    lacks = outcome.skipped or outcome.failed
    if lacks:
        return [row.alert, row.injected, f"{row.speed:g}x", lacks, "", "", "", ""]
    return [
        row.alert,
        row.injected,
        f"{row.speed:g}x",
        _seconds(row.fired_s),
        "" if row.fired_s is None else _minutes(row.fired_s * row.speed),
        _channels(row.told_s),
        _seconds(row.cleared_s),
        _channels(row.over_s),
    ]


def _detection(outcomes: Sequence[Outcome]) -> str:
    """Return the mean time to detect, to be told and to be over, by severity."""
    rows = [["severity", "alerts", "MTTD", "in rule time", "until told", "until over is told"]]
    every = [row for outcome in outcomes for row in outcome.rows if row.all_told_s is not None]
    for severity in sorted({row.severity for row in every}):
        found = [row for row in every if row.severity == severity]
        rows.append(
            [
                severity,
                str(len(found)),
                _mean([row.fired_s for row in found]),
                _rule_mean(found),
                _mean([row.all_told_s for row in found]),
                _mean([row.all_over_s for row in found]),
            ]
        )
    return machine.table("Mean times", rows)


def _besides(outcomes: Sequence[Outcome]) -> str:
    """Return what else fired in each case, and what was inhibited."""
    rows = [["fault", "also fired", "inhibited", "unexpected"]]
    for outcome in outcomes:
        also = sorted(outcome.companions)
        odd = [*outcome.before, *outcome.strangers, *outcome.unmuted]
        if also or odd or outcome.case.muted:
            muted = sorted(outcome.case.muted - set(outcome.unmuted))
            rows.append([outcome.case.name, ", ".join(also), ", ".join(muted), ", ".join(odd)])
    return machine.table("Fired besides", rows)


def _channels(moments: Mapping[str, float | None]) -> str:
    order = [channel for channel in Channel if channel in moments]
    return ", ".join(f"{channel} {_seconds(moments[channel])}" for channel in order)


def _seconds(found: float | None) -> str:
    return "never" if found is None else f"{found:.1f} s"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _mean(found: Sequence[float | None]) -> str:
    known = [each for each in found if each is not None]
    return f"{sum(known) / len(known):.1f} s" if known else "never"


def _rule_mean(rows: Sequence[Row]) -> str:
    known = [row.fired_s * row.speed for row in rows if row.fired_s is not None]
    return _minutes(sum(known) / len(known)) if known else "never"
