"""The order in which a request is screened, charged, let in, watched and settled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from forebay.core.caller import Account, Caller, Level
from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError, Outcome, OverBudget, Refused
from forebay.core.record import RequestRecord
from forebay.core.request import Delta, Event, Events, Finished, Request, RequestId, Scheduled
from forebay.serve.admission import AdmissionConfig
from forebay.serve.allowance import Allowance, Spending
from forebay.serve.lanes import Lanes, open_lane
from forebay.serve.lifecycle import Lifecycle
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from forebay.serve.screening import Screening
from tests.support.engines import PuppetEngine
from tests.support.requests import a_request

ANN = Caller(user="ann", accounts=(Account(level=Level.USER, id="ann"),))


class House:
    """A pipeline, and steps that its guard and its allowance note as they come."""

    def __init__(self, script: str = "ddf") -> None:
        self.records: list[RequestRecord] = []
        self.steps: list[str] = []
        self.seen: list[Event] = []
        self.asked: list[Request] = []
        self.refuses: Exception | None = None
        self.poor = False
        self.engine = PuppetEngine(self._script_of(script), running_max=1)
        config = AdmissionConfig()
        self.lane = open_lane("m", self.engine, config=config, created=0, now=MONOTONIC)
        self.pipeline = Pipeline(
            lifecycle=Lifecycle(lambda: True, retry_after_s=1.0),
            replay=Replay(),
            lanes=Lanes([self.lane]),
            hooks=(self.records.append,),
            now=MONOTONIC,
            allowance=cast("Allowance", self),
            screening=cast("Screening", self),
        )

    def _script_of(self, script: str) -> Any:
        def script_of(request: Request) -> str:
            self.asked.append(request)
            return script

        return script_of

    async def admitted(self, request: Request) -> Request:
        self.steps.append("screened")
        if self.refuses is not None:
            raise self.refuses
        return replace(request, imprint="screened")

    async def watched(self, request: Request, events: Events) -> Events:
        assert request.imprint == "screened"
        self.steps.append("watched")
        async with aclosing(events):
            async for event in events:
                yield event
        self.steps.append("watched to the end")

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[Spending]:
        assert request.imprint == "screened"
        self.steps.append("taken")
        if self.poor:
            raise OverBudget("It is spent.")
        try:
            yield self
        finally:
            self.steps.append("settled")

    def saw(self, event: Event, /) -> None:
        self.seen.append(event)

    async def read(self, **facts: Any) -> list[Event]:
        now = MONOTONIC()
        request = a_request(**({"received": now, "deadline": now + 60.0, "caller": ANN} | facts))
        async with aclosing(self.pipeline.complete(request)) as events:
            return [event async for event in events]


async def test_a_request_is_screened_charged_made_watched_and_settled_in_that_order() -> None:
    house = House()
    await house.read()
    wanted = ["screened", "taken", "watched", "watched to the end", "settled"]
    assert house.steps == wanted
    assert [request.imprint for request in house.asked] == ["screened"]


async def test_whatever_an_engine_says_is_seen_by_who_settles_it() -> None:
    house = House()
    told = await house.read()
    assert [type(event) for event in house.seen] == [Scheduled, Delta, Delta, Finished]
    assert isinstance(told[-1], Finished)
    broken = House("de")
    with pytest.raises(EngineError):
        await broken.read()
    assert [type(event) for event in broken.seen] == [Scheduled, Delta]
    assert broken.steps[-1] == "settled"


async def test_a_prompt_that_is_refused_is_charged_to_nobody_and_asked_of_no_engine() -> None:
    house = House()
    house.refuses = Refused("x", param="messages")
    with pytest.raises(Refused):
        await house.read()
    assert house.steps == ["screened"]
    assert not house.asked


async def test_who_has_nothing_to_spend_is_told_so_before_it_waits_for_a_place() -> None:
    house = House("h")
    first = asyncio.create_task(house.read())
    while not house.asked:
        await asyncio.sleep(0)
    house.poor = True
    async with asyncio.timeout(5):
        with pytest.raises(OverBudget):
            await house.read(id=RequestId("req-2"))
    assert house.lane.admission.load.waiting == 0
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert house.steps[-1] == "settled"


async def test_a_record_says_who_asked() -> None:
    house = House()
    await house.read()
    (record,) = house.records
    assert record.caller is ANN
    assert record.outcome is Outcome.OK
