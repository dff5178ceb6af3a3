"""How models come into memory at the start, and what a stop does to them and to who waits."""

import asyncio

import pytest

from forebay.core.errors import Draining, EngineError
from tests.support.requests import a_request
from tests.unit.serve.test_residency import SOON, Shelf, settle


async def test_the_start_loads_what_is_to_be_there_as_far_as_there_is_room() -> None:
    shelf = Shelf(loaded_max=2)
    shelf.offer("a")
    shelf.offer("later", preload=False)
    shelf.offer("b", "c")
    await shelf.residency.start()
    assert shelf.resident == ["a", "b"]


@pytest.mark.parametrize("stay_s_min", [0.0, 10.0])
async def test_at_the_start_nobody_makes_room_for_a_model_that_came_later(
    stay_s_min: float,
) -> None:
    shelf = Shelf(memory_bytes_max=25, stay_s_min=stay_s_min)
    shelf.offer("a", "b", "c", bytes_needed=10)
    await shelf.residency.start()
    assert shelf.resident == ["a", "b"]
    assert "model.left_asleep" in shelf.events


async def test_a_model_that_would_not_fit_if_it_were_alone_stops_the_start() -> None:
    shelf = Shelf(memory_bytes_max=25)
    shelf.offer("huge", bytes_needed=30_000_000)
    with pytest.raises(EngineError, match="needs 30 MB of memory"):
        await shelf.residency.start()


async def test_a_stop_ends_every_engine_and_every_wait() -> None:
    shelf = Shelf()
    shelf.offer("a", "b")
    await shelf.wake("a")
    shelf.gate.clear()
    waiting = asyncio.create_task(shelf.wake("b"))
    await settle()
    await shelf.residency.stop()
    with pytest.raises(Draining, match="The server is stopping"):
        await waiting
    assert "a stops" in shelf.told


async def test_a_server_that_stops_loads_nothing_more() -> None:
    shelf = Shelf()
    shelf.offer("m")
    shelf.residency.close()
    with pytest.raises(Draining):
        await shelf.wake("m")
    assert not shelf.told


async def test_what_runs_goes_on_when_nothing_more_is_loaded_and_those_who_wait_are_told() -> None:
    shelf = Shelf(loaded_max=1)
    shelf.offer("a", "b")
    await shelf.wake("a")
    async with shelf.lanes.find("a").admission.admit(a_request(deadline=SOON)):
        waiting = asyncio.create_task(shelf.wake("b"))
        await settle()
        shelf.residency.close()
        with pytest.raises(Draining):
            await waiting
        assert shelf.told == ["a starts"], "a still works"
    async with asyncio.timeout(5):
        while shelf.residency._loading:
            await asyncio.sleep(0.01)
    assert shelf.told == ["a starts", "a stops"], "b is not loaded for nobody"


async def test_whoever_waits_until_another_may_go_is_told_at_once_that_the_server_stops() -> None:
    shelf = Shelf(loaded_max=1, stay_s_min=60.0)
    shelf.offer("a", "b")
    await shelf.wake("a")
    waiting = asyncio.create_task(shelf.wake("b"))
    await settle()
    shelf.residency.close()
    async with asyncio.timeout(5):
        with pytest.raises(Draining):
            await waiting


async def test_a_stop_ends_the_engine_of_a_model_that_an_operator_lets_go() -> None:
    shelf = Shelf()
    shelf.offer("m")
    await shelf.wake("m")
    async with shelf.lanes.find("m").admission.admit(a_request(deadline=SOON)):
        leaving = asyncio.create_task(shelf.residency.unload("m"))
        await settle()
        await shelf.residency.stop()
        assert "m stops" in shelf.told, "its work would have gone on for another while"
    await leaving
