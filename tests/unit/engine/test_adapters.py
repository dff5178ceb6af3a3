"""Adapters that a worker is ordered to load, and those that the next one gets."""

import asyncio
from pathlib import Path
from unittest.mock import Mock

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError, Invalid
from forebay.engine.adapters import Adapters
from forebay.engine.supervisor import Supervisor, SupervisorConfig, WorkerSpec
from forebay.engine.wire import Adapted, Down, LoadAdapter, UnloadAdapter

FOLDER = Path("/adapters/v2")


async def ordered(
    adapters: Adapters, sent: list[Down], wait_s_max: float = 60.0
) -> "asyncio.Task[None]":
    task = asyncio.create_task(adapters.load("v2", FOLDER, sent.append, wait_s_max=wait_s_max))
    await asyncio.sleep(0)
    return task


async def test_an_adapter_that_is_loaded_is_what_later_workers_begin_with() -> None:
    adapters, sent = Adapters({"v1": Path("/v1")}), list[Down]()
    loading = await ordered(adapters, sent)
    assert sent == [LoadAdapter("v2", "/adapters/v2")]
    assert "v2" not in adapters.known
    adapters.told(Adapted("v2"))
    await loading
    assert adapters.known == {"v1": Path("/v1"), "v2": FOLDER}


async def test_one_that_does_not_fit_is_refused_in_the_workers_words() -> None:
    adapters = Adapters({})
    loading = await ordered(adapters, [])
    adapters.told(Adapted("v2", "It is for another model."))
    with pytest.raises(Invalid, match="It is for another model"):
        await loading
    assert adapters.known == {}


async def test_a_worker_that_is_lost_meanwhile_ends_the_order() -> None:
    adapters = Adapters({})
    loading = await ordered(adapters, [])
    adapters.lost()
    with pytest.raises(EngineError, match="lost while it loaded"):
        await loading


async def test_a_worker_that_never_answers_ends_it_too_and_it_can_be_ordered_again() -> None:
    adapters = Adapters({})
    sent: list[Down] = []
    loading = await ordered(adapters, sent, wait_s_max=0.01)
    with pytest.raises(EngineError, match="did not load the adapter in time"):
        await loading
    assert sent[1:] == [UnloadAdapter("v2")], "it is not kept if it comes later"
    again = await ordered(adapters, [])
    adapters.told(Adapted("v2"))
    await again


async def test_the_same_order_is_not_given_twice_at_once() -> None:
    adapters, sent = Adapters({}), list[Down]()
    loading = await ordered(adapters, sent)
    with pytest.raises(Invalid, match="is being loaded") as twice:
        await adapters.load("v2", FOLDER, sent.append, wait_s_max=1.0)
    assert twice.value.status == 409
    adapters.told(Adapted("v2"))
    await loading


async def test_without_a_worker_nobody_is_ordered() -> None:
    with pytest.raises(EngineError, match="There is no worker at the moment"):
        await Adapters({}).load("v2", FOLDER, None, wait_s_max=1.0)


def test_what_is_unloaded_is_told_to_the_worker_and_kept_from_the_next() -> None:
    adapters, sent = Adapters({"v2": FOLDER}), list[Down]()
    adapters.unload("v2", sent.append)
    adapters.unload("never", sent.append)
    assert sent == [UnloadAdapter("v2")]
    assert adapters.known == {}


def test_an_answer_that_nobody_waits_for_is_passed_over() -> None:
    Adapters({}).told(Adapted("v2"))


async def test_whoever_gives_an_order_up_lets_the_worker_forget_it() -> None:
    sent = list[Down]()
    loading = await ordered(Adapters({}), sent)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert sent[1:] == [UnloadAdapter("v2")]


async def test_a_stop_of_the_worker_ends_the_orders_to_it() -> None:
    supervisor = Supervisor(
        WorkerSpec(engine="scripted", options={}, model=None),
        SupervisorConfig(),
        now=MONOTONIC,
        log=lambda *_, **__: None,
    )
    supervisor._worker = Mock()
    loading = asyncio.create_task(supervisor.load_adapter("v2", FOLDER))
    await asyncio.sleep(0)
    await supervisor.stop()
    with pytest.raises(EngineError, match="lost while it loaded"):
        await asyncio.wait_for(loading, 1.0)
