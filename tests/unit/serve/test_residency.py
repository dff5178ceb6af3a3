"""Models come into memory when they are asked for, and leave it for others."""

import asyncio
from collections.abc import Callable

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError, Overloaded, QueueTimeout
from forebay.policy.residency import ResidencyConfig
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lane, Lanes, Listing
from forebay.serve.model import Model
from forebay.serve.residency import Residency
from tests.support.engines import PuppetEngine
from tests.support.requests import a_request

SOON = MONOTONIC() + 3_600.0


class Loadable(PuppetEngine):
    """Starts when it is let, and tells."""

    def __init__(self, told: list[str], name: str, gate: asyncio.Event) -> None:
        super().__init__()
        self.told, self.name, self.gate = told, name, gate
        self.error: EngineError | None = None
        self.bytes_taken = 10

    async def start(self) -> None:
        self.told.append(f"{self.name} starts")
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    async def stop(self) -> None:
        self.told.append(f"{self.name} stops")


class Shelf:
    """A residency over engines that load when they are let."""

    def __init__(self, **config: float) -> None:
        settings = {"stay_s_min": 0.0} | config
        self.told: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.free_bytes = 1_000
        self.error: EngineError | None = None
        self.events: list[str] = []
        self.lanes = Lanes()
        self.open: list[str] = []
        self.residency = Residency(
            self.lanes,
            ResidencyConfig(**settings),  # type: ignore[arg-type]
            admission=AdmissionConfig,
            free_bytes=lambda: self.free_bytes,
            now=MONOTONIC,
            log=lambda event, /, **_: self.events.append(event),
            watcher=self,
        )

    def loaded(self, lane: Lane, load_s: float) -> None:
        assert load_s >= 0
        self.open.append(lane.name)

    def unloaded(self, lane: Lane) -> None:
        self.open.remove(lane.name)

    def offer(self, *names: str, **facts: bool | int) -> None:
        for name in names:
            model = Model(listing=Listing(name=name), make=self._maker(name), **facts)  # type: ignore[arg-type]
            self.residency.offer(model)

    def _maker(self, name: str) -> Callable[[object], Loadable]:
        def make(_: object) -> Loadable:
            engine = Loadable(self.told, name, self.gate)
            engine.error = self.error
            return engine

        return make

    async def wake(self, name: str) -> None:
        await self.residency.wake(name, SOON)

    @property
    def resident(self) -> list[str]:
        return [lane.name for lane in self.lanes]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_model_is_loaded_when_it_is_asked_for_and_then_found() -> None:
    shelf = Shelf()
    shelf.offer("m")
    await shelf.wake("m")
    assert shelf.lanes.find("m").name == "m"
    assert shelf.open == ["m"]


async def test_one_load_serves_all_who_wait() -> None:
    shelf = Shelf()
    shelf.gate.clear()
    shelf.offer("m")
    waiting = [asyncio.create_task(shelf.wake("m")) for _ in range(5)]
    await settle()
    shelf.gate.set()
    await asyncio.gather(*waiting)
    assert shelf.told == ["m starts"]


async def test_models_are_loaded_one_at_a_time() -> None:
    shelf = Shelf()
    shelf.gate.clear()
    shelf.offer("a", "b")
    waiting = [asyncio.create_task(shelf.wake(name)) for name in ("a", "b")]
    await settle()
    assert shelf.told == ["a starts"]
    shelf.gate.set()
    await asyncio.gather(*waiting)
    assert shelf.told == ["a starts", "b starts"]


async def test_the_one_used_longest_ago_makes_room() -> None:
    shelf = Shelf(loaded_max=2)
    shelf.offer("a", "b", "c")
    for name in ("a", "b"):
        await shelf.wake(name)
    shelf.lanes.find("b")
    shelf.lanes.find("a")
    await shelf.wake("c")
    assert shelf.resident == ["a", "c"]
    assert shelf.open == ["a", "c"]


async def test_a_server_elsewhere_that_does_not_answer_keeps_no_model_from_being_loaded() -> None:
    shelf = Shelf(loaded_max=1)
    shelf.gate.clear()
    shelf.offer("elsewhere", remote=True)
    shelf.offer("a")
    waiting = asyncio.create_task(shelf.wake("elsewhere"))
    await settle()
    shelf.gate, gate = asyncio.Event(), shelf.gate
    shelf.gate.set()
    await shelf.wake("a")
    assert shelf.resident == ["a"]
    gate.set()
    await waiting
    assert shelf.resident == ["a", "elsewhere"], "it takes no memory, and nobody makes room for it"


async def test_a_model_elsewhere_makes_no_room() -> None:
    shelf = Shelf(loaded_max=1)
    shelf.offer("elsewhere", remote=True)
    shelf.offer("a", "b")
    await shelf.residency.start()
    assert shelf.resident == ["elsewhere", "a"]
    await shelf.wake("b")
    assert shelf.resident == ["elsewhere", "b"]


async def test_room_is_made_in_memory_too() -> None:
    shelf = Shelf()
    shelf.offer("a", "b", bytes_needed=10)
    await shelf.wake("a")
    shelf.free_bytes = 4
    await shelf.wake("b")
    assert shelf.resident == ["b"]


async def test_all_models_together_stay_within_the_memory_they_are_given() -> None:
    shelf = Shelf(memory_bytes_max=25)
    shelf.offer("a", "b", "c", bytes_needed=10)
    for name in ("a", "b", "c"):
        await shelf.wake(name)
    assert shelf.resident == ["b", "c"]


async def test_a_model_leaves_only_once_its_work_is_done() -> None:
    shelf = Shelf(loaded_max=1)
    shelf.offer("a", "b")
    await shelf.wake("a")
    lane = shelf.lanes.find("a")
    async with lane.admission.admit(a_request(deadline=SOON)):
        waiting = asyncio.create_task(shelf.wake("b"))
        await asyncio.sleep(0.05)
        assert shelf.lanes.get("a") is None, "nobody new gets in"
        assert "a stops" not in shelf.told
        assert list(shelf.residency.holdings()), "what it still holds is told"
    await waiting
    assert shelf.told == ["a starts", "a stops", "b starts"]


async def test_work_that_does_not_end_in_time_ends_with_its_engine() -> None:
    shelf = Shelf(loaded_max=1, unload_s_max=0.03)
    shelf.offer("a", "b")
    await shelf.wake("a")
    async with shelf.lanes.find("a").admission.admit(a_request(deadline=SOON)):
        await shelf.wake("b")
        assert shelf.resident == ["b"]


async def test_a_model_larger_than_memory_is_refused_with_the_numbers_before_it_is_loaded() -> None:
    shelf = Shelf()
    shelf.offer("huge", bytes_needed=5_000_000_000)
    with pytest.raises(EngineError, match="needs 5,000 MB of memory, and at most 0 MB"):
        await shelf.wake("huge")
    assert not shelf.told


async def test_where_all_have_just_come_one_waits_until_another_may_go() -> None:
    shelf = Shelf(loaded_max=1, stay_s_min=0.05)
    shelf.offer("a", "b")
    await shelf.wake("a")
    await asyncio.gather(shelf.wake("b"), shelf.wake("b"))
    assert shelf.resident == ["b"]


async def test_whoever_would_wait_in_vain_is_told_at_once_when_to_come_back() -> None:
    shelf = Shelf(loaded_max=1, stay_s_min=60.0, load_wait_s_max=30.0)
    shelf.offer("a", "b")
    await shelf.wake("a")
    with pytest.raises(Overloaded, match="no room for the model b yet") as full:
        await shelf.wake("b")
    assert full.value.retry_after_s is not None
    assert 50.0 < full.value.retry_after_s <= 60.0


async def test_whoever_waits_too_long_is_told_so_and_the_load_goes_on() -> None:
    shelf = Shelf()
    shelf.gate.clear()
    shelf.offer("m")
    with pytest.raises(QueueTimeout, match=r"was not loaded within 0\.01 s"):
        await shelf.residency.wake("m", MONOTONIC() + 0.01)
    shelf.gate.set()
    await shelf.wake("m")
    assert shelf.told == ["m starts"]


async def test_only_so_many_may_wait() -> None:
    shelf = Shelf(load_waiting_max=1)
    shelf.gate.clear()
    shelf.offer("m")
    waiting = asyncio.create_task(shelf.wake("m"))
    await settle()
    with pytest.raises(Overloaded, match="1 requests wait for models"):
        await shelf.wake("m")
    shelf.gate.set()
    await waiting


async def test_a_model_that_could_not_be_loaded_is_left_alone_for_a_while() -> None:
    shelf = Shelf()
    shelf.error = EngineError("The file is damaged.")
    shelf.offer("m")
    for _ in range(3):
        with pytest.raises(EngineError, match="The file is damaged"):
            await shelf.wake("m")
    assert shelf.told == ["m starts", "m stops"]


async def test_after_a_while_it_is_tried_again() -> None:
    shelf = Shelf(failed_s=0.0)
    shelf.error = EngineError("No memory.")
    shelf.offer("m")
    with pytest.raises(EngineError):
        await shelf.wake("m")
    shelf.error = None
    await shelf.wake("m")
    assert shelf.resident == ["m"]


async def test_the_server_is_well_as_long_as_one_model_is() -> None:
    shelf = Shelf()
    assert shelf.residency.well(), "with none in memory each can be loaded"
    shelf.offer("a", "b")
    await shelf.residency.start()
    for lane in shelf.lanes:
        lane.engine.well = lambda now: False  # type: ignore[method-assign]
    assert not shelf.residency.well()
    shelf.lanes.find("b").engine.well = lambda now: True  # type: ignore[method-assign]
    assert shelf.residency.well()


async def test_what_one_waited_for_was_used_last() -> None:
    shelf = Shelf(loaded_max=2)
    shelf.offer("a", "b", "c")
    for _ in range(2):
        await shelf.lanes.awake("a", SOON)
    shelf.lanes.find("a")
    await shelf.lanes.awake("b", SOON)
    await shelf.lanes.awake("c", SOON)
    assert shelf.resident == ["b", "c"]


async def test_several_that_want_one_place_are_each_reached_by_those_who_waited() -> None:
    shelf = Shelf(loaded_max=1)
    names = ("a", "b", "c", "d")
    shelf.offer(*names)
    reached = asyncio.gather(*(shelf.lanes.awake(name, SOON) for name in names))
    async with asyncio.timeout(5):
        assert [lane.name for lane in await reached] == list(names)
    assert len(shelf.told) == 2 * len(names) - 1, "each was loaded once"


async def test_an_operator_can_unload_a_model_and_it_stays_on_offer() -> None:
    shelf = Shelf()
    shelf.offer("m")
    await shelf.wake("m")
    assert await shelf.residency.unload("m")
    assert not await shelf.residency.unload("m")
    assert shelf.open == []
    await shelf.wake("m")
    assert shelf.resident == ["m"]


async def test_what_is_known_of_a_model_is_told() -> None:
    shelf = Shelf()
    shelf.offer("m", "other")
    await shelf.wake("m")
    readings = shelf.residency.readings
    assert readings["m"].resident
    assert readings["m"].memory_bytes == 10
    assert not readings["other"].resident
