"""What a request is to an objective: good, bad, or no event at all."""

from dataclasses import replace

import pytest

from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import Priority, Route
from forebay.policy.slo import Goal, Judge, Measure, Spec, judged
from tests.support.records import a_completed, a_refused
from tests.support.requests import a_request

AVAILABILITY = Goal(name="availability", measure=Measure.AVAILABILITY, goal=0.99)
COMPLETENESS = Goal(name="completeness", measure=Measure.COMPLETENESS, goal=0.99)


def ttft(at_most_s: float) -> Goal:
    return Goal(name="ttft", measure=Measure.TTFT, goal=0.95, at_most_s=at_most_s)


def tpot(at_most_s: float) -> Goal:
    return Goal(name="tpot", measure=Measure.TPOT, goal=0.95, at_most_s=at_most_s)


def ended(outcome: Outcome, record: RequestRecord | None = None) -> RequestRecord:
    return replace(record or a_completed(), outcome=outcome)


def waited(seconds: float, outcome: Outcome) -> RequestRecord:
    """A request that was understood, and ended without a token."""
    timeline = Timeline(received=1.0, ended=1.0 + seconds)
    return replace(a_refused(outcome), timeline=timeline, request=a_request())


@pytest.mark.parametrize(
    ("outcome", "good"),
    [
        (Outcome.OK, True),
        (Outcome.OVERLOADED, False),
        (Outcome.EXPIRED, False),
        (Outcome.TIMED_OUT, False),
        (Outcome.ENGINE_ERROR, False),
        (Outcome.INTERNAL_ERROR, False),
        (Outcome.INVALID, None),
        (Outcome.RATE_LIMITED, None),
        (Outcome.UNKNOWN_MODEL, None),
        (Outcome.CANCELLED, None),
        (Outcome.DRAINING, None),
    ],
)
def test_who_is_refused_for_want_of_capacity_counts_and_whose_fault_it_is_itself_does_not(
    outcome: Outcome, good: bool | None
) -> None:
    assert judged(AVAILABILITY, ended(outcome)) is good


def test_a_first_token_is_in_time_up_to_the_threshold() -> None:
    record = a_completed()
    assert record.ttft_s == pytest.approx(0.3)
    assert judged(ttft(record.ttft_s or 0.0), record) is True
    assert judged(ttft(0.301), record) is True
    assert judged(ttft(0.299), record) is False


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.EXPIRED, Outcome.TIMED_OUT])
def test_who_waited_too_long_for_a_first_token_and_got_none_was_late(outcome: Outcome) -> None:
    assert judged(ttft(2.0), waited(2.1, outcome)) is False
    assert judged(ttft(2.0), waited(1.9, outcome)) is None


def test_who_was_wrong_waited_for_nothing() -> None:
    assert judged(ttft(2.0), waited(2.1, Outcome.INVALID)) is None
    assert judged(ttft(0.001), a_refused(Outcome.INTERNAL_ERROR)) is None


def test_vectors_have_no_first_token() -> None:
    record = replace(waited(5.0, Outcome.TIMED_OUT), route=Route.EMBEDDINGS)
    assert judged(ttft(2.0), record) is None


def test_the_pace_of_an_answer_is_that_of_its_further_tokens() -> None:
    record = a_completed()
    assert record.tpot_s == pytest.approx(0.02)
    assert judged(tpot(0.021), record) is True
    assert judged(tpot(0.019), record) is False
    assert judged(tpot(1.0), a_completed(tokens=1)) is None


def test_a_stream_that_began_and_broke_is_incomplete() -> None:
    assert judged(COMPLETENESS, a_completed()) is True
    assert judged(COMPLETENESS, ended(Outcome.ENGINE_ERROR)) is False
    assert judged(COMPLETENESS, ended(Outcome.TIMED_OUT)) is False


def test_a_stream_that_its_reader_left_is_neither() -> None:
    assert judged(COMPLETENESS, ended(Outcome.CANCELLED)) is None


def test_what_never_streamed_cannot_be_cut() -> None:
    whole = ended(Outcome.ENGINE_ERROR, a_completed(stream=False))
    assert judged(COMPLETENESS, whole) is None
    assert judged(COMPLETENESS, waited(1.0, Outcome.ENGINE_ERROR)) is None


def of_class(priority: Priority) -> RequestRecord:
    return replace(a_completed(), request=a_request(stream=True, priority=priority))


def test_a_class_has_objectives_of_its_own_beside_those_for_all() -> None:
    interactive = replace(ttft(0.1), priority=Priority.INTERACTIVE)
    batch = replace(ttft(1.0), priority=Priority.BATCH)
    spec = Spec(
        service="s", window_s=60, goals=(interactive, batch, COMPLETENESS, AVAILABILITY), burns=()
    )
    judge = Judge(spec)
    assert dict(judge.events(of_class(Priority.INTERACTIVE))) == {0: False, 2: True, 3: True}
    assert dict(judge.events(of_class(Priority.BATCH))) == {1: True, 2: True, 3: True}


def test_what_could_not_be_read_has_the_class_of_those_who_name_none() -> None:
    goal = replace(AVAILABILITY, priority=Priority.INTERACTIVE)
    judge = Judge(Spec(service="s", window_s=60, goals=(goal,), burns=()))
    assert list(judge.events(a_refused(Outcome.INTERNAL_ERROR))) == [(0, False)]
    assert list(judge.events(a_refused(Outcome.INVALID))) == []


def test_nobody_waits_for_a_copy_that_a_shadow_model_was_given() -> None:
    judge = Judge(Spec(service="s", window_s=60, goals=(AVAILABILITY,), burns=()))
    copy = replace(ended(Outcome.ENGINE_ERROR), route=Route.SHADOW)
    assert list(judge.events(copy)) == []
