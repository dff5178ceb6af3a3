"""Streams, byte by byte."""

import asyncio
import json
import re

from forebay.core.errors import EngineError, Outcome
from forebay.core.request import Delta, Finished, FinishReason, Scheduled, TokenLogprob, Usage
from forebay.gateway.config import GatewayConfig
from tests.support.asgi import Exchange
from tests.support.gateways import CHAT, a_stage, chat, said

OPENING = b'{"role":"assistant","content":"","refusal":null}'


def steady(content: bytes) -> bytes:
    """Replace what differs from run to run."""
    content = re.sub(rb'"id":"(chatcmpl|cmpl)-[0-9a-f]{24}"', rb'"id":"\1-ID"', content)
    content = re.sub(rb'"created":\d+', b'"created":0', content)
    return re.sub(rb'"fp_[0-9a-f]{10}"', b'"fp_X"', content)


def chat_event(choice: bytes, rest: bytes = b"") -> bytes:
    return (
        b'data: {"id":"chatcmpl-ID","object":"chat.completion.chunk","created":0,"model":"m",'
        b'"system_fingerprint":"fp_X","choices":[' + choice + b"]" + rest + b"}\n\n"
    )


def text_event(choice: bytes, rest: bytes = b"") -> bytes:
    return (
        b'data: {"id":"cmpl-ID","object":"text_completion","created":0,"model":"m",'
        b'"system_fingerprint":"fp_X","choices":[' + choice + b"]" + rest + b"}\n\n"
    )


async def test_the_bytes_of_a_chat_stream() -> None:
    answer = await a_stage(said('He said "\n', "é\u2028")).chat(stream=True)
    assert steady(answer.content) == b"".join(
        [
            chat_event(
                b'{"index":0,"delta":' + OPENING + b',"logprobs":null,"finish_reason":null}'
            ),
            chat_event(
                b'{"index":0,"delta":{"content":"He said \\"\\n"},'
                b'"logprobs":null,"finish_reason":null}'
            ),
            chat_event(
                b'{"index":0,"delta":{"content":"\xc3\xa9\xe2\x80\xa8"},'
                b'"logprobs":null,"finish_reason":null}'
            ),
            chat_event(b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}'),
            b"data: [DONE]\n\n",
        ]
    )


async def test_the_bytes_of_a_chat_stream_with_usage() -> None:
    answer = await a_stage(said("Hi")).chat(stream=True, stream_options={"include_usage": True})
    null = b',"usage":null'
    counts = b',"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}'
    tail = b',"logprobs":null,"finish_reason":null}'
    assert steady(answer.content) == b"".join(
        [
            chat_event(b'{"index":0,"delta":' + OPENING + tail, null),
            chat_event(b'{"index":0,"delta":{"content":"Hi"}' + tail, null),
            chat_event(b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}', null),
            chat_event(b"", counts),
            b"data: [DONE]\n\n",
        ]
    )


async def test_the_bytes_of_a_text_stream() -> None:
    answer = await a_stage(said("a", "b")).text(stream=True)
    tail = b',"logprobs":null,"finish_reason":null}'
    assert steady(answer.content) == b"".join(
        [
            text_event(b'{"index":0,"text":"a"' + tail),
            text_event(b'{"index":0,"text":"b"' + tail),
            text_event(b'{"index":0,"text":"","logprobs":null,"finish_reason":"stop"}'),
            b"data: [DONE]\n\n",
        ]
    )


async def test_a_stream_says_that_it_must_not_be_buffered() -> None:
    answer = await a_stage().chat(stream=True, user="u")
    assert answer.headers.pop("x-request-id")
    found = answer.headers
    found.pop("x-request-id")
    found.pop("server-timing")
    assert found == {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "x-forebay-cache": "bypass",
        "x-forebay-warning": "user",
    }


async def test_choices_are_interleaved_and_each_is_opened_and_finished_once() -> None:
    acts = [
        Delta("a", choice=0),
        Delta("x", choice=1),
        Delta("", 0, 0, FinishReason.STOP),
        Delta("y", 1, 1, FinishReason.LENGTH),
        Finished(Usage(1, 3)),
    ]
    answer = await a_stage(acts).chat(stream=True, n=2)
    choices = [frame["choices"][0] for frame in answer.frames[:-1]]
    found = [
        (c["index"], c["delta"].get("role"), c["delta"].get("content"), c["finish_reason"])
        for c in choices
    ]
    assert found == [
        (0, "assistant", "", None),
        (1, "assistant", "", None),
        (0, None, "a", None),
        (1, None, "x", None),
        (0, None, None, "stop"),
        (1, None, "y", None),
        (1, None, None, "length"),
    ]


async def test_streamed_log_probabilities_of_chat() -> None:
    acts = [
        Delta("a", logprobs=(TokenLogprob("a", b"a", -0.25),)),
        Delta("", 1, 0, FinishReason.STOP, (TokenLogprob("", b"\xc3", -1.5),)),
        Finished(Usage(1, 2)),
    ]
    answer = await a_stage(acts).chat(stream=True, logprobs=True)
    found = [frame["choices"][0]["logprobs"] for frame in answer.frames[:-1]]
    assert found == [
        None,
        {
            "content": [{"token": "a", "logprob": -0.25, "bytes": [97], "top_logprobs": []}],
            "refusal": None,
        },
        {
            "content": [{"token": "", "logprob": -1.5, "bytes": [195], "top_logprobs": []}],
            "refusal": None,
        },
        None,
    ]


async def test_streamed_log_probabilities_of_texts_count_their_offsets() -> None:
    acts = [
        Delta("ab", 2, 0, None, (TokenLogprob("a", b"a", -1.0), TokenLogprob("b", b"b", -2.0))),
        Delta("c", 1, 0, None, (TokenLogprob("c", b"c", -3.0),)),
        Delta("d", 1, 0, FinishReason.STOP, (TokenLogprob("d", b"d", -4.0),)),
        Finished(Usage(1, 4)),
    ]
    answer = await a_stage(acts).text(stream=True, logprobs=0)
    found = [frame["choices"][0]["logprobs"] for frame in answer.frames[:3]]
    assert found == [
        {
            "tokens": ["a", "b"],
            "token_logprobs": [-1.0, -2.0],
            "top_logprobs": None,
            "text_offset": [0, 1],
        },
        {"tokens": ["c"], "token_logprobs": [-3.0], "top_logprobs": None, "text_offset": [2]},
        {"tokens": ["d"], "token_logprobs": [-4.0], "top_logprobs": None, "text_offset": [3]},
    ]


async def test_a_delta_without_text_sends_no_event() -> None:
    acts = [Delta(""), Delta("é", 1, 0, FinishReason.STOP), Finished(Usage(1, 2))]
    answer = await a_stage(acts).text(stream=True)
    assert [frame["choices"][0]["text"] for frame in answer.frames[:-1]] == ["é", ""]


async def test_deltas_that_wait_already_are_written_together() -> None:
    acts = [Delta("a", more=True), Delta("b", more=True), Delta("c"), Delta("d"), *said("e")[1:]]
    answer = await a_stage(acts).chat(stream=True)
    bodies = [message["body"] for message in answer.sent[1:]]
    assert [body.count(b"data: ") for body in bodies] == [4, 1, 2, 1]


async def test_what_is_held_is_bounded() -> None:
    acts = [*(Delta("x" * 50, more=True) for _ in range(40)), *said("e")[1:]]
    answer = await a_stage(acts, config=GatewayConfig(flush_bytes_max=1000)).chat(stream=True)
    assert max(len(message["body"]) for message in answer.sent[1:]) < 1_400


async def test_an_error_after_the_status_line_is_an_event_and_then_done() -> None:
    stage = a_stage([Scheduled(1), Delta("a", more=True), EngineError("The engine was lost.")])
    answer = await stage.chat(stream=True)
    assert answer.status == 200
    assert answer.frames[1]["choices"][0]["delta"] == {"content": "a"}
    assert answer.frames[2:] == [
        {
            "error": {
                "message": "The engine was lost.",
                "type": "server_error",
                "param": None,
                "code": "engine_error",
            }
        },
        "[DONE]",
    ]
    assert answer.ended
    assert stage.record.outcome is Outcome.ENGINE_ERROR


async def test_a_defect_after_the_status_line_is_an_event_with_a_fixed_text() -> None:
    stage = a_stage([Delta("a"), ZeroDivisionError("secret")])
    answer = await stage.chat(stream=True)
    assert answer.frames[-2]["error"]["code"] == "internal_error"
    assert answer.frames[-1] == "[DONE]"
    assert b"secret" not in answer.content
    assert stage.record.outcome is Outcome.INTERNAL_ERROR


async def test_the_status_line_waits_for_the_first_delta() -> None:
    gate = asyncio.Event()
    stage = a_stage([Scheduled(1), gate.wait, *said("a")[1:]])
    exchange = Exchange(stage.gateway, "POST", CHAT)
    exchange.body(json.dumps(chat(stream=True)).encode()).start()
    while not stage.engine.asked:
        await asyncio.sleep(0)
    assert exchange.sent == []
    gate.set()
    await exchange.sent_at_least(1)
    assert exchange.task is not None
    await exchange.task
    assert exchange.status == 200


async def test_a_stream_without_any_text_is_opened_and_finished() -> None:
    answer = await a_stage([Scheduled(1), Finished(Usage(1, 0))]).chat(stream=True)
    assert answer.status == 200
    assert len(answer.frames) == 2
    assert answer.frames[-1] == "[DONE]"
