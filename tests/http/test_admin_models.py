"""What an operator asks and orders of models, versions and routes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import Invalid
from forebay.gateway.access import Access
from forebay.gateway.admin_models import Fleet
from forebay.gateway.edge import Gateway
from forebay.policy.rollout import RouteConfig
from forebay.serve.lanes import Listing
from forebay.serve.model import Model
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from forebay.serve.routes import Routes
from forebay.serve.versions import Versions
from tests.support.asgi import Exchange, ask
from tests.support.engines import PuppetEngine
from tests.support.gateways import Stage, a_stage
from tests.unit.serve.test_residency import Shelf

HOST = {"host": "127.0.0.1:8000"}


def take_in(base: Path, source: str) -> Path:
    if source == "file:/bad":
        raise Invalid("source: the adapter is for another model.", param="source")
    return Path("/cache/adapters/0123456789abcdef")


class Fort:
    """A gateway whose operator has two models and a route."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        for name in ("a", "b"):
            model = Model(
                listing=Listing(name=name, engine="puppet", aliases=(f"{name}-alias",)),
                make=lambda _: PuppetEngine(),
                folder=Path("/models"),
            )
            self.shelf.residency.offer(model)
        lanes = self.shelf.lanes
        routes = Routes(
            {
                "r": RouteConfig(split="a=1", candidate="b", steps="10, 100"),
                "plain": RouteConfig(split="a=1"),
            },
            MONOTONIC,
            lambda *_, **__: None,
        )
        versions = Versions(
            self.shelf.residency,
            lanes,
            take_in=take_in,
            log=lambda *_, **__: None,
            known=lambda _: None,
            versions_max=8,
        )
        self.stage: Stage = a_stage(local=True)
        self.stage.gateway.admin.fleet = Fleet(
            lanes=lanes,
            residency=self.shelf.residency,
            versions=versions,
            routes=routes,
            now=MONOTONIC,
        )

    async def order(self, path: str, **fields: Any) -> Exchange:
        return await ask(self.stage.gateway, "POST", path, fields, **HOST)

    async def page(self, path: str) -> Any:
        return (await self.stage.get(path, **HOST)).json


async def test_every_model_on_offer_is_told_in_memory_or_not() -> None:
    fort = Fort()
    await fort.order("/admin/models/load", model="a")
    first, second = (await fort.page("/admin/models"))["models"]
    assert (first["id"], first["loaded"], first["engine"]) == ("a", True, "puppet")
    assert (second["id"], second["loaded"], second["aliases"]) == ("b", False, ["b-alias"])


async def test_a_model_is_loaded_and_unloaded_as_ordered() -> None:
    fort = Fort()
    assert (await fort.order("/admin/models/load", model="a")).json == {"done": "a is in memory"}
    assert fort.shelf.resident == ["a"]
    left = await fort.order("/admin/models/unload", model="a")
    assert left.json == {"done": "a has left memory"}
    assert fort.shelf.resident == []
    again = await fort.order("/admin/models/unload", model="a")
    assert again.json == {"done": "a was not in memory"}


async def test_a_version_comes_on_offer_and_is_withdrawn() -> None:
    fort = Fort()
    added = await fort.order("/admin/versions/add", model="a", version="v2", source="file:/x")
    assert added.json == {"done": "a:v2 is on offer"}
    assert (await fort.page("/admin/models"))["models"][0]["versions"] == ["v2"]
    removed = await fort.order("/admin/versions/remove", model="a", version="v2")
    assert removed.json == {"done": "a:v2 is withdrawn"}


async def test_a_route_tells_where_it_leads_and_begins_again() -> None:
    fort = Fort()
    route, _ = (await fort.page("/admin/routes"))["routes"]
    assert route["shares"] == {"a": 0.9, "b": 0.1}
    assert route["stage"] == "ramping"
    begun = await fort.order("/admin/routes/restart", route="r")
    assert begun.json == {"done": "the rollout of r begins again"}


@pytest.mark.parametrize(
    ("path", "fields", "status", "words"),
    [
        (
            "/admin/models/load",
            {"model": "z"},
            404,
            "there is none of that name. Served: a, b.",
        ),
        ("/admin/models/unload", {}, 400, "model: missing"),
        ("/admin/models/load", {"model": "a", "now": True}, 400, "now: there is no such parameter"),
        ("/admin/versions/add", {"model": "a", "version": "v"}, 400, "source: missing"),
        (
            "/admin/versions/add",
            {"model": "a", "version": "v", "source": "file:/bad"},
            400,
            "source: the adapter is for another model.",
        ),
        ("/admin/versions/remove", {"model": "a", "version": "v"}, 404, "no version of that name"),
        ("/admin/routes/restart", {"route": "z"}, 404, "route: there is none of that name"),
        ("/admin/routes/restart", {"route": "plain"}, 409, "route: plain has no candidate"),
    ],
)
async def test_an_order_that_cannot_be_carried_out_names_the_field_and_the_fix(
    path: str, fields: dict[str, Any], status: int, words: str
) -> None:
    refused = await Fort().order(path, **fields)
    assert refused.status == status
    assert words in json.dumps(refused.json)


async def test_orders_are_for_the_operator_alone() -> None:
    fort = Fort()
    fort.stage.gateway.access = Access(local=False)
    assert (await fort.order("/admin/models/load", model="a")).status == 403
    assert fort.shelf.resident == []


async def test_models_are_listed_in_memory_or_not_with_versions_and_routes() -> None:
    fort = Fort()
    await fort.order("/admin/versions/add", model="a", version="v2", source="file:/x")
    gateway = a_gateway_of(fort)
    found = (await ask(gateway, "GET", "/v1/models")).json["data"]
    assert [each["id"] for each in found] == ["a", "a:v2", "b", "r", "plain"]
    for asked, name in (("a-alias:v2", "a:v2"), ("b", "b"), ("r", "r")):
        assert (await ask(gateway, "GET", f"/v1/models/{asked}")).json["id"] == name
    assert (await ask(gateway, "GET", "/v1/models/c")).status == 404


async def test_what_a_model_can_do_is_told_once_it_is_in_memory() -> None:
    fort = Fort()
    await fort.order("/admin/models/load", model="a")
    models = (await ask(a_gateway_of(fort), "GET", "/v1/capabilities")).json["models"]
    assert models["a"]["engine"] == "puppet"
    assert models["b"] == {"engine": "puppet", "loaded": False}


async def test_whoever_asks_for_a_model_that_is_asleep_waits_for_it() -> None:
    fort = Fort()
    body = {"model": "a-alias", "messages": [{"role": "user", "content": "hello"}]}
    answer = await ask(a_gateway_of(fort), "POST", "/v1/chat/completions", body)
    assert (answer.status, answer.json["model"]) == (200, "a")
    assert fort.shelf.resident == ["a"]


def a_gateway_of(fort: Fort) -> Gateway:
    """Return a gateway to the fort's own models."""
    stage, lanes, fleet = fort.stage, fort.shelf.lanes, fort.stage.gateway.admin.fleet
    assert fleet is not None
    pipeline = Pipeline(
        lifecycle=stage.lifecycle,
        replay=Replay(),
        lanes=lanes,
        hooks=(stage.ledger,),
        now=MONOTONIC,
    )
    return replace(stage.gateway, pipeline=pipeline, lanes=lanes, routes=fleet.routes)
