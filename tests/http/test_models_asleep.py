"""Models that are not in memory, versions that come and go, and routes, as clients meet them."""

import asyncio
import json

import pytest

from forebay.core.caller import Caller, Right
from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError, Outcome
from forebay.gateway.requesting import Requests
from forebay.policy.rollout import RouteConfig
from forebay.serve.admission import AdmissionConfig
from forebay.serve.cache import CacheConfig
from forebay.serve.credentials import Credentials
from forebay.serve.lanes import Listing, open_lane
from forebay.serve.routes import Routes
from tests.support.asgi import Exchange
from tests.support.gateways import CHAT, Stage, a_stage, chat, keys


class Sleeper:
    """A stage whose second model is loaded when the test lets it."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self.stage: Stage = a_stage(credentials=credentials)
        self.lanes = self.stage.gateway.lanes
        self.lanes.wake = self.wake
        self.lanes.offer(Listing(name="big", aliases=("gpt",), versions={"v2": "v2@1"}))
        self.waiting = 0
        self.gate = asyncio.Event()
        self.error: EngineError | None = None

    def route(self, **facts: str) -> Routes:
        """Let the name `r` lead somewhere."""
        config = RouteConfig(**facts)  # type: ignore[arg-type]
        routes = Routes({"r": config}, MONOTONIC, lambda *_, **__: None)
        gateway = self.stage.gateway
        gateway.hooks += (routes,)
        gateway.routes = routes
        gateway.reconfigure(gateway.config, CacheConfig())
        return routes

    async def wake(self, model: str, _: float) -> None:
        if self.error is not None:
            raise self.error
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        if self.lanes.get(model) is None:
            config = AdmissionConfig()
            engine = self.stage.engine
            self.lanes.add(open_lane(model, engine, config=config, created=0, now=MONOTONIC))

    def begin(self, model: str, **headers: str) -> Exchange:
        body = json.dumps(chat(model=model)).encode()
        return Exchange(self.stage.gateway, "POST", CHAT, **headers).body(body).start()

    async def ask(self, model: str, **headers: str) -> Exchange:
        exchange = self.begin(model, **headers)
        await ended(exchange)
        return exchange


async def ended(exchange: Exchange) -> None:
    assert exchange.task is not None
    async with asyncio.timeout(5):
        await exchange.task


async def test_a_client_that_leaves_while_a_model_loads_waits_no_longer() -> None:
    sleeper = Sleeper()
    exchange = sleeper.begin("gpt:v2")
    while not sleeper.waiting:
        await asyncio.sleep(0)
    exchange.leave()
    await ended(exchange)
    assert sleeper.waiting == 0
    record = sleeper.stage.record
    assert (record.outcome, record.model) == (Outcome.CANCELLED, "big:v2")
    assert sleeper.stage.ledger.imbalance == 0


async def test_a_request_waits_for_its_model_and_is_answered() -> None:
    sleeper = Sleeper()
    exchange = sleeper.begin("gpt")
    while not sleeper.waiting:
        await asyncio.sleep(0)
    sleeper.gate.set()
    await ended(exchange)
    assert (exchange.status, exchange.json["model"]) == (200, "big")


async def test_a_load_that_fails_is_recorded_under_the_models_own_name() -> None:
    sleeper = Sleeper()
    sleeper.error = EngineError("It is damaged.")
    assert (await sleeper.ask("gpt")).status == 500
    assert sleeper.stage.record.model == "big"


async def test_a_candidate_that_cannot_be_loaded_is_rolled_back() -> None:
    sleeper = Sleeper()
    sleeper.error = EngineError("It is damaged.")
    routes = sleeper.route(split="m=1", candidate="big", steps="50, 100")
    answers = [await sleeper.ask("r") for _ in range(60)]
    (route,) = routes
    assert route.reading().stage == "rolled_back"
    assert sum(answer.status == 500 for answer in answers) == 10
    assert {answer.status for answer in answers[-5:]} == {200}
    assert sleeper.stage.ledger.imbalance == 0


async def test_a_candidate_that_is_withdrawn_leaves_its_callers_to_the_others() -> None:
    sleeper = Sleeper()
    sleeper.route(split="m=1", candidate="big:v2", steps="100")
    sleeper.lanes.offer(Listing(name="big"))
    assert (await sleeper.ask("r")).json["model"] == "m"


async def test_a_candidate_that_has_everybody_keeps_them_when_another_is_withdrawn() -> None:
    sleeper = Sleeper()
    sleeper.route(split="big:v2=1", candidate="m", steps="100")
    sleeper.lanes.offer(Listing(name="big"))
    assert (await sleeper.ask("r")).json["model"] == "m"


async def test_a_route_that_leads_nowhere_any_more_says_so() -> None:
    sleeper = Sleeper()
    sleeper.route(split="big:v2=1")
    sleeper.lanes.offer(Listing(name="big"))
    assert (await sleeper.ask("r")).status == 404


async def test_a_request_knows_the_route_that_it_came_by_and_the_adapter_it_was_led_to() -> None:
    sleeper = Sleeper()
    sleeper.gate.set()
    sleeper.route(split="big:v2=1")
    await sleeper.ask("r")
    await sleeper.ask("m")
    led, named = sleeper.stage.engine.asked
    assert (led.via, led.model, led.sampling.adapter) == ("r", "big:v2", "v2@1")
    assert (named.via, named.model, named.sampling.adapter) == ("", "m", "")
    assert [record.via for record in sleeper.stage.records] == ["r", ""]


async def test_a_key_that_comes_again_is_led_to_the_same_model() -> None:
    sleeper = Sleeper()
    sleeper.gate.set()
    sleeper.route(split="m=1, big=1")
    for _ in range(20):
        await sleeper.ask("r", idempotency_key="k")
    assert len({record.model for record in sleeper.stage.records}) == 1


async def test_tenants_are_led_apart_and_each_always_to_the_same_model() -> None:
    callers = {f"key-{n}": Caller(tenant=f"t-{n}", rights=frozenset(Right)) for n in range(40)}
    sleeper = Sleeper(keys(callers))
    sleeper.gate.set()
    sleeper.route(split="m=1, big=1")
    turns = []
    for _ in range(2):
        answers = [await sleeper.ask("r", authorization=f"Bearer {key}") for key in callers]
        turns.append([answer.json["model"] for answer in answers])
    assert turns[0] == turns[1]
    assert 10 < turns[0].count("m") < 30


@pytest.mark.parametrize("again", ["v2@2", "v2@1"])
async def test_a_version_of_another_content_is_asked_for_as_such(again: str) -> None:
    lanes = Sleeper().lanes
    requests = Requests(lanes, config=a_stage().gateway.config, cache=CacheConfig())
    lanes.offer(Listing(name="m", versions={"v2": "v2@1"}))
    before = requests.offer(lanes.find("m:v2"))
    lanes.offer(Listing(name="m"))
    lanes.offer(Listing(name="m", versions={"v2": again}))
    after = requests.offer(lanes.find("m:v2"))
    assert after.adapter == again
    assert (after.fingerprint == before.fingerprint) == (again == "v2@1")
