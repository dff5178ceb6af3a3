import dataclasses

import pytest

from forebay.core.clock import MONOTONIC, ManualClock
from forebay.core.errors import DeadlineExceeded, Overloaded, UnknownModel
from forebay.policy.step_costs import StepCosts
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lane, Lanes, open_lane
from tests.support.engines import PuppetEngine
from tests.support.requests import a_request


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


async def test_a_fresh_lane_knows_what_a_step_of_its_engine_costs() -> None:
    hurried = a_request(deadline=5.0, tokens_max=100)
    engine, knows = PuppetEngine(), PuppetEngine()
    knows.info = dataclasses.replace(
        knows.info, costs=StepCosts(step_s=1.0, sequence_s=0.01, read_s=0.001)
    )
    ignorant, knowing = (
        open_lane("m", each, config=AdmissionConfig(), created=0, now=ManualClock())
        for each in (engine, knows)
    )
    async with ignorant.admission.admit(hurried):
        assert ignorant.admission.load.running == 1
    with pytest.raises(DeadlineExceeded, match="even if it had the server to itself"):
        async with knowing.admission.admit(hurried):
            pytest.fail("it was let in")
