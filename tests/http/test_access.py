"""Who is let in in the closed mode, and to what."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from forebay.core.caller import RIGHTS, Account, Caller, Level, Role
from forebay.core.clock import ManualClock
from forebay.core.errors import Outcome
from forebay.serve.limiter import MemoryLimiter
from forebay.serve.limits import Limits
from forebay.serve.limits_config import LimitsConfig
from tests.support.asgi import ask
from tests.support.gateways import CHAT, Stage, a_stage, chat, keys

USER = Caller(
    tenant="acme",
    user="ann",
    key_id="k1",
    rights=RIGHTS[Role.USER],
    accounts=(Account(level=Level.USER, id="ann"),),
)
KEYS = {
    "user": USER,
    "none": replace(USER, models=frozenset({"other"})),
    "version": replace(USER, models=frozenset({"m:v1"})),
    "ended": replace(USER, expires=1.0),
    "reader": Caller(rights=RIGHTS[Role.METRICS_READER]),
}


def a_closed_stage() -> Stage:
    return a_stage(local=True, credentials=keys(KEYS))


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/health"])
async def test_probes_ask_for_nothing(path: str) -> None:
    assert (await a_closed_stage().get(path)).status == 200


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/docs", "/openapi.json", "/v1/models", "/models", "/nothing", "/admin/ledger"],
)
async def test_everything_else_asks_for_a_credential_also_where_there_is_nothing(path: str) -> None:
    answer = await a_closed_stage().get(path)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_who_shows_nothing_does_not_learn_which_methods_there_are() -> None:
    answer = await ask(a_closed_stage().gateway, "GET", CHAT)
    assert answer.status == 401
    assert "allow" not in answer.headers


async def test_a_body_is_not_read_before_its_sender_is_let_in() -> None:
    stage = a_closed_stage()
    answer = await ask(stage.gateway, "POST", CHAT, b"{", authorization="Bearer wrong")
    assert answer.status == 401
    assert stage.record.outcome is Outcome.UNAUTHENTICATED
    assert answer.json["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    "headers", [bearer("user"), {"x_api_key": "user"}, bearer("user") | {"x_api_key": "user"}]
)
async def test_a_key_is_taken_from_either_header(headers: dict[str, str]) -> None:
    stage = a_closed_stage()
    answer = await ask(stage.gateway, "POST", CHAT, chat(), **headers)
    assert answer.status == 200
    assert stage.engine.asked[0].tenant == "acme"
    assert stage.record.caller == USER


async def test_two_credentials_that_differ_are_refused() -> None:
    stage = a_closed_stage()
    answer = await ask(stage.gateway, "POST", CHAT, chat(), x_api_key="reader", **bearer("user"))
    assert answer.status == 401
    assert "differ" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "given", ["Bearer ", "Basic dXNlcg==", "user", "Bearer ended", "Bearer " + "x" * 9_000]
)
async def test_what_is_no_credential_of_ours_is_refused(given: str) -> None:
    stage = a_closed_stage()
    answer = await ask(stage.gateway, "POST", CHAT, chat(), authorization=given)
    assert answer.status == 401
    assert not stage.engine.asked


async def test_a_credential_without_the_routes_right_is_told_which_it_is() -> None:
    stage = a_closed_stage()
    answer = await ask(stage.gateway, "POST", CHAT, chat(), **bearer("reader"))
    assert answer.status == 403
    assert "'infer'" in answer.json["error"]["message"]
    assert (await stage.get("/metrics", **bearer("reader"))).status == 200
    assert (await stage.get("/metrics", **bearer("user"))).status == 403


@pytest.mark.parametrize("key", ["none", "version"])
async def test_a_model_that_is_not_the_callers_is_as_unknown_as_any_other(key: str) -> None:
    stage = a_closed_stage()
    answers = [
        await ask(stage.gateway, "POST", CHAT, chat(model=model), **bearer(key))
        for model in ("m", "nowhere")
    ]
    assert [answer.status for answer in answers] == [404, 404]
    assert answers[0].json == answers[1].json
    assert not stage.engine.asked


async def test_a_caller_sees_the_models_that_it_may_ask() -> None:
    stage = a_closed_stage()
    for key, seen in (("user", ["m"]), ("none", [])):
        listed: dict[str, Any] = (await stage.get("/v1/models", **bearer(key))).json
        assert [each["id"] for each in listed["data"]] == seen
        known = (await stage.get("/models", **bearer(key))).json
        assert [each["base_model"] for each in known["models"]] == seen
        status = (await stage.get("/v1/models/m", **bearer(key))).status
        assert status == (200 if seen else 404)


async def test_an_answer_is_read_on_by_its_tenant_alone() -> None:
    stage = a_closed_stage()
    answer = await stage.get("/v1/streams/chatcmpl-x")
    assert answer.status == 401
    assert (await stage.get("/v1/streams/chatcmpl-x", **bearer("user"))).status == 404


async def test_many_who_show_the_same_unknown_key_are_all_refused() -> None:
    stage = a_closed_stage()
    found = await asyncio.gather(
        *(ask(stage.gateway, "POST", CHAT, chat(), **bearer("wrong")) for _ in range(20))
    )
    assert {answer.status for answer in found} == {401}
    assert stage.ledger.imbalance == 0


def a_limited_stage(**limits: str) -> Stage:
    config = LimitsConfig(**limits)  # type: ignore[arg-type]  # those that are rates
    now = ManualClock()
    limits_kept = Limits(MemoryLimiter(config, now), config, now, closed=True)
    return a_stage(local=True, credentials=keys(KEYS), limits=limits_kept)


async def test_who_asks_too_often_is_told_when_to_come_back() -> None:
    stage = a_limited_stage(requests="2/minute")
    answers = [await ask(stage.gateway, "POST", CHAT, chat(), **bearer("user")) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == list("100")
    refused = answers[-1]
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert 30_000 <= int(refused.headers["retry-after-ms"]) <= 30_010
    assert refused.headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert stage.records[-1].outcome is Outcome.RATE_LIMITED


async def test_a_batch_counts_as_many_requests_as_it_holds() -> None:
    stage = a_limited_stage(requests="4/minute")
    batch = {"prompts": ["a", "b", "c"]}
    answers = [
        await ask(stage.gateway, "POST", "/generate_batch", batch, **bearer("user"))
        for _ in range(2)
    ]
    assert [answer.status for answer in answers] == [200, 429]
    too_many = {"prompts": ["x"] * 6}
    answer = await ask(
        a_limited_stage(requests="4/minute").gateway,
        "POST",
        "/generate_batch",
        too_many,
        **bearer("user"),
    )
    assert answer.status == 400
    assert "never fits" in answer.json["detail"]


async def test_strangers_probe_health_only_so_often_and_callers_as_they_like() -> None:
    stage = a_limited_stage()
    found = [(await stage.get("/health")).status for _ in range(11)]
    assert found == [200] * 10 + [429]
    assert (await stage.get("/livez")).status == 200
    assert (await stage.get("/health", **bearer("user"))).status == 200


async def test_an_operator_is_never_too_many() -> None:
    stage = a_limited_stage(requests="1/minute")
    found = [(await stage.get("/metrics", **bearer("reader"))).status for _ in range(3)]
    assert found == [200] * 3
