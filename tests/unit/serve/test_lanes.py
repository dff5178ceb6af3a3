import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import Overloaded, UnknownModel
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lane, Lanes, open_lane
from tests.support.engines import PuppetEngine


def a_lane(name: str = "m", running_max: int = 0) -> Lane:
    config = AdmissionConfig(running_max=running_max)
    return open_lane(name, PuppetEngine(), config=config, created=0, now=MONOTONIC)


def test_a_served_model_is_found() -> None:
    lane = a_lane()
    assert Lanes([lane]).find("m") is lane


def test_an_unknown_model_is_told_which_there_are() -> None:
    with pytest.raises(UnknownModel, match="Served: later, m"):
        Lanes([a_lane()], coming=["later"]).find("gpt-9")


def test_a_model_that_is_being_loaded_is_worth_another_try() -> None:
    lanes = Lanes(coming=["m"])
    with pytest.raises(Overloaded) as not_yet:
        lanes.find("m")
    assert not_yet.value.retry_after_s is not None
    lanes.add(a_lane())
    assert lanes.find("m").name == "m"


def test_the_limit_is_the_engines_own_unless_one_is_set() -> None:
    assert a_lane().admission.load.places_max == 4
    assert a_lane(running_max=2).admission.load.places_max == 2
