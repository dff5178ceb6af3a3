"""Each way in which a request can end, over HTTP: status, headers, body, one record."""

import asyncio
import json

import pytest

from forebay.core.errors import OUTCOMES, EngineError, Invalid, Outcome
from forebay.core.request import Delta, Scheduled
from forebay.gateway import encoding
from forebay.gateway.config import GatewayConfig
from forebay.serve.admission import AdmissionConfig
from forebay.serve.lifecycle import State
from tests.support.asgi import Exchange
from tests.support.gateways import CHAT, Stage, a_stage, chat, hang, said


def error_of(exchange: Exchange) -> dict[str, object]:
    """Return the error, having checked that it has OpenAI's shape and nothing more."""
    assert set(exchange.json) == {"error"}
    error: dict[str, object] = exchange.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert exchange.headers["content-type"] == "application/json"
    return error


def check(stage: Stage, exchange: Exchange, outcome: Outcome) -> None:
    """Check an ending against the table."""
    ending = OUTCOMES[outcome]
    assert exchange.status == ending.status
    assert error_of(exchange)["code"] == ending.code
    assert error_of(exchange)["type"] == ending.type
    assert stage.record.outcome is outcome
    assert stage.record.status == exchange.status
    assert stage.record.error == error_of(exchange)["message"]


async def test_outcome_ok() -> None:
    stage = a_stage()
    assert (await stage.chat()).status == 200
    assert stage.record.outcome is Outcome.OK


async def test_outcome_invalid() -> None:
    stage = a_stage()
    answer = await stage.chat(temperature=9)
    check(stage, answer, Outcome.INVALID)
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert stage.record.request is None


async def test_outcome_invalid_from_the_engine() -> None:
    stage = a_stage([Invalid("messages: 2000 tokens.", param="messages")])
    answer = await stage.chat(stream=True)
    check(stage, answer, Outcome.INVALID)
    assert error_of(answer)["param"] == "messages"


async def test_outcome_unknown_model() -> None:
    stage = a_stage()
    answer = await stage.chat(model="gpt-9")
    check(stage, answer, Outcome.UNKNOWN_MODEL)
    assert error_of(answer)["param"] == "model"
    assert "m" in str(error_of(answer)["message"])
    assert stage.record.model == ""


async def test_outcome_overloaded_is_a_503_and_never_a_200() -> None:
    stage = a_stage([hang], admission=AdmissionConfig(running_max=1, waiting_max=0))
    first = Exchange(stage.gateway, "POST", CHAT).body(json.dumps(chat()).encode()).start()
    while not stage.engine.held:
        await asyncio.sleep(0)
    answer = await stage.chat(stream=True)
    check(stage, answer, Outcome.OVERLOADED)
    assert int(answer.headers["retry-after"]) >= 1
    assert int(answer.headers["retry-after-ms"]) >= 1
    assert answer.headers["x-should-retry"] == "true"
    first.leave()
    assert first.task is not None
    await first.task


async def test_outcome_expired() -> None:
    stage = a_stage([hang], admission=AdmissionConfig(running_max=1, wait_s_max=0.02))
    first = Exchange(stage.gateway, "POST", CHAT).body(json.dumps(chat()).encode()).start()
    while not stage.engine.held:
        await asyncio.sleep(0)
    answer = await stage.chat(stream=True)
    check(stage, answer, Outcome.EXPIRED)
    assert answer.headers["x-should-retry"] == "true"
    first.leave()
    assert first.task is not None
    await first.task


async def test_outcome_draining_sends_the_client_elsewhere() -> None:
    stage = a_stage(state=State.DRAINING)
    answer = await stage.chat()
    check(stage, answer, Outcome.DRAINING)
    assert answer.headers["retry-after"] == "2"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_outcome_timed_out(stream: bool) -> None:
    stage = a_stage([Scheduled(1), hang], config=GatewayConfig(request_s_max=0.1))
    answer = await stage.chat(stream=stream)
    check(stage, answer, Outcome.TIMED_OUT)
    assert answer.headers["x-should-retry"] == "false"
    assert stage.engine.held == 0


async def test_outcome_timed_out_after_the_first_token_is_an_event() -> None:
    stage = a_stage([Delta("a"), hang], config=GatewayConfig(request_s_max=0.1))
    answer = await stage.chat(stream=True)
    assert answer.frames[-2]["error"]["code"] == "deadline_exceeded"
    assert stage.record.outcome is Outcome.TIMED_OUT


async def test_outcome_engine_error() -> None:
    stage = a_stage([EngineError("The engine was lost.")])
    check(stage, await stage.chat(), Outcome.ENGINE_ERROR)


async def test_outcome_internal_error_tells_the_client_nothing_of_the_defect() -> None:
    stage = a_stage([ZeroDivisionError("secret path /x")])
    answer = await stage.chat()
    ending = OUTCOMES[Outcome.INTERNAL_ERROR]
    assert answer.status == ending.status
    assert error_of(answer)["code"] == ending.code
    assert b"secret" not in answer.content
    assert b"Zero" not in answer.content
    assert stage.record.outcome is Outcome.INTERNAL_ERROR


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_that_cannot_be_written_is_not_recorded_as_made(
    stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise ZeroDivisionError

    monkeypatch.setattr(encoding.ChatFrames, "closing", broken)
    monkeypatch.setattr(encoding.ChatEncoder, "whole", broken)
    stage = a_stage()
    await stage.chat(stream=stream)
    assert stage.record.outcome is Outcome.INTERNAL_ERROR


async def test_a_defect_is_logged_with_its_place_and_without_its_words() -> None:
    stage = a_stage([ZeroDivisionError("secret")])
    answer = await stage.chat()
    ((event, fields),) = stage.events
    assert event == "gateway.defect"
    assert fields["level"] == "error"
    assert fields["request_id"] == answer.headers["x-request-id"]
    assert fields["error"] == "ZeroDivisionError"
    assert "sse.py" in fields["trace"]
    assert "secret" not in str(fields)


async def test_outcome_cancelled_is_recorded_with_499() -> None:
    stage = a_stage([hang])
    exchange = Exchange(stage.gateway, "POST", CHAT).body(json.dumps(chat()).encode()).start()
    while not stage.engine.held:
        await asyncio.sleep(0)
    exchange.leave()
    assert exchange.task is not None
    await exchange.task
    assert (stage.record.outcome, stage.record.status) == (Outcome.CANCELLED, 499)


async def test_an_engine_that_ends_without_finishing_is_an_engine_error() -> None:
    stage = a_stage([Scheduled(1)])
    check(stage, await stage.chat(), Outcome.ENGINE_ERROR)


async def test_an_error_in_the_text_dialect_has_the_same_shape() -> None:
    stage = a_stage([EngineError("Lost.")])
    assert error_of(await stage.text())["message"] == "Lost."


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", CHAT, 405, "POST"),
        ("PUT", "/v1/completions", 405, "POST"),
        ("POST", "/v1/models", 405, "GET, HEAD"),
        ("DELETE", "/v1/models/m", 405, "GET, HEAD"),
        ("GET", "/v1/nothing", 404, None),
        ("POST", "/v1/rerank", 404, None),
        ("GET", "/v1/embeddings", 405, "POST"),
        ("POST", "/v1/chat/completions/", 404, None),
    ],
)
async def test_wrong_paths_and_methods_under_v1_have_openais_shape(
    method: str, path: str, status: int, allow: str | None
) -> None:
    stage = a_stage()
    exchange = Exchange(stage.gateway, method, path)
    await exchange.run()
    assert exchange.status == status
    assert error_of(exchange)["code"] == "invalid_request"
    assert exchange.headers.get("allow") == allow
    assert (stage.record.outcome, stage.record.status) == (Outcome.INVALID, status)


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/docs/static/../../etc/passwd", 404, None),
        ("POST", "/livez", 405, "GET, HEAD"),
        ("POST", "/docs", 405, "GET"),
    ],
)
async def test_wrong_paths_and_methods_elsewhere_are_problems(
    method: str, path: str, status: int, allow: str | None
) -> None:
    stage = a_stage()
    exchange = Exchange(stage.gateway, method, path)
    await exchange.run()
    assert exchange.status == status
    assert exchange.headers["content-type"] == "application/problem+json"
    assert exchange.headers.get("allow") == allow
    assert exchange.json["status"] == status
    assert exchange.json["request_id"] == exchange.headers["x-request-id"]
    assert set(exchange.json) == {"type", "title", "status", "detail", "code", "request_id"}
    assert stage.record.status == status


async def test_a_request_is_recorded_once_even_if_its_answer_cannot_be_made() -> None:
    acts = [Delta("x", choice=7), *said("a")[2:]]
    stage = a_stage(acts)
    answer = await stage.chat()
    assert answer.status == 500
    assert stage.engine.held == 0
    assert stage.record.outcome is Outcome.INTERNAL_ERROR
