"""Versions of a model that come and go while it serves."""

import asyncio
import threading
from pathlib import Path

import pytest

from forebay.core.errors import Invalid, UnknownModel
from forebay.serve.lanes import Asleep, Listing
from forebay.serve.model import Model
from forebay.serve.versions import Versions, adapter_name
from tests.support.engines import PuppetEngine
from tests.unit.serve.test_residency import Shelf, settle

BASE, FOLDER = Path("/models/m"), Path("/cache/adapters/0123456789abcdef")
NAME = "v2@01234567"


class Fitting(PuppetEngine):
    """Takes an adapter, or not."""

    misfit = ""

    async def load_adapter(self, name: str, folder: Path) -> None:
        if self.misfit:
            raise Invalid(self.misfit)
        await super().load_adapter(name, folder)


class Stall:
    """A model on offer, and what puts versions of it on offer."""

    def __init__(self, versions_max: int = 8, folder: Path | None = BASE) -> None:
        self.shelf = Shelf()
        self.engine = Fitting()
        self.begun: dict[str, Path] = {}
        self.known: list[str] = []
        self.asked: list[tuple[Path, str]] = []

        def make(adapters: object) -> Fitting:
            assert isinstance(adapters, dict)
            self.begun = dict(adapters)
            return self.engine

        listing = Listing(name="m", aliases=("gpt",))
        self.shelf.residency.offer(Model(listing=listing, make=make, folder=folder))
        self.versions = Versions(
            self.shelf.residency,
            self.shelf.lanes,
            take_in=self.take_in,
            log=lambda *_, **__: None,
            known=self.known.append,
            versions_max=versions_max,
        )

    def take_in(self, base: Path, source: str) -> Path:
        self.asked.append((base, source))
        if source == "file:/bad":
            raise Invalid("It is for another model.", param="source")
        return FOLDER


async def test_a_version_of_a_model_in_memory_is_loaded_beside_what_runs_and_found() -> None:
    stall = Stall()
    await stall.shelf.wake("m")
    assert await stall.versions.add("m", "v2", "file:/a") == "m:v2"
    assert stall.engine.adapters == {NAME: FOLDER}
    assert stall.shelf.lanes.find("gpt:v2").adapter == NAME
    assert stall.asked == [(BASE, "file:/a")]
    assert stall.known == ["m:v2"]


async def test_a_version_of_a_model_that_is_asleep_is_there_when_it_wakes() -> None:
    stall = Stall()
    await stall.versions.add("m", "v2", "file:/a")
    with pytest.raises(Asleep):
        stall.shelf.lanes.find("m:v2")
    await stall.shelf.wake("m")
    assert stall.begun == {NAME: FOLDER}
    assert stall.shelf.lanes.find("m:v2").adapter == NAME


async def test_an_adapter_that_does_not_fit_is_not_on_offer() -> None:
    stall = Stall()
    await stall.shelf.wake("m")
    stall.engine.misfit = "It has other shapes."
    with pytest.raises(Invalid, match="other shapes"):
        await stall.versions.add("m", "v2", "file:/a")
    with pytest.raises(Invalid, match="another model"):
        await stall.versions.add("m", "v2", "file:/bad")
    with pytest.raises(UnknownModel):
        stall.shelf.lanes.find("m:v2")
    assert not stall.known


async def test_a_version_that_is_withdrawn_is_unknown_and_forgotten() -> None:
    stall = Stall()
    await stall.shelf.wake("m")
    await stall.versions.add("m", "v2", "file:/a")
    await stall.versions.remove("m", "v2")
    assert stall.engine.adapters == {}
    with pytest.raises(UnknownModel):
        stall.shelf.lanes.find("m:v2")
    await stall.shelf.residency.unload("m")
    await stall.shelf.wake("m")
    assert stall.begun == {}


@pytest.mark.parametrize("version", ["", "a:b", "a/b", "-x", "x" * 65, "a b"])
async def test_a_version_has_a_plain_name(version: str) -> None:
    stall = Stall()
    with pytest.raises(Invalid, match="version: 1 to 64 letters"):
        await stall.versions.add("m", version, "file:/a")
    assert not stall.asked, "nothing is fetched for what would be refused"


async def test_a_model_without_weights_of_ours_takes_no_versions() -> None:
    stall = Stall(folder=None)
    with pytest.raises(Invalid, match="no weights of ours"):
        await stall.versions.add("m", "v2", "file:/a")
    assert not stall.asked


async def test_a_version_is_not_replaced_under_its_name() -> None:
    stall = Stall()
    await stall.versions.add("m", "v2", "file:/a")
    with pytest.raises(Invalid, match="has a version v2") as twice:
        await stall.versions.add("m", "v2", "file:/b")
    assert twice.value.status == 409


async def test_a_model_has_no_more_versions_than_may_be() -> None:
    stall = Stall(versions_max=0)
    with pytest.raises(Invalid, match="as many as may be"):
        await stall.versions.add("m", "v2", "file:/a")


async def test_what_is_not_there_is_named_with_what_is() -> None:
    stall = Stall()
    with pytest.raises(UnknownModel, match="Served: m"):
        await stall.versions.add("gone", "v2", "file:/a")
    with pytest.raises(UnknownModel, match="no version of that name"):
        await stall.versions.remove("m", "v2")


def test_another_content_under_the_same_name_is_another_adapter() -> None:
    assert adapter_name("v2", FOLDER) != adapter_name("v2", Path("/cache/adapters/fedcba98"))


async def test_versions_that_come_and_go_while_a_model_loads_are_there_and_gone() -> None:
    stall = Stall()
    await stall.versions.add("m", "old", "file:/a")
    gate, slow = asyncio.Event(), asyncio.Event()

    async def start() -> None:
        await gate.wait()
        stall.engine.adapters = dict(stall.begun)

    async def load_adapter(name: str, folder: Path) -> None:
        await slow.wait()
        stall.engine.adapters = {**stall.engine.adapters, name: folder}

    stall.engine.start = start  # type: ignore[method-assign]
    stall.engine.load_adapter = load_adapter  # type: ignore[method-assign]
    waking = asyncio.create_task(stall.shelf.wake("m"))
    await settle()
    await stall.versions.add("m", "v2", "file:/a")
    await stall.versions.remove("m", "old")
    gate.set()
    await settle()
    await stall.versions.add("m", "v3", "file:/a")
    slow.set()
    await waking
    assert set(stall.engine.adapters) == {NAME, "v3@01234567"}


async def test_nobody_waits_for_anothers_adapter_to_be_fetched() -> None:
    stall = Stall()
    fetched = threading.Event()
    take_in = stall.take_in

    def slow(base: Path, source: str) -> Path:
        if source == "file:/slow":
            assert fetched.wait(10.0)
        return take_in(base, source)

    stall.versions._take_in = slow
    waiting = asyncio.create_task(stall.versions.add("m", "slow", "file:/slow"))
    await asyncio.sleep(0)
    assert await stall.versions.add("m", "quick", "file:/a") == "m:quick"
    fetched.set()
    assert await waiting == "m:slow"


async def test_of_two_who_add_the_same_version_at_once_one_is_refused() -> None:
    stall = Stall()
    both = (stall.versions.add("m", "v2", source) for source in ("file:/a", "file:/b"))
    found = await asyncio.gather(*both, return_exceptions=True)
    assert sorted(map(type, found), key=str) == sorted([str, Invalid], key=str)
