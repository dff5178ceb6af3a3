"""Objectives: what share of requests must go well, and what "well" means of one record.

Whose fault an ending is says the outcome table (`core/errors.py`) alone.  What callers did wrong
is an event of no objective; neither is a copy for a shadow model, which nobody waits for.
"""

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from forebay.core.errors import OUTCOMES, Objective, Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import Priority, Route


class Measure(enum.StrEnum):
    """What an objective looks at."""

    AVAILABILITY = "availability"
    """The request was served, or refused for a reason of its caller's."""
    TTFT = "ttft"
    """The first token came within `at_most_s`."""
    TPOT = "tpot"
    """Each further token took `at_most_s` at most, on average."""
    COMPLETENESS = "completeness"
    """A stream that had begun was sent to its end."""


class Result(enum.StrEnum):
    """What an event was; the label of `llm_slo_events_total`."""

    GOOD = "good"
    BAD = "bad"


TIMED: Final = frozenset({Measure.TTFT, Measure.TPOT})
"""Measures that need a threshold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One objective."""

    name: str
    measure: Measure
    goal: float
    """The share of events that must be good."""
    priority: Priority | None = None
    """The class of work that it speaks of; None: of every one."""
    at_most_s: float | None = None
    description: str = ""

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return 1.0 - self.goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """One alert on the pace at which a budget goes: over a long window, and still over a short."""

    alert: str
    severity: str
    rate: float
    """How many times as fast as would just last for the objectives' window."""
    long_s: int
    short_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """The objectives of a service: what `slo.yaml` says."""

    service: str
    window_s: int
    goals: tuple[Goal, ...]
    burns: tuple[Burn, ...]

    @property
    def windows_s(self) -> tuple[int, ...]:
        """Every window that is looked at, shortest first."""
        found = {self.window_s}
        for burn in self.burns:
            found |= {burn.long_s, burn.short_s}
        return tuple(sorted(found))


_OBJECTIVES: Final = {outcome: ending.objective for outcome, ending in OUTCOMES.items()}

Judgement = Callable[[RequestRecord, Objective, float], bool | None]
"""(record, how its ending counts, threshold) -> was it good; None: it is no event."""


class Judge:
    """Says of each record which objectives it is an event of, and which way."""

    def __init__(self, spec: Spec) -> None:
        """Sort the objectives by class, once: a record is judged in 2 us."""
        numbered = tuple(enumerate(spec.goals))
        self._by_class: Final = {
            priority: tuple(
                (number, _JUDGEMENTS[goal.measure], goal.at_most_s or 0.0)
                for number, goal in numbered
                if goal.priority in {None, priority}
            )
            for priority in Priority
        }

    def events(self, record: RequestRecord) -> Iterator[tuple[int, bool]]:
        """Yield (the objective's number in the spec, whether it was good)."""
        if record.route is Route.SHADOW:
            return
        # What could not be read far enough to know its class has the class of those who say none.
        priority = record.request.priority if record.request else Priority.INTERACTIVE
        counted = _OBJECTIVES[record.outcome]
        for number, judge, at_most_s in self._by_class[priority]:
            good = judge(record, counted, at_most_s)
            if good is not None:
                yield number, good


def judged(goal: Goal, record: RequestRecord) -> bool | None:
    """Return whether a record is a good event of an objective; None: it is no event of it."""
    counted = _OBJECTIVES[record.outcome]
    return _JUDGEMENTS[goal.measure](record, counted, goal.at_most_s or 0.0)


def _served(_: RequestRecord, counted: Objective, __: float) -> bool | None:
    return None if counted is Objective.IGNORED else counted is Objective.GOOD


def _soon(record: RequestRecord, counted: Objective, at_most_s: float) -> bool | None:
    """Whether the first token was in time.

    Whoever waited longer than that and got none had a bad time, though it may have left by
    itself; whoever left or was refused sooner says nothing of it.
    """
    ttft_s = record.ttft_s
    if ttft_s is not None:
        return ttft_s <= at_most_s
    gave_up = record.outcome is Outcome.CANCELLED or counted is Objective.BAD
    waited = gave_up and record.request is not None and record.route is not Route.EMBEDDINGS
    return False if waited and record.e2e_s > at_most_s else None


def _fast(record: RequestRecord, _: Objective, at_most_s: float) -> bool | None:
    tpot_s = record.tpot_s
    return None if tpot_s is None else tpot_s <= at_most_s


def _whole(record: RequestRecord, counted: Objective, _: float) -> bool | None:
    """Whether a stream that had begun came to its end; one that its reader left is no event."""
    began = record.timeline.first_token is not None
    if not began or record.request is None or not record.request.stream:
        return None
    return None if counted is Objective.IGNORED else counted is Objective.GOOD


_JUDGEMENTS: Final[Mapping[Measure, Judgement]] = {
    Measure.AVAILABILITY: _served,
    Measure.TTFT: _soon,
    Measure.TPOT: _fast,
    Measure.COMPLETENESS: _whole,
}
