"""Chat completions over HTTP: what a client sends, and what it reads."""

import json

import pytest

from forebay.core.request import (
    Delta,
    Finished,
    FinishReason,
    Role,
    Scheduled,
    TokenLogprob,
    Usage,
)
from forebay.gateway.config import GatewayConfig
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, a_stage, chat, said


async def test_a_whole_answer_has_openais_shape() -> None:
    stage = a_stage(said("Hello", " world", "!"))
    answer = await stage.chat(max_tokens=8)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json
    assert body.pop("id").startswith("chatcmpl-")
    assert body.pop("created") > 1_700_000_000
    assert body.pop("system_fingerprint").startswith("fp_")
    assert body == {
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello world!", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
        },
    }


async def test_each_choice_is_put_together_apart() -> None:
    acts = [
        Scheduled(2),
        Delta("a", choice=0),
        Delta("x", choice=1),
        Delta("y", choice=1, finish_reason=FinishReason.LENGTH),
        Delta("b", choice=0, finish_reason=FinishReason.STOP),
        Finished(Usage(2, 4)),
    ]
    answer = await a_stage(acts).chat(n=2)
    found = [
        (c["index"], c["message"]["content"], c["finish_reason"]) for c in answer.json["choices"]
    ]
    assert found == [(0, "ab", "stop"), (1, "xy", "length")]
    assert answer.json["usage"]["completion_tokens"] == 4


async def test_log_probabilities_have_the_shape_of_chat() -> None:
    odds = (TokenLogprob("é", "é".encode(), -0.5),)
    acts = [Delta("é", 1, 0, FinishReason.STOP, odds), Finished(Usage(1, 1))]
    answer = await a_stage(acts).chat(logprobs=True)
    assert answer.json["choices"][0]["logprobs"] == {
        "content": [{"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": []}],
        "refusal": None,
    }


async def test_everything_that_is_honoured_reaches_the_engine() -> None:
    stage = a_stage()
    answer = await stage.chat(
        max_completion_tokens=9,
        min_tokens=2,
        temperature=0,
        top_p=0.5,
        top_k=3,
        min_p=0.1,
        seed=-7,
        stop=["a", "b"],
        n=1,
        presence_penalty=1.5,
        frequency_penalty=-2,
        logprobs=True,
        ignore_eos=True,
    )
    assert answer.status == 200
    sampling = stage.engine.asked[0].sampling
    assert (sampling.tokens_max, sampling.tokens_min) == (9, 2)
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.0, 0.5, 3)
    assert (sampling.min_p, sampling.seed, sampling.stop) == (0.1, -7, ("a", "b"))
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (1.5, -2.0)
    assert sampling.logprobs
    assert sampling.ignore_eos


async def test_what_is_not_given_has_openais_defaults() -> None:
    stage = a_stage()
    await stage.chat()
    request = stage.engine.asked[0]
    assert request.sampling.tokens_max is None
    assert (request.sampling.temperature, request.sampling.top_p) == (1.0, 1.0)
    assert not request.stream


async def test_null_is_as_good_as_nothing() -> None:
    answer = await a_stage().chat(
        temperature=None, stop=None, tools=None, user=None, response_format=None, stream=None
    )
    assert answer.status == 200
    assert "x-forebay-warning" not in answer.headers


async def test_roles_are_kept_and_developers_speak_for_the_system() -> None:
    stage = a_stage()
    roles = ["developer", "system", "user", "assistant", "tool"]
    await stage.chat(messages=[{"role": role, "content": role} for role in roles])
    found = [message.role for message in stage.engine.asked[0].prompt.messages]  # type: ignore[union-attr]
    assert found == [Role.SYSTEM, Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL]


async def test_text_parts_are_joined_by_line_feeds() -> None:
    stage = a_stage()
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    await stage.chat(messages=[{"role": "user", "content": parts}])
    assert stage.engine.asked[0].prompt.messages[0].content == "one\ntwo"  # type: ignore[union-attr]


async def test_control_tokens_and_nul_arrive_as_they_were_sent() -> None:
    stage = a_stage()
    await stage.chat("<|im_end|>\x00\U0001f600")
    content = stage.engine.asked[0].prompt.messages[0].content  # type: ignore[union-attr]
    assert content == "<|im_end|>\x00\U0001f600"


async def test_a_well_formed_request_id_is_taken_and_given_back() -> None:
    stage = a_stage()
    answer = await stage.get("/v1/models", x_request_id="A.b-c_9")
    assert answer.headers["x-request-id"] == "A.b-c_9"


@pytest.mark.parametrize("id", ["", "a b", "x" * 129, "é", 'a"b', "a\nb"])
async def test_an_ill_formed_request_id_is_replaced(id: str) -> None:
    answer = await a_stage().get("/livez", x_request_id=id)
    assert answer.headers["x-request-id"] != id
    assert len(answer.headers["x-request-id"]) == 24


async def test_the_request_id_names_request_answer_and_record() -> None:
    stage = a_stage()
    answer = await stage.chat()
    id = answer.headers["x-request-id"]
    assert stage.engine.asked[0].id == stage.record.id == id
    assert answer.json["id"] == f"chatcmpl-{id}"


async def test_the_deadline_is_the_longest_request_from_receipt() -> None:
    stage = a_stage(config=GatewayConfig(request_s_max=7.0))
    await stage.chat()
    request = stage.engine.asked[0]
    assert request.deadline - request.received == pytest.approx(7.0)


async def test_what_has_no_effect_is_named_in_a_header() -> None:
    messages = [{"role": "user", "content": "hi", "name": "Ann"}]
    answer = await a_stage().chat(messages=messages, user="u", metadata={"a": "b"})
    assert answer.status == 200
    assert answer.headers["x-forebay-warning"] == "user, metadata, messages[].name"


async def test_a_directive_that_has_no_effect_is_named() -> None:
    answer = await ask(a_stage().gateway, "POST", CHAT, chat(), cache_control="only-if-cached")
    assert answer.headers["x-forebay-warning"] == "cache-control"


async def test_a_body_may_come_in_pieces_and_without_a_type() -> None:
    stage = a_stage()
    exchange = Exchange(stage.gateway, "POST", CHAT)
    raw = json.dumps(chat("hello")).encode()
    exchange.body(raw[:10], more=True).body(raw[10:])
    await exchange.run()
    assert exchange.status == 200
