"""Drill: every alert is made to fire, reaches everybody it should, and ends, for real.

Each case (`alerts_cases*.py`) has a Forebay, a Prometheus with our rules and an Alertmanager with
our configuration to itself, on a clock that is so much faster that windows of minutes pass in
seconds.  What a rule compares with is not scaled: only how long it looks and how long it waits.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from forebay.drill import alerts_table
from forebay.drill.alerts_case import Case, Outcome
from forebay.drill.alerts_cases import MODEL, SERVICE
from forebay.drill.alerts_cases_machine import MACHINE, RECORDS
from forebay.drill.alerts_play import play
from forebay.drill.alerts_switch import SWITCH_CASE
from forebay.drill.findings import DrillFailed, Findings, Gate, Skipped, at_most, exactly
from forebay.drill.stage import Drill, Stage
from forebay.monitoring.alert import Links, Severity
from forebay.monitoring.alertmanager import alertmanager
from forebay.monitoring.alerts import ALERTS
from forebay.monitoring.rules import rules
from forebay.serve.slo_file import SloConfig, read_spec

CASES: Final[tuple[Case, ...]] = (*SERVICE, *MODEL, *MACHINE, *RECORDS, SWITCH_CASE)
_QUICK: Final = ("ForebayDown", "VeryHighErrorRate", "StoreDegraded")
_QUICK_SPEED: Final = 240.0
"""A mail is at most an hour late by our configuration, so 15 s."""
_OF_THE_MACHINE: Final = frozenset({"EventLoopLagging", "DiskFilling"})
"""True of a machine that others use meanwhile: listed, and no false alarm."""
_AT_ONCE: Final = 6
"""Scenes that run at once: each is four processes, which mostly wait."""


def run(stage: Stage) -> Findings:
    """Play the cases, several at once."""
    chosen = _chosen(stage)
    return asyncio.run(_play(stage, chosen))


def _chosen(stage: Stage) -> list[Case]:
    wanted = stage.only or (_QUICK if stage.quick else ())
    unknown = set(wanted) - {name for case in CASES for name in case.alerts}
    if unknown:
        raise DrillFailed(f"No case is for {', '.join(sorted(unknown))}.")
    cases = [case for case in CASES if not wanted or set(wanted) & set(case.alerts)]
    if stage.quick:
        cases = [replace(case, speed=max(case.speed, _QUICK_SPEED)) for case in cases]
    return cases


async def _play(stage: Stage, cases: Sequence[Case]) -> Findings:
    limit, done = asyncio.Semaphore(_AT_ONCE), 0
    spec = read_spec(SloConfig())
    config = alertmanager(spec)

    async def one(case: Case) -> Outcome:
        nonlocal done
        async with limit:
            stage.say(case.name, done, len(cases))
            text = rules(spec, links=Links(), speed=case.speed)
            outcome = await play(case, rules=text, config=config, folder=stage.folder)
            done += 1
            stage.say(case.name, done, len(cases))
            return outcome

    outcomes = await asyncio.gather(*(one(case) for case in cases))
    return findings(outcomes, whole=not stage.only and not stage.quick)


def findings(outcomes: Sequence[Outcome], *, whole: bool) -> Findings:
    """Return what the outcomes are held against; `whole`: every alert has to be among them."""
    if all(outcome.skipped for outcome in outcomes):
        raise Skipped(outcomes[0].skipped)
    gates = [gate for outcome in outcomes for gate in _gates(outcome)]
    if whole:
        tried = {name for outcome in outcomes for name in outcome.case.alerts}
        missing = {alert.name for alert in ALERTS} - tried
        gates.append(exactly("alerts that no case is for", len(missing), 0))
    before = sum(len(set(outcome.before) - _OF_THE_MACHINE) for outcome in outcomes)
    pages = sum(
        severity == Severity.PAGE for outcome in outcomes for severity in outcome.strangers.values()
    )
    unmuted = sum(len(outcome.unmuted) for outcome in outcomes)
    gates += [
        exactly("alerts that fired while all was well", before, 0),
        exactly("pages for another fault than there was", pages, 0),
        exactly("alerts that should have been inhibited and were not", unmuted, 0),
    ]
    return Findings(
        gates=tuple(gates),
        figures=alerts_table.as_data(outcomes),
        tables=alerts_table.tables(outcomes),
    )


def _gates(outcome: Outcome) -> list[Gate]:
    """Return what each alert of a case has to keep; nothing, where the machine lacks something."""
    if outcome.skipped:
        return []
    found = []
    for row in outcome.rows:
        case = outcome.case
        told, over = row.all_told_s, row.all_over_s
        found.append(at_most(f"{row.alert}: everybody told", told, case.fires_s_max, "s"))
        found.append(at_most(f"{row.alert}: over, everybody told", over, case.clears_s_max, "s"))
    return found


ALERT_DRILL: Final = Drill(
    name="alerts",
    about="every alert: a fault, fired, delivered by real Prometheus and Alertmanager, cleared",
    run=run,
)
