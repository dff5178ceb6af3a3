"""`/generate`, `/generate_stream`, `/infer` and their pages: shapes, routes, keys, credentials."""

import time
from typing import Any

import msgspec
import pytest

from forebay.core.clock import ManualClock
from forebay.core.errors import EngineError, Outcome, Overloaded
from forebay.core.request import (
    Admitted,
    Delta,
    EngineTiming,
    Finished,
    FinishReason,
    Request,
    Route,
    Scheduled,
    Usage,
)
from forebay.serve.admission import Admission
from forebay.serve.lifecycle import State
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, a_stage, chat, said
from tests.support.native import EVERY, SINGLE, post

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


async def test_generate_answers_with_the_text_and_what_was_measured() -> None:
    body = (await post(a_stage(said("Once", " more", "!")), "/generate", max_new_tokens=20)).json
    assert body.pop("id").startswith("gen-")
    metrics = body.pop("metrics")
    assert body == {"model": "m", "text": "Once more!", "finish_reason": "stop"}
    assert (metrics["tokens_generated"], metrics["prompt_tokens"]) == (3, 5)
    assert 0 < metrics["ttft"] <= metrics["total_time"] < 5
    assert metrics["tokens_per_second"] > 0


async def test_a_stream_has_an_event_per_token_with_all_of_the_text_so_far() -> None:
    answer = await post(a_stage(said("bright", " and", " promising")), "/generate_stream")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    found = [(e["token"], e["text"], e["finished"]) for e in answer.frames]
    assert found == [
        ("bright", "bright", False),
        (" and", "bright and", False),
        (" promising", "bright and promising", True),
    ]
    assert {key for event in answer.frames for key in event} == {
        "token",
        "text",
        "finished",
        "metrics",
    }


async def test_a_streams_measures_are_those_of_the_record() -> None:
    clock = ManualClock(100.0)

    async def passes() -> None:
        clock.advance(0.5)

    acts = [
        passes,
        Delta("a"),
        passes,
        Delta("b"),
        passes,
        Delta("c", finish_reason=FinishReason.LENGTH),
        Finished(Usage(7, 3)),
    ]
    stage = a_stage(acts, now=clock)
    first, second, last = [e["metrics"] for e in (await post(stage, "/generate_stream")).frames]
    assert (first["ttft"], first["tpot"], first["tokens_generated"]) == (0.5, None, 1)
    assert (second["ttft"], second["tpot"], second["total_time"]) == (0.5, 0.5, 1.0)
    assert (last["tpot"], last["tokens_generated"], last["prompt_tokens"]) == (0.5, 3, 7)
    assert last["tokens_per_second"] == 2.0
    assert (stage.record.ttft_s, stage.record.tpot_s) == (last["ttft"], last["tpot"])


async def test_an_event_may_hold_several_tokens() -> None:
    acts = [
        Delta("a b c", tokens=3),
        Delta(" d", finish_reason=FinishReason.STOP),
        Finished(Usage(1, 4)),
    ]
    frames = (await post(a_stage(acts), "/generate_stream")).frames
    assert [e["metrics"]["tokens_generated"] for e in frames] == [3, 4]


async def test_text_that_comes_with_no_last_token_still_ends_the_stream() -> None:
    acts = [Delta("a"), Delta("", tokens=0, finish_reason=FinishReason.STOP), Finished(Usage(1, 1))]
    frames = (await post(a_stage(acts), "/generate_stream")).frames
    assert [(e["token"], e["text"], e["finished"]) for e in frames] == [
        ("a", "a", False),
        ("", "a", True),
    ]


async def test_tokens_whose_text_is_held_back_are_counted_and_make_no_event() -> None:
    acts = [
        Delta("", tokens=1),
        Delta("é", tokens=1),
        Delta("", tokens=0, finish_reason=FinishReason.STOP),
        Finished(Usage(1, 2)),
    ]
    frames = (await post(a_stage(acts), "/generate_stream")).frames
    assert [e["metrics"]["tokens_generated"] for e in frames] == [2, 2]


async def test_a_stream_that_fails_says_so_in_an_event_that_ends_it() -> None:
    stage = a_stage([Delta("a"), EngineError("The worker was lost.")])
    answer = await post(stage, "/generate_stream", headers={"x_request_id": "r-1"})
    assert answer.status == 200
    failure = answer.frames[-1]
    assert (failure["token"], failure["finished"]) == ("", True)
    assert failure["error"]["code"] == "engine_error"
    assert failure["error"]["request_id"] == "r-1"
    assert answer.ended
    assert stage.record.outcome is Outcome.ENGINE_ERROR


async def test_infer_answers_in_its_own_shape() -> None:
    timing = EngineTiming(first_token_s=0.1, decode_s=0.05)
    acts = [
        Admitted(),
        Scheduled(5),
        Delta("Paris.", finish_reason=FinishReason.STOP),
        Finished(Usage(5, 2), timing),
    ]
    answer = await post(
        a_stage(acts),
        "/infer",
        max_new_tokens=32,
        base_model="m",
        headers={"x_api_key": "your-api-key"},
    )
    metadata = answer.json["metadata"]
    assert metadata.pop("response_time") > 0
    assert answer.json["result"] == "Paris."
    assert metadata == {
        "model": "m",
        "version": "default",
        "tokens_generated": 2,
        "generation_time": 0.15,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"base_model": "microsoft/DialoGPT-medium"}, "base_model"),
        ({"adapter_version": "v9"}, "adapter_version"),
        ({"base_model": "m", "adapter_version": "v9"}, "adapter_version"),
    ],
)
async def test_infer_refuses_by_name_what_is_not_served(fields: dict[str, str], param: str) -> None:
    stage = a_stage()
    answer = await post(stage, "/infer", **fields)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["param"] == param
    assert answer.json["detail"].startswith(f"{param}: ")
    assert "Served: m" in answer.json["detail"]
    assert stage.record.outcome is Outcome.UNKNOWN_MODEL


async def test_a_version_is_found_as_a_name_of_its_own() -> None:
    stage = a_stage(model="base:v1")
    answer = await post(stage, "/infer", base_model="base", adapter_version="v1")
    metadata = answer.json["metadata"]
    assert (metadata["model"], metadata["version"]) == ("base", "v1")


async def test_the_version_of_a_models_own_weights_has_a_name() -> None:
    assert (await post(a_stage(), "/infer", adapter_version="default")).status == 200


@pytest.mark.parametrize("path", EVERY)
async def test_without_a_model_the_first_one_answers(path: str) -> None:
    stage = a_stage()
    assert (await post(stage, path)).status == 200
    assert stage.engine.asked[0].model == "m"


async def test_openais_dialects_need_no_model_either() -> None:
    stage = a_stage()
    body = chat()
    del body["model"]
    assert (await ask(stage.gateway, "POST", CHAT, body)).json["model"] == "m"


@pytest.mark.parametrize("path", EVERY)
async def test_each_path_is_a_route_of_its_own(path: str) -> None:
    stage = a_stage()
    await post(stage, path)
    assert stage.record.route is Route(path[1:])
    assert stage.record.outcome is Outcome.OK
    assert stage.ledger.balance().received == 1
    assert stage.ledger.balance().in_flight == 0
    assert stage.ledger.imbalance == 0


@pytest.mark.parametrize("path", ["/generate", "/infer"])
async def test_the_same_key_gets_the_same_answer_and_one_generation(path: str) -> None:
    stage = a_stage()
    headers = {"idempotency_key": KEY}
    first = await post(stage, path, headers=headers)
    again = await post(stage, path, headers=headers)
    assert again.headers["idempotent-replayed"] == "true"
    assert len(stage.engine.asked) == 1
    texts = [answer.json.get("text", answer.json.get("result")) for answer in (first, again)]
    assert texts == ["Hello world", "Hello world"]
    other = await post(stage, path, headers=headers, prompt="something else")
    assert (other.status, other.json["code"]) == (422, "idempotency_conflict")


async def test_nothing_is_generated_for_what_is_read_again() -> None:
    stage = a_stage([Admitted(), *said("a", "b")])
    headers = {"idempotency_key": KEY}
    await post(stage, "/infer", headers=headers)
    again = await post(stage, "/infer", headers=headers)
    assert again.json["metadata"]["generation_time"] == 0.0


def events(answer: Exchange) -> list[tuple[str, Any]]:
    """Return each event's id and data."""
    parts = [part.split("\ndata: ") for part in answer.content.decode().split("\n\n")[:-1]]
    return [(id.removeprefix("id: "), msgspec.json.decode(data)) for id, data in parts]


async def test_a_keyed_stream_goes_on_where_it_was_left() -> None:
    stage = a_stage(said("a", "b", "c"))
    headers = {"idempotency_key": KEY}
    first = await post(stage, "/generate_stream", headers=headers)
    seen = events(first)
    assert [event["text"] for _, event in seen] == ["a", "ab", "abc"]
    rest = await post(stage, "/generate_stream", headers=headers | {"last_event_id": seen[0][0]})
    assert [event["text"] for _, event in events(rest)] == ["ab", "abc"]
    reopened = await stage.get(first.headers["x-forebay-stream"], last_event_id=seen[1][0])
    assert [(event["text"], event["finished"]) for _, event in events(reopened)] == [("abc", True)]
    assert len(stage.engine.asked) == 1


async def test_going_on_needs_a_key() -> None:
    answer = await post(a_stage(), "/generate_stream", headers={"last_event_id": "3"})
    assert (answer.status, answer.json["param"]) == (400, "Last-Event-ID")


async def test_an_api_key_is_a_credential_of_its_own() -> None:
    stage = a_stage()
    for headers in (
        {},
        {"x_api_key": "one"},
        {"x_api_key": "two"},
        {"x_api_key": "one", "authorization": "Bearer three"},
    ):
        await post(stage, "/infer", headers=headers)
    tenants = [request.tenant for request in stage.engine.asked]
    assert tenants[0] == "anonymous"
    assert len(set(tenants)) == 4
    await post(stage, "/infer", headers={"x_api_key": "one"})
    assert stage.engine.asked[-1].tenant == tenants[1]


async def test_headers_ask_for_the_same_as_under_v1() -> None:
    stage = a_stage()
    await post(stage, "/generate", headers={"x_request_timeout": "7", "x_priority": "batch"})
    request = stage.engine.asked[0]
    assert request.deadline - request.received == pytest.approx(7)
    assert request.priority.name == "BATCH"


@pytest.mark.parametrize("path", EVERY)
async def test_a_bad_header_is_refused_by_name_and_counted_once(path: str) -> None:
    stage = a_stage()
    answer = await post(stage, path, headers={"x_priority": "urgent"})
    assert (answer.status, answer.json["param"]) == (400, "X-Priority")
    assert stage.record.outcome is Outcome.INVALID
    balance = stage.ledger.balance()
    assert (balance.received, balance.in_flight, balance.imbalance) == (1, 0, 0)


@pytest.mark.parametrize("path", SINGLE)
async def test_in_a_storm_these_are_shed_too(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def shed(_: Admission, request: Request) -> None:
        raise Overloaded(f"{request.route} is shed.", retry_after_s=0.5)

    monkeypatch.setattr(Admission, "in_storm", True)
    monkeypatch.setattr(Admission, "shed", shed)
    stage = a_stage()
    answer = await post(stage, path)
    assert (answer.status, answer.json["retry_after_ms"]) == (503, 500)
    assert answer.headers["retry-after-ms"] == "500"
    assert stage.record.request is not None
    assert stage.record.request.route is stage.record.route is Route(path[1:])


async def test_models_are_listed_with_their_versions() -> None:
    answer = await a_stage().get("/models")
    assert answer.json == {
        "models": [{"base_model": "m", "versions": ["default"], "description": "acting"}]
    }


async def test_the_models_page_tells_of_the_one_that_answers() -> None:
    stage = a_stage()
    page = (await stage.get("/model/info")).json
    assert (page["model"], page["loaded"], page["engine"]) == ("m", True, "acting")
    assert (page["context_tokens_max"], page["running_max"]) == (1_000, 4)
    assert (page["running"], page["waiting"], page["tokens_generated"]) == (0, 0, 0)
    assert page["models"] == ["m"]
    assert "chat" in page["features"]


@pytest.mark.parametrize(
    ("state", "status"),
    [(State.READY, "healthy"), (State.DRAINING, "draining: the server is stopping")],
)
async def test_the_status_has_the_sources_shape(state: State, status: str) -> None:
    body = (await a_stage(state=state).get("/status")).json
    assert body.pop("version")
    assert body.pop("timestamp") == pytest.approx(time.time(), abs=60)
    assert body == {
        "service": "Forebay",
        "status": status,
        "prometheus_available": True,
        "cached_models": 1,
        "device": "cpu",
        "cached_model_info": [{"base_model": "m", "version": "default", "loaded": True}],
    }


async def test_asking_for_a_page_is_no_use_of_a_model() -> None:
    stage = a_stage()
    for path in ("/models", "/model/info", "/status"):
        await stage.get(path)
    assert stage.gateway.lanes.used("m") == 0
    assert stage.records == []
