"""Several workers as one engine: what they are together.  Losses are in tests/sim/test_failover."""

import asyncio
import dataclasses

import pytest

from forebay.core.clock import ManualClock
from forebay.core.request import Delta, Event, Events
from forebay.core.visit import Visit
from forebay.engine.protocol import EngineInfo
from forebay.engine.supervisor import SupervisorConfig
from forebay.policy.step_costs import StepCosts
from forebay.serve.replicas import Replicas
from tests.support.requests import a_request
from tests.support.simulated_worker import SimulatedWorker
from tests.support.virtual_time import run_virtually

COSTS = StepCosts(step_s=0.01, sequence_s=0.004, read_s=0.002)


class MeasuredWorker(SimulatedWorker):
    """Knows what a step costs it."""

    @property
    def info(self) -> EngineInfo:
        return dataclasses.replace(super().info, running_max=8, costs=COSTS)


async def started(workers: list[SimulatedWorker]) -> EngineInfo:
    engine = Replicas(workers, SupervisorConfig(), now=ManualClock())
    await engine.start()
    info = engine.info
    await engine.stop()
    return info


async def test_workers_run_as_many_sequences_together_as_each_of_them_added_up() -> None:
    clock = ManualClock()
    assert (await started([MeasuredWorker(clock) for _ in range(3)])).running_max == 24


@pytest.mark.parametrize("count", [1, 4])
async def test_what_sequences_and_prompts_cost_is_spread_over_the_workers(count: int) -> None:
    costs = (await started([MeasuredWorker(ManualClock()) for _ in range(count)])).costs
    expected = StepCosts(step_s=0.01, sequence_s=0.004 / count, read_s=0.002 / count)
    assert costs == expected


async def test_what_no_worker_has_measured_is_not_known_of_all() -> None:
    clock = ManualClock()
    assert (await started([SimulatedWorker(clock), SimulatedWorker(clock)])).costs is None


def test_who_had_a_request_and_why_it_moved_is_noted_on_its_visit() -> None:
    visit = Visit(id="r", method="POST", path="/", received=0.0)

    async def play() -> None:
        now = asyncio.get_running_loop().time
        workers = [SimulatedWorker(now), SimulatedWorker(now)]
        engine = Replicas(workers, SupervisorConfig(), now=now)
        await engine.start()
        reading = asyncio.create_task(collect(engine.generate(a_request("a b c", visit=visit))))
        await asyncio.sleep(0.01)
        workers[0].die()
        await asyncio.sleep(10.0)
        while not reading.done():
            workers[1].turn(mute=False)
            await asyncio.sleep(0.01)
        assert "".join(event.text for event in reading.result() if isinstance(event, Delta))
        await engine.stop()

    run_virtually(play())
    assert (visit.workers, visit.failovers) == ((0, 1), ("gone",))


async def collect(events: Events) -> list[Event]:
    return [event async for event in events]
