from dataclasses import dataclass

import pytest

from forebay.core.clock import ManualClock
from forebay.core.knob import knob, knobs


@dataclass(frozen=True, slots=True, kw_only=True)
class KettleConfig:
    """A configuration with one knob and one plain field."""

    boil_s_max: float = knob(60.0, "Longest boil, in seconds.", minimum=1.0, maximum=600.0)
    colour: str = "red"


def test_a_knob_is_a_field_with_a_default_and_facts() -> None:
    [(field, facts)] = knobs(KettleConfig)
    assert (field.name, KettleConfig().boil_s_max) == ("boil_s_max", 60.0)
    assert (facts.minimum, facts.maximum) == (1.0, 600.0)


def test_a_number_without_bounds_is_not_a_knob() -> None:
    with pytest.raises(AssertionError):
        knob(1, "How many.")


def test_a_manual_clock_moves_when_told_and_never_back() -> None:
    clock = ManualClock(5.0)
    assert clock.advance(2.0) == clock() == 7.0
    with pytest.raises(AssertionError):
        clock.advance(-1.0)
