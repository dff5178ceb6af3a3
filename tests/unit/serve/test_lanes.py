import dataclasses

import pytest

from forebay.core.clock import MONOTONIC, ManualClock
from forebay.core.errors import DeadlineExceeded, Overloaded, UnknownModel
from forebay.policy.step_costs import StepCosts
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Asleep, Lane, Lanes, Listing, open_lane
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
        Lanes([a_lane()], listings=[Listing(name="later")]).find("gpt-9")


def test_a_model_that_is_loaded_at_the_start_is_worth_another_try() -> None:
    lanes = Lanes(listings=[Listing(name="m")], opening=True)
    with pytest.raises(Overloaded) as not_yet:
        lanes.find("m")
    assert not_yet.value.retry_after_s is not None
    lanes.add(a_lane())
    assert lanes.find("m").name == "m"


def test_a_model_that_is_asleep_is_named_to_whoever_can_wake_it() -> None:
    lanes = Lanes(listings=[Listing(name="m", aliases=("gpt",), versions={"v2": "v2@1"})])
    for name in ("m", "gpt", "m:v2", "gpt:v2"):
        with pytest.raises(Asleep) as asleep:
            lanes.find(name)
        assert asleep.value.model == "m"
    assert lanes.misses["m"] == 4


def test_an_alias_leads_to_the_model_under_its_own_name() -> None:
    lanes = Lanes([a_lane()], listings=[Listing(name="m", aliases=("gpt",))])
    assert lanes.find("gpt").name == "m"


def test_a_version_shares_the_door_and_the_engine_of_its_model() -> None:
    lanes = Lanes(
        [a_lane()], listings=[Listing(name="m", aliases=("gpt",), versions={"v2": "v2@1"})]
    )
    model, version = lanes.find("m"), lanes.find("gpt:v2")
    assert (version.name, version.adapter, version.model) == ("m:v2", "v2@1", "m")
    assert version.admission is model.admission
    assert version.engine is model.engine
    assert list(lanes) == [model]


def test_a_version_that_is_withdrawn_is_unknown_while_its_model_stays() -> None:
    lanes = Lanes([a_lane()], listings=[Listing(name="m", versions={"v1": "v1@1", "v2": "v2@1"})])
    lanes.offer(Listing(name="m", versions={"v2": "v2@1"}))
    assert lanes.find("m:v2").adapter == "v2@1"
    with pytest.raises(UnknownModel):
        lanes.find("m:v1")


def test_a_model_that_left_memory_is_found_under_no_name_and_stays_on_offer() -> None:
    lanes = Lanes(
        [a_lane()], listings=[Listing(name="m", aliases=("gpt",), versions={"v2": "v2@1"})]
    )
    lanes.remove("m")
    assert lanes.get("m") is lanes.get("gpt") is lanes.get("m:v2") is None
    with pytest.raises(Asleep):
        lanes.find("gpt:v2")


def test_the_model_asked_for_last_was_used_last_whatever_its_name() -> None:
    listing = Listing(name="a", aliases=("gpt",))
    lanes = Lanes([a_lane("a"), a_lane("b")], listings=[listing])
    lanes.find("a")
    lanes.find("b")
    lanes.find("gpt")
    assert lanes.used("a") > lanes.used("b") > lanes.used("never")
    assert lanes.hits == {"a": 2, "b": 1}


async def test_whoever_finds_it_asleep_can_wait_until_it_is_awake() -> None:
    lanes = Lanes(listings=[Listing(name="m", versions={"v2": "v2@1"})])

    async def wake(model: str, deadline: float) -> None:
        assert (model, deadline) == ("m", 9.0)
        lanes.add(a_lane())

    lanes.wake = wake
    with pytest.raises(Asleep):
        lanes.find("m:v2")
    assert (await lanes.awake("m:v2", 9.0)).adapter == "v2@1"
    assert (lanes.misses["m"], lanes.hits["m"]) == (1, 0), "it is one request"


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


def test_whatever_it_is_asked_for_as_has_one_name_in_records() -> None:
    listing = Listing(name="m", aliases=("gpt",), versions={"v2": "v2@1"})
    assert [listing.own_name(name) for name in listing.names] == ["m", "m:v2", "m", "m:v2"]
    assert Lanes(listings=[listing]).listing("gpt:v2") is listing
