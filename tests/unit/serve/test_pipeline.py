import asyncio
import weakref
from contextlib import aclosing
from typing import Any

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError, Outcome, UnknownModel
from forebay.core.record import RequestRecord
from forebay.core.request import Event, Finished, Request
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lanes, open_lane
from forebay.serve.lifecycle import Lifecycle, State
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from tests.support.engines import PuppetEngine
from tests.support.requests import a_request


class Bench:
    """A pipeline over a puppet, and the records it wrote."""

    def __init__(self, script: str = "ddf") -> None:
        self.records: list[RequestRecord] = []
        self.engine = PuppetEngine(lambda _: script)
        self.lifecycle = Lifecycle(lambda: True, retry_after_s=1.0)
        config = AdmissionConfig()
        self.lane = open_lane("m", self.engine, config=config, created=0, now=MONOTONIC)
        self.pipeline = Pipeline(
            lifecycle=self.lifecycle,
            replay=Replay(),
            lanes=Lanes([self.lane]),
            hooks=(self.records.append,),
            now=MONOTONIC,
        )

    async def read(self, request: Request) -> list[Event]:
        async with aclosing(self.pipeline.complete(request)) as events:
            return [event async for event in events]

    def only_record(self) -> RequestRecord:
        assert len(self.records) == 1
        return self.records[0]


def a_fresh_request(**facts: Any) -> Request:
    now = MONOTONIC()
    return a_request(**({"received": now, "deadline": now + 60.0} | facts))


async def test_a_finished_completion_is_ok_and_carries_its_usage() -> None:
    bench = Bench()
    events = await bench.read(a_fresh_request())
    record = bench.only_record()
    assert isinstance(events[-1], Finished)
    assert record.outcome is Outcome.OK
    assert record.usage is not None
    assert record.usage.completion_tokens == 1


async def test_the_stations_of_a_request_are_in_order() -> None:
    bench = Bench()
    await bench.read(a_fresh_request())
    line = bench.only_record().timeline
    moments = [line.received, line.admitted, line.scheduled, line.first_token, line.last_token]
    known = [moment for moment in [*moments, line.ended] if moment is not None]
    assert len(known) == 6
    assert known == sorted(known)


async def test_a_stream_without_an_end_is_an_engine_error() -> None:
    bench = Bench("dd")
    with pytest.raises(EngineError):
        await bench.read(a_fresh_request())
    assert bench.only_record().outcome is Outcome.ENGINE_ERROR


async def test_a_defect_is_recorded_as_ours() -> None:
    bench = Bench("b")
    with pytest.raises(ZeroDivisionError):
        await bench.read(a_fresh_request())
    assert bench.only_record().outcome is Outcome.INTERNAL_ERROR
    assert bench.only_record().status == 500


@pytest.mark.usefixtures("no_collector")
async def test_an_error_is_gone_once_it_was_told() -> None:
    bench, told = Bench("de"), list[weakref.ref[EngineError]]()
    try:
        await bench.read(a_fresh_request())
    except EngineError as error:
        told.append(weakref.ref(error))
    assert [error() for error in told] == [None]


async def test_an_unknown_model_is_told_which_there_are() -> None:
    bench = Bench()
    with pytest.raises(UnknownModel, match="Served: m"):
        await bench.read(a_fresh_request(model="gpt-9"))
    assert bench.only_record().outcome is Outcome.UNKNOWN_MODEL


async def test_while_draining_a_request_ends_as_draining() -> None:
    bench = Bench()
    bench.lifecycle.move(State.DRAINING)
    with pytest.raises(Exception, match="stopping"):
        await bench.read(a_fresh_request())
    assert bench.only_record().outcome is Outcome.DRAINING


async def test_a_deadline_that_passes_while_waiting_is_timed_out_not_expired() -> None:
    bench = Bench("h")
    readers = [asyncio.create_task(bench.read(a_fresh_request())) for _ in range(4)]
    await asyncio.sleep(0.01)
    with pytest.raises(Exception, match="deadline"):
        await bench.read(a_fresh_request(deadline=MONOTONIC() + 0.01))
    assert bench.only_record().outcome is Outcome.TIMED_OUT
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert bench.engine.held == 0
    assert {record.outcome for record in bench.records[1:]} == {Outcome.CANCELLED}


async def test_the_place_is_given_back_before_the_end_is_told() -> None:
    bench = Bench()
    async with aclosing(bench.pipeline.complete(a_fresh_request())) as events:
        async for event in events:
            running = bench.lane.admission.load.running
            assert running == (0 if isinstance(event, Finished) else 1), event


async def test_lanes_are_pressed_while_somebody_waits_for_a_place() -> None:
    bench = Bench("h")
    lanes = Lanes([bench.lane])
    assert not lanes.is_pressed()
    readers = [asyncio.create_task(bench.read(a_fresh_request())) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert bench.lane.admission.load.waiting == 1
    assert lanes.is_pressed()
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    assert not lanes.is_pressed()
