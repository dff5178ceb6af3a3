"""`GET /admin/slo`: what is left of each error budget, told by the server itself.

It knows what this process has seen since its start: other replicas, and what was before, only
Prometheus knows.
"""

from typing import Final

import msgspec
from msgspec import Struct

from forebay.core.caller import Right
from forebay.core.clock import Clock
from forebay.gateway.exchange import Exchange
from forebay.gateway.ops import Reply
from forebay.gateway.routing import Endpoint, page
from forebay.policy.slo_budget import Budget
from forebay.serve.objectives import Objectives

SLO_PATH: Final = "/admin/slo"
_DIGITS: Final = 4


class SloWindow(Struct, kw_only=True):
    """Events of the last `window_s` seconds, as far as this process was there."""

    window_s: int
    good: int
    bad: int
    burn: float
    """How many times as fast as would just last the budget went."""


class SloObjective(Struct, kw_only=True):
    """One objective, and how it is doing."""

    name: str
    measure: str
    class_: str | None = msgspec.field(name="class")
    goal: float
    at_most_s: float | None
    description: str
    good: int
    """Events since the start, as `llm_slo_events_total` counts them."""
    bad: int
    budget_left: float
    """1: nothing was spent; below 0: more was than there is."""
    windows: list[SloWindow]
    burning: list[str]
    """Alerts whose conditions hold now, by what this process saw."""


class SloPage(Struct, kw_only=True):
    """Every objective; only what this process saw in `counted_for_s` is in it."""

    service: str
    window_s: int
    counted_for_s: float
    scope: str
    objectives: list[SloObjective]


def slo_endpoint(objectives: Objectives, now: Clock) -> Endpoint:
    """Return the route."""

    def make(_: Exchange) -> Reply:
        return Reply(body=msgspec.json.encode(slo_page(objectives, now())))

    return page(make, Right.OPERATE)


def slo_page(objectives: Objectives, now: float) -> SloPage:
    """Return the page as it is at `now`."""
    spec = objectives.spec
    return SloPage(
        service=spec.service,
        window_s=spec.window_s,
        counted_for_s=round(now - objectives.since, 1),
        scope="this process, since its start",
        objectives=[_objective(budget, now) for budget in objectives.budgets()],
    )


def _objective(budget: Budget, now: float) -> SloObjective:
    goal = budget.goal
    return SloObjective(
        name=goal.name,
        measure=goal.measure,
        class_=None if goal.priority is None else goal.priority.name.lower(),
        goal=goal.goal,
        at_most_s=goal.at_most_s,
        description=goal.description,
        good=budget.total.good,
        bad=budget.total.bad,
        budget_left=round(budget.left(now), _DIGITS),
        windows=[
            SloWindow(
                window_s=span_s,
                good=events.good,
                bad=events.bad,
                burn=round(events.burn(goal), _DIGITS),
            )
            for span_s, events in budget.over(now).items()
        ],
        burning=list(budget.burning(now)),
    )
