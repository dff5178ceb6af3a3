"""Storms of requests through the real pipeline: each ends once, and nothing is held after."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing

import pytest
import uvloop

from forebay.core.clock import MONOTONIC
from forebay.core.errors import Outcome, ServingError
from forebay.core.record import RequestRecord
from forebay.core.request import Delta, Request, RequestId
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lanes, open_lane
from forebay.serve.lifecycle import Lifecycle, State
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from tests.support.engines import PuppetEngine
from tests.support.requests import a_request
from tests.support.seeds import seeds

STORMS, REQUESTS = 20, 80
SCRIPTS = ("ddf", "dpdpdf", "pppdf", "f", "e", "dpe", "b", "h", "dh", "dd", "ppdddddf")
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [
    asyncio.new_event_loop,
    uvloop.new_event_loop,
]


class Storm:
    """Clients that come at random, leave at random, and an engine that fails at random."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.records: list[RequestRecord] = []
        self.scripts = {f"r{i}": self.dice.choice(SCRIPTS) for i in range(REQUESTS)}
        self.engine = PuppetEngine(lambda request: self.scripts[request.id])
        config = AdmissionConfig(running_max=3, waiting_max=10, wait_s_max=0.02)
        self.lane = open_lane("m", self.engine, config=config, created=0, now=MONOTONIC)
        self.lifecycle = Lifecycle(lambda: True, retry_after_s=1.0)
        self.lifecycle.move(State.READY)
        self.pipeline = Pipeline(
            lifecycle=self.lifecycle,
            replay=Replay(),
            lanes=Lanes([self.lane]),
            hooks=(self.records.append,),
            now=MONOTONIC,
        )
        self.began: list[str] = []

    async def blow(self) -> None:
        clients = [asyncio.create_task(self.client(f"r{i}")) for i in range(REQUESTS)]
        for client in clients:
            if self.dice.random() < 0.3:
                await asyncio.sleep(self.dice.random() * 0.002)
                client.cancel()
        async with asyncio.timeout(20):
            await asyncio.gather(*clients, return_exceptions=True)

    async def client(self, name: str) -> None:
        await asyncio.sleep(self.dice.random() * 0.01)
        reads_max = self.dice.choice((0, 1, 2, 100, 100, 100))
        with contextlib.suppress(ServingError, ZeroDivisionError):
            async with aclosing(self.pipeline.complete(self.request(name))) as events:
                if reads_max == 0:
                    return
                self.began.append(name)
                async for event in events:
                    reads_max -= isinstance(event, Delta)
                    if reads_max <= 0:
                        return

    def request(self, name: str) -> Request:
        now = MONOTONIC()
        deadline = now + self.dice.choice((0.001, 0.01, 0.03))
        return a_request(
            id=RequestId(name),
            received=now,
            deadline=deadline,
            choices=self.dice.choice((1, 1, 2, 4)),
        )

    def check(self) -> None:
        counts = Counter(str(record.id) for record in self.records)
        assert counts == Counter(self.began), "a request without exactly one record"
        load = self.lane.admission.load
        assert (load.running, load.waiting, load.places_taken) == (0, 0, 0), "places held at rest"
        assert self.engine.held == 0, "streams held at rest"
        assert self.lifecycle.present == 0, "somebody is still counted as present"
        for record in self.records:
            script = self.scripts[record.id]
            if record.outcome is Outcome.INTERNAL_ERROR:
                assert "b" in script, "a defect that no script asked for"
            if record.outcome is Outcome.OK:
                assert script.endswith("f"), "ok without a finish"


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
def test_every_request_of_a_storm_ends_once_and_holds_nothing(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    outcomes: Counter[Outcome] = Counter()
    for seed in seeds(STORMS):
        with asyncio.Runner(loop_factory=new_loop) as runner:
            storm = Storm(seed)
            runner.run(storm.blow())
            storm.check()
            outcomes.update(record.outcome for record in storm.records)
    endings = {Outcome.OK, Outcome.CANCELLED, Outcome.OVERLOADED, Outcome.EXPIRED}
    endings |= {Outcome.TIMED_OUT, Outcome.ENGINE_ERROR, Outcome.INTERNAL_ERROR}
    assert endings <= set(outcomes), f"the storms were too mild: {outcomes}"
