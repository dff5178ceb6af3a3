"""Routes: who is led where, what they learn, and copies for a shadow."""

import asyncio
from collections import Counter

import pytest

from forebay.core.caller import ANONYMOUS
from forebay.core.clock import MONOTONIC, ManualClock
from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import Request, RequestId, Source
from forebay.core.request import Route as Path
from forebay.policy.rollout import RouteConfig
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lanes import Lanes, Listing, open_lane
from forebay.serve.ledger import Ledger
from forebay.serve.lifecycle import Lifecycle, State
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from forebay.serve.routes import Route, Routes
from forebay.serve.shadow import Shadows
from tests.support.engines import PuppetEngine
from tests.support.requests import a_request


def a_route(**config: object) -> Route:
    facts = {"split": "old=100"} | config
    return Route("chat", RouteConfig(**facts), 0.0)  # type: ignore[arg-type]


def a_record(
    model: str, outcome: Outcome = Outcome.OK, request: Request | None = None, via: str = "chat"
) -> RequestRecord:
    timeline = Timeline(received=0.0, first_token=0.1, ended=1.0)
    return RequestRecord(
        id=RequestId("r"),
        route=Path.CHAT_COMPLETIONS,
        model=model,
        outcome=outcome,
        status=200,
        timeline=timeline,
        request=request,
        via=via,
    )


def test_a_tenant_always_comes_to_the_same_model() -> None:
    route = a_route(split="a=50, b=50")
    assert len({route.choose("acme", None, f"r{number}") for number in range(20)}) == 1


def test_requests_of_nobody_in_particular_are_spread() -> None:
    route = a_route(split="a=50, b=50")
    found = Counter(route.choose(ANONYMOUS, None, f"r{number}") for number in range(400))
    assert 150 < found["a"] < 250


@pytest.mark.parametrize("tenant", [ANONYMOUS, "acme"])
def test_a_request_that_is_sent_again_comes_to_the_same_model(tenant: str) -> None:
    route = a_route(split="a=50, b=50", sticky="key")
    assert len({route.choose(tenant, "key-1", f"r{number}") for number in range(20)}) == 1


def test_by_key_one_tenants_requests_are_spread() -> None:
    route = a_route(split="a=50, b=50", sticky="key")
    found = Counter(route.choose("acme", f"key-{number}", "r") for number in range(400))
    assert 150 < found["a"] < 250


def test_a_candidate_gets_its_share_and_none_after_it_failed() -> None:
    log: list[tuple[str, dict[str, object]]] = []
    configs = {"chat": RouteConfig(split="old=100", candidate="new", steps="30, 100")}
    routes = Routes(
        configs, ManualClock(), lambda event, /, **facts: log.append((event, dict(facts)))
    )
    route = routes.get("chat")
    assert route is not None
    assert route.reading().shares == pytest.approx({"old": 0.7, "new": 0.3})
    for _ in range(10):
        routes(a_record("old"))
        routes(a_record("new", Outcome.ENGINE_ERROR))
    assert route.reading().shares == {"old": 1.0, "new": 0.0}
    ((event, facts),) = log
    assert (event, facts["candidate"], facts["level"]) == ("route.rolled_back", "new", "warning")
    assert "10 of 10 answers failed" in str(facts["reason"])


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.CANCELLED, Outcome.RATE_LIMITED])
def test_what_callers_did_is_not_held_against_a_candidate(outcome: Outcome) -> None:
    route = a_route(candidate="new")
    assert not any(route.saw(a_record("new", outcome), 0.0) for _ in range(50))


def test_answers_that_were_not_made_for_the_request_prove_nothing() -> None:
    route, record = a_route(candidate="new"), a_record("new", Outcome.ENGINE_ERROR)
    record.timeline.source = Source.CACHED
    assert not any(route.saw(record, 0.0) for _ in range(50))


def test_an_operator_can_begin_a_rollout_again() -> None:
    route = a_route(candidate="new", steps="30, 100")
    for _ in range(10):
        route.saw(a_record("new", Outcome.ENGINE_ERROR), 0.0)
    route.restart(1.0)
    assert route.reading().shares["new"] == 0.3


class Copying:
    """A pipeline over two models, and shadows behind it."""

    def __init__(self, **config: object) -> None:
        facts = {"split": "old=1", "shadow": "new"} | config
        self.engines = {name: PuppetEngine() for name in ("old", "new")}
        lanes = Lanes(
            [
                open_lane(name, engine, config=AdmissionConfig(), created=0, now=MONOTONIC)
                for name, engine in self.engines.items()
            ],
            listings=[Listing(name="old"), Listing(name="new", versions={"v2": "v2@1"})],
        )
        routes = Routes({"chat": RouteConfig(**facts)}, MONOTONIC, lambda *_, **__: None)  # type: ignore[arg-type]
        self.ledger = Ledger(MONOTONIC)
        self.records: list[RequestRecord] = []
        self.shadows = Shadows(routes, lanes, self.ledger, now=MONOTONIC, dice=lambda: 0.5)
        lifecycle = Lifecycle(lambda: True, retry_after_s=1.0)
        lifecycle.move(State.READY)
        hooks = (self.records.append, self.ledger, routes, self.shadows)
        self.pipeline = Pipeline(
            lifecycle=lifecycle, replay=Replay(), lanes=lanes, hooks=hooks, now=MONOTONIC
        )
        self.shadows.pipeline = self.pipeline

    async def ask(self, via: str = "chat") -> None:
        request = a_request(model="old", via=via, deadline=MONOTONIC() + 60.0, tenant="acme")
        self.ledger.opened(request.id)
        async for _ in self.pipeline.complete(request):
            pass
        self.ledger.closed(request.id)

    async def rest(self) -> None:
        while self.shadows._under_way:
            await asyncio.sleep(0)


async def test_a_request_by_a_route_with_a_shadow_is_copied_and_measured() -> None:
    copying = Copying()
    await copying.ask()
    await copying.rest()
    made = [(record.model, record.route, record.outcome) for record in copying.records]
    assert made == [
        ("old", Path.CHAT_COMPLETIONS, Outcome.OK),
        ("new", Path.SHADOW, Outcome.OK),
    ]
    assert copying.ledger.imbalance == 0
    copy = copying.records[1].request
    assert copy is not None
    assert (copy.tenant, copy.priority.name) == ("shadow", "BATCH")


async def test_a_shadow_can_be_a_version() -> None:
    copying = Copying(shadow="new:v2")
    await copying.ask()
    await copying.rest()
    copy = copying.records[1].request
    assert copy is not None
    assert (copy.model, copy.sampling.adapter) == ("new:v2", "v2@1")


async def test_other_requests_are_not_copied() -> None:
    copying = Copying()
    await copying.ask(via="")
    await copying.rest()
    assert len(copying.records) == 1


async def test_a_share_of_requests_is_copied() -> None:
    copying = Copying(shadow_ratio=0.5)
    await copying.ask()
    await copying.rest()
    assert len(copying.records) == 1


async def test_no_more_copies_run_at_once_than_may() -> None:
    copying = Copying(shadow_running_max=0)
    await copying.ask()
    assert copying.shadows.dropped == 1


async def test_a_stop_ends_the_copies_under_way_and_the_books_balance() -> None:
    copying = Copying()
    copying.engines["new"]._script = lambda _: "h"
    await copying.ask()
    await asyncio.sleep(0)
    await copying.shadows.stop()
    assert [record.outcome for record in copying.records] == [Outcome.OK, Outcome.CANCELLED]
    assert copying.ledger.imbalance == 0
    assert copying.engines["new"].held == 0
    await copying.ask()
    assert not copying.shadows._under_way, "it makes no more"
