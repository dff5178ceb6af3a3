"""Bad input: a clear 4xx that names the field, and an engine that never hears of it."""

import json
from typing import Any

import pytest

from forebay.core.errors import Outcome
from forebay.gateway.config import GatewayConfig
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, TEXT, a_stage, chat

INFINITE = "1e999"


def raw(tail: str) -> bytes:
    """Return a chat body with more fields, written as they are."""
    return (json.dumps(chat())[:-1] + "," + tail + "}").encode()


def said_by(role: str = "user", **fields: Any) -> dict[str, Any]:
    return chat(messages=[{"role": role, **fields}])


def formed(**form: Any) -> dict[str, Any]:
    return chat(response_format=form)


BODIES: dict[str, tuple[Any, str | None, str]] = {
    "malformed JSON": (b'{"model": "m", "messages": [', None, "not valid JSON"),
    "an empty body": (b"", None, "empty"),
    "only space": (b"  \n", None, "empty"),
    "an array": (b"[]", None, "expected an object, found an array of 0"),
    "a text": (b'"hello"', None, "expected an object, found a string"),
    "trailing garbage": (json.dumps(chat()).encode() + b"}", None, "trailing characters"),
    "a byte order mark": (b"\xef\xbb\xbf" + json.dumps(chat()).encode(), None, "not valid JSON"),
    "NaN": (raw('"temperature":NaN'), None, "not valid JSON"),
    "Infinity": (raw('"temperature":Infinity'), None, "not valid JSON"),
    "an infinite number": (raw(f'"temperature":{INFINITE}'), "temperature", "a finite number"),
    "invalid UTF-8": (raw('"user":"').replace(b'"}', b'\xff"}'), None, "not valid UTF-8"),
    "invalid UTF-8 in a text": (b'{"model":"\xff"}', None, "not valid UTF-8 (at byte 10)"),
    "an encoded surrogate": (b'{"model":"\xed\xa0\x80"}', None, "not valid UTF-8"),
    "a lone surrogate": (raw('"stop":"\\ud800 and more"'), None, "surrogate"),
    "a lone low surrogate": (raw('"stop":"\\udc00 and more"'), None, "surrogate"),
    "deep nesting": (raw('"stop":' + "[" * 50_000 + "]" * 50_000), "stop[0]", "a string"),
    "deep nesting of what is skipped": (
        raw('"metadata":' + "[" * 50_000 + "]" * 50_000),
        None,
        "nested too deeply",
    ),
    "an empty model": (chat(model=""), "model", "1 to 256 characters"),
    "a long model": (chat(model="x" * 257), "model", "1 to 256 characters"),
    "no messages": ({"model": "m"}, "messages", "missing"),
    "empty messages": (chat(messages=[]), "messages", "empty"),
    "messages that are a text": (chat(messages="hi"), "messages", "expected an array, found a str"),
    "too many messages": (chat(messages=chat()["messages"] * 513), "messages", "at most 512"),
    "a message that is a text": (chat(messages=["hi"]), "messages[0]", "expected an object"),
    "a message without a role": (chat(messages=[{"content": "x"}]), "messages[0].role", "missing"),
    "an unknown role": (said_by("king", content="x"), "messages[0].role", "found 'king'"),
    "a message without content": (said_by(), "messages[0].content", "missing"),
    "null content": (said_by(content=None), "messages[0].content", "missing"),
    "numeric content": (said_by(content=5), "messages[0].content", "found 5"),
    "no parts": (said_by(content=[]), "messages[0].content", "empty"),
    "too many parts": (
        said_by(content=[{"type": "text", "text": "x"}] * 65),
        "messages[0].content",
        "at most 64",
    ),
    "an image": (
        said_by(content=[{"type": "image_url", "image_url": {"url": "x"}}]),
        "messages[0].content[0].type",
        "only text is taken here, found 'image_url'",
    ),
    "sound": (
        said_by(content=[{"type": "text", "text": ""}, {"type": "input_audio"}]),
        "messages[0].content[1].type",
        "only text",
    ),
    "a text part without text": (
        said_by(content=[{"type": "text"}]),
        "messages[0].content[0].text",
        "missing",
    ),
    "a text part with an image": (
        said_by(content=[{"type": "text", "text": "x", "image_url": "y"}]),
        "messages[0].content[0].image_url",
        "no such field",
    ),
    "an unknown field of a part": (
        said_by(content=[{"type": "text", "test": "x"}]),
        "messages[0].content[0].test",
        "Did you mean text?",
    ),
    "tool calls": (
        said_by("assistant", content="x", tool_calls=[{"id": "a"}]),
        "messages[0].tool_calls[0].function",
        "missing",
    ),
    "a huge name": (chat() | {"x" * 600_000: 1}, "x" * 64, "no such parameter"),
    "a huge name that reads like the parser's words": (
        chat() | {" - at `$" * 60_000: 1},
        " - at `$" * 8,
        "no such parameter",
    ),
    "a huge prompt": (chat("x" * 600_000), "messages", "600000 bytes of text, at most 524288"),
    "n=100000": (chat(n=100_000), "n", "at most 16"),
    "n=0": (chat(n=0), "n", ">= 1, found 0"),
    "n as a text": (chat(n="2"), "n", "expected an integer, found a string"),
    "n as a fraction": (chat(n=1.5), "n", "expected an integer, found 1.5"),
    "n as a truth": (chat(n=True), "n", "expected an integer, found true"),
    "max_tokens=-1": (chat(max_tokens=-1), "max_tokens", ">= 1, found -1"),
    "max_tokens=0": (chat(max_tokens=0), "max_tokens", ">= 1"),
    "max_tokens=10**30": (chat(max_tokens=10**30), "max_tokens", "integer"),
    "max_tokens over the context": (chat(max_tokens=1_001), "max_tokens", "context, 1000 tokens"),
    "max_completion_tokens over the context": (
        chat(max_completion_tokens=1_001),
        "max_completion_tokens",
        "context",
    ),
    "two lengths": (
        chat(max_tokens=3, max_completion_tokens=4),
        "max_completion_tokens",
        "Send one of them",
    ),
    "min_tokens over max_tokens": (chat(min_tokens=9, max_tokens=8), "min_tokens", "more than"),
    "temperature=-0.1": (chat(temperature=-0.1), "temperature", ">= 0"),
    "temperature=2.1": (chat(temperature=2.1), "temperature", "<= 2"),
    "temperature as a text": (chat(temperature="hot"), "temperature", "a number"),
    "top_p=0": (chat(top_p=0), "top_p", "> 0"),
    "top_p=1.1": (chat(top_p=1.1), "top_p", "<= 1"),
    "top_k=-2": (chat(top_k=-2), "top_k", ">= -1"),
    "min_p=2": (chat(min_p=2), "min_p", "<= 1"),
    "presence_penalty=3": (chat(presence_penalty=3), "presence_penalty", "<= 2"),
    "frequency_penalty=-3": (chat(frequency_penalty=-3), "frequency_penalty", ">= -2"),
    "a seed beyond int64": (chat(seed=2**63), "seed", "<= 9223372036854775807"),
    "2,000 stop texts": (chat(stop=["x"] * 2_000), "stop", "at most 16"),
    "an empty stop text": (chat(stop=""), "stop", "1 to 256"),
    "an empty stop text among others": (chat(stop=["a", ""]), "stop[1]", "1 to 256"),
    "a long stop text": (chat(stop="é" * 129), "stop", "258 bytes"),
    "a stop text that is a number": (chat(stop=[1]), "stop[0]", "a string"),
    "an unknown field": (chat(temprature=1), "temprature", "Did you mean temperature?"),
    "an unknown field like no other": (chat(zzz=1), "zzz", "no such parameter"),
    "a field of the other dialect": (chat(best_of=1), "best_of", "belongs to /v1/completions"),
    "an unknown field with a long name": (chat() | {"x" * 5_000: 1}, "x" * 64, "no such parameter"),
    "an unknown field that moves the cursor": (chat() | {"a\x1b[2J": 1}, "a?[2J", "no such"),
    "an unknown stream option": (
        chat(stream=True, stream_options={"include_usages": True}),
        "stream_options.include_usages",
        "Did you mean include_usage?",
    ),
    "stream options without a stream": (
        chat(stream_options={"include_usage": True}),
        "stream_options",
        "only together with stream",
    ),
    "tools": (chat(tools=[{"type": "function"}]), "tools[0].function", "missing"),
    "a bias": (chat(logit_bias={"5": 1}), "logit_bias", "not supported"),
    "storing": (chat(store=True), "store", "not supported"),
    "storing by a number": (chat(store=0), "store", "not supported"),
    "sound as an answer": (chat(modalities=["text", "audio"]), "modalities", "not supported"),
    "reasoning": (chat(reasoning_effort="high"), "reasoning_effort", "not supported"),
    "top_logprobs": (chat(logprobs=True, top_logprobs=2), "top_logprobs", "not supported"),
    "an unknown form": (formed(type="xml"), "response_format.type", "expected text"),
    "a form without a schema": (
        formed(type="json_schema"),
        "response_format.json_schema",
        "missing",
    ),
    "a schema without its schema": (
        formed(type="json_schema", json_schema={"name": "x"}),
        "response_format.json_schema.schema",
        "missing",
    ),
    "a schema for no form": (
        formed(type="json_object", json_schema={"name": "x"}),
        "response_format.json_schema",
        "needs type json_schema",
    ),
    "a schema with a bad name": (
        formed(type="json_schema", json_schema={"name": "a b", "schema": {}}),
        "response_format.json_schema.name",
        "letters",
    ),
    "a large schema": (
        formed(
            type="json_schema", json_schema={"name": "x", "schema": {"description": "x" * 70_000}}
        ),
        "response_format.json_schema.schema",
        "at most 65536",
    ),
}


@pytest.mark.parametrize("row", BODIES, ids=list(BODIES))
async def test_a_bad_body_is_refused_clearly_and_never_reaches_the_engine(row: str) -> None:
    body, param, words = BODIES[row]
    stage = a_stage()
    answer = await ask(stage.gateway, "POST", CHAT, body)
    assert answer.status == 400
    error = answer.json["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_request")
    assert error["param"] == param
    assert words in error["message"]
    assert len(error["message"]) < 300
    assert stage.engine.asked == []
    assert stage.record.outcome is Outcome.INVALID


TEXTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no prompt": ({}, "prompt", "missing"),
    "an empty prompt": ({"prompt": ""}, "prompt", "empty"),
    "an empty array": ({"prompt": []}, "prompt", "empty"),
    "no ids": ({"prompt": [[]]}, "prompt", "token ids"),
    "two prompts": ({"prompt": ["a", "b"]}, "prompt", "one text"),
    "two arrays": ({"prompt": [[1], [2]]}, "prompt", "one text"),
    "ids and texts": ({"prompt": [1, "a"]}, "prompt", "nothing else"),
    "an id outside the vocabulary": ({"prompt": [500]}, "prompt", "from 0 to 499"),
    "a negative id": ({"prompt": [1, -1]}, "prompt", "from 0 to 499"),
    "more ids than the context": ({"prompt": [1] * 1_001}, "prompt", "context holds 1000"),
    "more than the context, before a look at each": (
        {"prompt": [1] * 1_000 + ["a"]},
        "prompt",
        "context holds 1000",
    ),
    "best_of": ({"prompt": "a", "best_of": 2}, "best_of", "differs from n, 1"),
    "echo": ({"prompt": "a", "echo": True}, "echo", "not supported"),
    "a suffix": ({"prompt": "a", "suffix": "b"}, "suffix", "not supported"),
    "five likeliest": ({"prompt": "a", "logprobs": 5}, "logprobs", "send 0"),
    "messages": ({"prompt": "a", "messages": []}, "messages", "/v1/chat/completions"),
}


@pytest.mark.parametrize("row", TEXTS, ids=list(TEXTS))
async def test_a_bad_text_call_is_refused_clearly(row: str) -> None:
    fields, param, words = TEXTS[row]
    stage = a_stage()
    answer = await ask(stage.gateway, "POST", TEXT, {"model": "m"} | fields)
    assert answer.status == 400
    assert answer.json["error"]["param"] == param
    assert words in answer.json["error"]["message"]
    assert stage.engine.asked == []


async def test_an_error_does_not_repeat_what_may_be_a_prompt() -> None:
    answer = await a_stage().chat(messages="my secret diary", stop=5)
    assert b"diary" not in answer.content


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    stage = a_stage(config=GatewayConfig(body_bytes_max=2_000))
    exchange = Exchange(stage.gateway, "POST", CHAT, content_length="2001")
    await exchange.run()
    assert exchange.status == 413
    assert "2000 bytes" in exchange.json["error"]["message"]
    assert "connection" not in exchange.headers
    assert stage.record.status == 413


async def test_a_body_without_a_length_is_counted_as_it_comes() -> None:
    stage = a_stage(config=GatewayConfig(body_bytes_max=2_000))
    exchange = Exchange(stage.gateway, "POST", CHAT)
    exchange.body(b"x" * 1_500, more=True).body(b"x" * 501, more=True)
    await exchange.run()
    assert exchange.status == 413
    assert "connection" not in exchange.headers


async def test_a_client_that_will_close_is_heard_out_before_it_is_refused() -> None:
    stage = a_stage(config=GatewayConfig(body_bytes_max=2_000, discard_bytes_max=9_000))
    exchange = Exchange(stage.gateway, "POST", CHAT, connection="close", content_length="6000")
    for more in (True, True, False):
        exchange.body(b"x" * 2_000, more=more)
    await exchange.run()
    assert exchange.status == 413
    assert exchange.waiting == 0


async def test_what_is_thrown_away_is_bounded_too() -> None:
    stage = a_stage(config=GatewayConfig(body_bytes_max=2_000, discard_bytes_max=3_000))
    exchange = Exchange(stage.gateway, "POST", CHAT, connection="close", content_length="8000")
    for more in (True, True, True, False):
        exchange.body(b"x" * 2_000, more=more)
    await exchange.run()
    assert exchange.status == 413
    assert exchange.waiting == 2


async def test_a_body_that_does_not_come_is_given_up() -> None:
    stage = a_stage(config=GatewayConfig(body_s_max=0.1))
    exchange = Exchange(stage.gateway, "POST", CHAT).body(b"{", more=True)
    await exchange.run()
    assert exchange.status == 408
    assert exchange.headers["connection"] == "close"
    assert stage.record.status == 408


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_encoding": "gzip"}, 415),
        ({"content_type": "application/json; charset=utf-8"}, 200),
        ({"content_type": "Application/JSON"}, 200),
        ({"content_type": "application/vnd.api+json"}, 200),
        ({}, 200),
    ],
)
async def test_the_body_must_be_plain_json(headers: dict[str, str], status: int) -> None:
    answer = await ask(a_stage().gateway, "POST", CHAT, chat(), **headers)
    assert answer.status == status


@pytest.mark.parametrize("length", ["-5", "abc", "1" * 500, ""])
async def test_a_length_that_is_no_length_is_refused(length: str) -> None:
    exchange = Exchange(a_stage().gateway, "POST", CHAT, content_length=length).body(b"{}")
    await exchange.run()
    assert exchange.status == 413


async def test_of_two_equal_names_the_last_counts() -> None:
    stage = a_stage()
    await ask(stage.gateway, "POST", CHAT, raw('"seed":1,"seed":2'))
    assert stage.engine.asked[0].sampling.seed == 2
