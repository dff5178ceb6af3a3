"""The arithmetic of an absence: what counts as added, and what does not."""

import dataclasses

import pytest

from forebay.drill.absence import ADDED_MS_MAX, Absence
from forebay.drill.client import Seen
from forebay.drill.steady_load import Kind, Told


def told(kind: Kind, asked: float, latency_s: float, status: int = 200) -> Told:
    seen = Seen(asked=asked, ended=asked + latency_s, status=status, whole=True)
    return Told(kind=kind, wish=(b"", {}), asked=asked, seen=seen)


def some(begins: float, **latencies_s: float) -> list[Told]:
    moments = [begins + number / 10 for number in range(30)]
    return [
        told(Kind(name), asked, latency_s)
        for asked in moments
        for name, latency_s in latencies_s.items()
    ]


def an_absence(before: list[Told], during: list[Told]) -> Absence:
    return Absence(
        fault="gone",
        failures=3,
        away_after_s=0.1,
        rejoin_s=0.5,
        before=before,
        during=during,
        told=before + during,
    )


def test_what_is_slower_than_plain_answers_of_the_same_moments_was_added() -> None:
    before = some(0.0, plain=0.010, keyed=0.011)
    absence = an_absence(before, some(10.0, plain=0.010, keyed=0.060))
    assert absence.added_ms(Kind.KEYED) == pytest.approx(50.0)
    assert absence.added_ms(Kind.PLAIN) == pytest.approx(0.0)


def test_a_slower_machine_is_not_held_against_keys_but_against_plain_answers() -> None:
    before = some(0.0, plain=0.010, keyed=0.011)
    absence = an_absence(before, some(10.0, plain=0.040, keyed=0.041))
    assert absence.added_ms(Kind.KEYED) == pytest.approx(1.0)
    assert absence.added_ms(Kind.PLAIN) == pytest.approx(30.0)


def test_one_hiccup_does_not_count_and_what_is_slow_throughout_does() -> None:
    before = some(0.0, plain=0.010)
    hiccup = [*some(10.0, plain=0.010), told(Kind.PLAIN, 10.05, 0.5)]
    assert an_absence(before, hiccup).added_ms(Kind.PLAIN) == pytest.approx(0.0)
    throughout = [
        told(Kind.PLAIN, each.asked, 0.5 if number % 5 == 0 else 0.01)
        for number, each in enumerate(some(10.0, plain=0.0))
    ]
    added_ms = an_absence(before, throughout).added_ms(Kind.PLAIN)
    assert added_ms is not None
    assert added_ms > ADDED_MS_MAX


def test_a_kind_that_was_not_answered_was_not_measured() -> None:
    absence = an_absence(some(0.0, plain=0.01), [])
    assert absence.added_ms(Kind.PLAIN) is None
    assert not all(gate.passed for gate in absence.gates())


def test_an_answer_that_failed_fails_the_drill() -> None:
    latencies = {"plain": 0.01, "keyed": 0.01, "repeatable": 0.01}
    good = an_absence(some(0.0, **latencies), some(10.0, **latencies))
    assert all(gate.passed for gate in good.gates())
    bad = dataclasses.replace(good, told=[*good.told, told(Kind.PLAIN, 20.0, 0.01, status=500)])
    assert not all(gate.passed for gate in bad.gates())
