"""The hook that counts what objectives make of requests."""

from dataclasses import replace

import pytest

from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import RequestId
from forebay.policy.slo import Goal, Judge, Measure, Spec
from forebay.serve import objectives as module
from forebay.serve.objectives import Objectives
from forebay.telemetry.readings import ServerReading
from forebay.telemetry.server_metrics import of_server
from tests.support.records import a_completed

GOALS = (
    Goal(name="served", measure=Measure.AVAILABILITY, goal=0.99),
    Goal(name="soon", measure=Measure.TTFT, goal=0.95, at_most_s=0.1),
)
SPEC = Spec(service="s", window_s=3_600, goals=GOALS, burns=())


def at(ended: float, outcome: Outcome = Outcome.OK) -> RequestRecord:
    record = a_completed()
    return replace(record, timeline=replace(record.timeline, ended=ended), outcome=outcome)


class Time:
    """A clock that stands where it was set."""

    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


def test_each_objective_is_there_before_anything_happened() -> None:
    counts = Objectives(SPEC, Time()).counts
    assert counts == {
        ("served", "good"): 0,
        ("served", "bad"): 0,
        ("soon", "good"): 0,
        ("soon", "bad"): 0,
    }


def test_whoever_asks_is_told_of_all_that_has_ended() -> None:
    objectives = Objectives(SPEC, Time())
    objectives(at(10.0))
    objectives(at(10.1, Outcome.ENGINE_ERROR))
    assert objectives.counts["served", "good"] == 1
    assert objectives.counts["served", "bad"] == 1
    assert objectives.counts["soon", "bad"] == 2


def test_records_are_judged_together_and_not_kept_for_long() -> None:
    objectives = Objectives(SPEC, Time())
    for _ in range(module._RECORDS_MAX * 3 + 1):
        objectives(at(10.0))
        assert len(objectives._records) < module._RECORDS_MAX
    objectives(at(11.5))
    assert not objectives._records


def test_what_is_late_is_counted_when_it_ended_not_when_somebody_asks() -> None:
    time = Time()
    objectives = Objectives(SPEC, time)
    for second in range(100):
        objectives(at(10.0 + 60 * second))
    time.now = 10.0 + 60 * 99
    (served, _) = objectives.budgets()
    assert served.over(time.now)[3_600].good in {59, 60}
    assert served.total.good == 100


def test_a_record_that_cannot_be_judged_does_not_keep_others_from_it() -> None:
    objectives = Objectives(SPEC, Time())
    broken = replace(at(10.0), id=RequestId("broken"))
    objectives(broken)
    object.__setattr__(broken.timeline, "received", None)
    objectives(at(10.0))
    with pytest.raises(TypeError):
        _ = objectives.counts
    assert objectives.counts["served", "good"] == 1


def test_the_metric_says_exactly_what_was_counted() -> None:
    objectives = Objectives(SPEC, Time())
    objectives(at(10.0))
    objectives(at(10.0, Outcome.OVERLOADED))
    (family,) = (
        family
        for family in of_server(ServerReading(slo=objectives.counts))
        if family.name == "llm_slo_events"
    )
    told = {
        (sample.labels["slo"], sample.labels["result"]): sample.value for sample in family.samples
    }
    assert told == objectives.counts


def test_judging_is_the_same_whether_one_by_one_or_together() -> None:
    records = [at(10.0 + number, outcome) for number, outcome in enumerate(Outcome)]
    together, judge = Objectives(SPEC, Time()), Judge(SPEC)
    for record in records:
        together(record)
    events = [event for record in records for event in judge.events(record)]
    assert together.counts["served", "bad"] == events.count((0, False))
    assert together.counts["served", "good"] == events.count((0, True))
