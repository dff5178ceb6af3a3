"""What callers are told of tokens and of requests at once, over HTTP."""

import asyncio
from dataclasses import replace
from typing import Any

from forebay.core.caller import RIGHTS, Account, Caller, Level, Role
from forebay.core.clock import ManualClock
from forebay.core.errors import Outcome
from forebay.gateway.config import GatewayConfig
from forebay.serve.allowance import Allowance
from forebay.serve.cache import CacheConfig
from forebay.serve.limiter import MemoryLimiter
from forebay.serve.limits import Limits
from forebay.serve.limits_config import LimitsConfig
from forebay.serve.pipeline import Pipeline
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, Stage, a_stage, chat, hang, keys

ANN = Caller(
    tenant="acme",
    user="ann",
    rights=RIGHTS[Role.USER],
    accounts=(Account(level=Level.USER, id="ann"),),
)


def a_limited_stage(config: LimitsConfig, *acts: object) -> tuple[Stage, Allowance]:
    """Set up a gateway that holds its callers to `config`; time stands still."""
    now = ManualClock()
    limits = Limits(MemoryLimiter(config, now), config, now, closed=True)
    allowance = Allowance(limits, None, now, most=lambda _: 50)
    stage = a_stage(acts or None, credentials=keys({"ann": ANN}), limits=limits)
    pipeline = stage.gateway.pipeline
    assert isinstance(pipeline, Pipeline)
    stage.gateway.pipeline = replace(pipeline, allowance=allowance)
    stage.gateway.reconfigure(GatewayConfig(), CacheConfig())
    return stage, allowance


async def say(stage: Stage, **fields: Any) -> Exchange:
    return await ask(stage.gateway, "POST", CHAT, chat(**fields), authorization="Bearer ann")


def left(answer: Exchange) -> int:
    return int(answer.headers["x-ratelimit-remaining-tokens"])


async def test_an_answer_costs_the_tokens_that_it_took_and_no_more() -> None:
    stage, allowance = a_limited_stage(LimitsConfig(tokens="1000/minute"))
    first = await say(stage, max_tokens=500)
    used = first.json["usage"]["total_tokens"]
    second = await say(stage, max_tokens=500, stream=True)
    assert (first.status, second.status) == (200, 200)
    assert (left(first), left(second)) == (1_000, 1_000 - used)
    assert list(allowance.holdings()) == []


async def test_who_has_too_few_tokens_left_is_told_so_and_when_to_come_back() -> None:
    stage, _ = a_limited_stage(LimitsConfig(tokens="1000/minute"))
    assert (await say(stage, max_tokens=500)).status == 200
    refused = await say(stage, max_tokens=1_000)
    assert refused.status == 429
    assert refused.json["error"]["code"] == "rate_limit_exceeded"
    assert refused.json["error"]["message"].startswith("This user may use 1000 tokens per minute")
    assert 0 < int(refused.headers["retry-after-ms"]) < 10_000
    assert stage.records[-1].outcome is Outcome.RATE_LIMITED


async def test_what_never_fits_is_refused_for_good() -> None:
    stage, _ = a_limited_stage(LimitsConfig(tokens="1000/minute"))
    refused = await say(stage, max_tokens=1_001)
    assert (refused.status, refused.json["error"]["param"]) == (400, "max_tokens")
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers


async def test_only_so_many_are_made_at_once_and_who_leaves_makes_room() -> None:
    stage, allowance = a_limited_stage(LimitsConfig(concurrent_max=1), hang)
    first = asyncio.create_task(say(stage))
    while not allowance.permits:
        await asyncio.sleep(0)
    refused = await say(stage)
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    assert "may have 1 request at once" in refused.json["error"]["message"]
    first.cancel()
    await asyncio.wait({first})
    assert (allowance.permits, list(allowance.holdings())) == ({}, [])


async def test_a_call_of_several_inputs_makes_no_more_at_once_than_one_may() -> None:
    config = LimitsConfig(concurrent_max=2, requests="100/minute")
    stage, allowance = a_limited_stage(config, hang)
    body = {"model": "m", "prompts": ["x"] * 7, "max_tokens": 5}
    call = ask(stage.gateway, "POST", "/generate_batch", body, authorization="Bearer ann")
    batch = asyncio.create_task(call)
    while sum(allowance.permits.values()) < 2:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert stage.records == [], "none is refused because of the others"
    batch.cancel()
    await asyncio.wait({batch})
    assert allowance.permits == {}
