"""`/v1/embeddings`: OpenAI's shape, a request per input, and one answer for all or none."""

import asyncio
import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from forebay.core.errors import EngineError, Invalid, Outcome
from forebay.core.request import (
    Events,
    Finished,
    Priority,
    Request,
    Route,
    Scheduled,
    Text,
    TokenIds,
    Usage,
)
from forebay.engine.protocol import Feature
from forebay.gateway.config import GatewayConfig
from tests.support.asgi import Exchange, ask
from tests.support.gateways import Stage, a_stage, hang

PATH = "/v1/embeddings"
NUMBERS = (0.6, -0.8)
VECTOR = struct.pack("<2f", *NUMBERS)


def made(tokens: int = 3) -> list[object]:
    return [Scheduled(tokens), Finished(Usage(tokens, 0), embedding=VECTOR)]


def stage_of(acts: list[object] | None = None, **facts: Any) -> Stage:
    return a_stage(made() if acts is None else acts, **facts)


async def post(stage: Stage, given: Any, headers: Any = None, **fields: Any) -> Exchange:
    body = {"model": "m", "input": given} | fields
    return await ask(stage.gateway, "POST", PATH, body, **(headers or {}))


def answering(stage: Stage, answer: Callable[[str], Any]) -> None:
    """Let the stage's engine answer each input in its own way."""
    play = stage.engine.generate

    async def generate(request: Request) -> Events:
        assert isinstance(request.prompt, Text)
        stage.engine.acts = answer(request.prompt.text)
        async for event in play(request):
            yield event

    stage.engine.generate = generate  # type: ignore[method-assign]


def error_of(exchange: Exchange) -> dict[str, Any]:
    error: dict[str, Any] = exchange.json["error"]
    return error


def outcomes(stage: Stage) -> dict[str, int]:
    balance = stage.ledger.balance()
    assert balance.imbalance == 0
    assert balance.in_flight == 0
    return {outcome.value: count for outcome, count in balance.outcomes.items() if count}


async def test_a_text_becomes_one_vector_in_openais_shape() -> None:
    stage = stage_of()
    answer = await post(stage, "a town", user="u-7")
    assert answer.status == 200
    assert answer.json == {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": 0,
                "embedding": pytest.approx(NUMBERS),
            }
        ],
        "model": "m",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    assert answer.headers["x-forebay-warning"] == "user"
    (request,) = stage.engine.asked
    assert (request.sampling.embed, request.sampling.tokens_max) == (True, 0)
    assert stage.record.id == answer.headers["x-request-id"]
    assert (stage.record.route, stage.record.outcome) == (Route.EMBEDDINGS, Outcome.OK)
    assert stage.record.usage == Usage(3, 0)
    assert outcomes(stage) == {"ok": 1}


async def test_base64_is_the_bytes_of_little_endian_float32() -> None:
    answer = await post(stage_of(), "a town", encoding_format="base64")
    assert base64.b64decode(answer.json["data"][0]["embedding"]) == VECTOR


async def test_inputs_keep_their_order_whatever_ends_first() -> None:
    stage = stage_of()
    gates = {name: asyncio.Event() for name in "abc"}
    answering(stage, lambda text: [gates[text].wait, *made(ord(text))])
    body = json.dumps({"model": "m", "input": ["a", "b", "c"]}).encode()
    exchange = Exchange(stage.gateway, "POST", PATH, x_request_id="call-7").body(body).start()
    async with asyncio.timeout(5):
        for name in "cab":
            while len(stage.engine.asked) < 3:
                await asyncio.sleep(0)
            gates[name].set()
            await asyncio.sleep(0)
        assert exchange.task is not None
        await exchange.task
    assert [entry["index"] for entry in exchange.json["data"]] == [0, 1, 2]
    assert exchange.json["usage"]["prompt_tokens"] == sum(map(ord, "abc"))
    assert {record.id for record in stage.records} == {"call-7-0", "call-7-1", "call-7-2"}
    assert {request.priority for request in stage.engine.asked} == {Priority.BATCH}
    assert outcomes(stage) == {"ok": 3}


@pytest.mark.parametrize("given", [[5, 6, 7], [[5, 6, 7]]])
async def test_token_ids_are_one_input_each_array(given: Any) -> None:
    stage = stage_of()
    answer = await post(stage, given)
    assert len(answer.json["data"]) == 1
    assert stage.engine.asked[0].prompt == TokenIds(ids=(5, 6, 7))


@pytest.mark.parametrize(
    ("given", "param", "found"),
    [
        ([], "input", "empty"),
        ("", "input", "empty"),
        (["a", "b", "c", ""], "input[3]", "empty"),
        (["a", [5, 999]], "input[1]", "from 0 to 499"),
        (["a", [5, -1]], "input[1]", "from 0 to 499"),
        (["a", []], "input[1]", "array of token ids"),
        (["a", 5], "input[1]", "a token id among texts"),
        ([5, "a"], "input", "and nothing else"),
        ([[5] * 1_001], "input[0]", "context holds 1000"),
        (["a", {"text": "b"}], "input[1]", "expected"),
        (7, "input", "expected"),
        (["a", "x" * 101], "input[1]", "101 bytes"),
    ],
)
async def test_one_bad_input_fails_the_call_and_is_named(
    given: Any, param: str, found: str
) -> None:
    stage = stage_of(config=GatewayConfig(prompt_bytes_max=100))
    answer = await post(stage, given)
    assert answer.status == 400
    assert error_of(answer)["param"] == param
    assert found in error_of(answer)["message"]
    assert stage.engine.asked == []
    assert outcomes(stage) == {"invalid": 1}


async def test_more_inputs_than_are_taken_are_refused() -> None:
    stage = stage_of(config=GatewayConfig(embedding_inputs_max=2))
    answer = await post(stage, ["a", "b", "c"])
    assert (answer.status, error_of(answer)["param"]) == (413, "input")
    assert "at most 2" in error_of(answer)["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"dimensions": 3}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"inputs": []}, "inputs"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(
    fields: dict[str, Any], param: str
) -> None:
    stage = stage_of()
    answer = await post(stage, "a", **fields)
    assert (answer.status, error_of(answer)["param"]) == (400, param)
    assert stage.engine.asked == []


@pytest.mark.parametrize("name", ["idempotency-key", "last-event-id"])
async def test_headers_that_stand_for_kept_answers_are_refused(name: str) -> None:
    answer = await post(stage_of(), "a", {name.replace("-", "_"): "17"})
    assert (answer.status, error_of(answer)["param"]) == (400, name)


async def test_a_model_that_makes_none_is_refused_with_what_can() -> None:
    stage = stage_of(supports=frozenset(Feature) - {Feature.EMBEDDINGS})
    answer = await post(stage, "a")
    assert (answer.status, error_of(answer)["param"]) == (400, "model")
    assert "acting cannot" in error_of(answer)["message"]
    assert "transformers" in error_of(answer)["message"]
    assert outcomes(stage) == {"invalid": 1}


async def test_the_engines_refusal_says_which_input_it_is_about() -> None:
    stage = stage_of()
    refusal = Invalid("input: it has 2000 tokens.", param="input")
    answering(stage, lambda text: [refusal] if text == "long" else made())
    answer = await post(stage, ["a", "b", "long"])
    assert answer.status == 400
    assert error_of(answer)["param"] == "input[2]"
    assert error_of(answer)["message"] == "input[2]: it has 2000 tokens."


async def test_a_failure_ends_the_others_and_each_has_its_record() -> None:
    stage = stage_of(config=GatewayConfig(batch_running_max=2))
    answering(stage, lambda text: [EngineError("Lost.")] if text == "b" else [hang])
    answer = await post(stage, ["a", "b", "c", "d"])
    assert (answer.status, error_of(answer)["message"]) == (500, "Lost.")
    assert stage.engine.held == 0
    assert len(stage.records) == 4
    assert outcomes(stage) == {"engine_error": 1, "cancelled": 3}


async def test_an_answer_without_a_vector_is_the_engines_failure() -> None:
    answer = await post(stage_of([Scheduled(3), Finished(Usage(3, 0))]), "a")
    assert (answer.status, error_of(answer)["code"]) == (500, "engine_error")


async def test_a_client_that_leaves_ends_them_all() -> None:
    stage = stage_of([Scheduled(3), hang], config=GatewayConfig(batch_running_max=2))
    body = json.dumps({"model": "m", "input": ["a", "b", "c"]}).encode()
    exchange = Exchange(stage.gateway, "POST", PATH).body(body).start()
    async with asyncio.timeout(5):
        while stage.engine.held < 2:
            await asyncio.sleep(0)
        exchange.leave()
        assert exchange.task is not None
        await exchange.task
    assert stage.engine.held == 0
    assert outcomes(stage) == {"cancelled": 3}


async def test_no_more_than_the_limit_are_at_the_door_at_once() -> None:
    stage = stage_of([Scheduled(1), hang], config=GatewayConfig(batch_running_max=2))
    body = json.dumps({"model": "m", "input": list("abcdef")}).encode()
    exchange = Exchange(stage.gateway, "POST", PATH).body(body).start()
    async with asyncio.timeout(5):
        while stage.engine.held < 2:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert stage.engine.held == 2
        assert stage.ledger.balance().in_flight == 6
        exchange.leave()
        assert exchange.task is not None
        await exchange.task
    assert outcomes(stage) == {"cancelled": 6}


async def test_a_deadline_ends_it() -> None:
    stage = stage_of([Scheduled(1), hang])
    answer = await post(stage, "a", {"x_request_timeout": "0.05"})
    assert answer.status == 504
    assert outcomes(stage) == {"timed_out": 1}


async def test_capabilities_say_whether_a_model_makes_them() -> None:
    for supports, verdict in (
        (frozenset(Feature), "honoured"),
        (frozenset(Feature) - {Feature.EMBEDDINGS}, "refused"),
    ):
        stage = stage_of(supports=supports)
        rows = (await stage.get("/v1/capabilities")).json["models"]["m"]["endpoints"][PATH]
        assert rows["input"]["verdict"] == verdict
        assert rows["dimensions"]["verdict"] == "refused"
