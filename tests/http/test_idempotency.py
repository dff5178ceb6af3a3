"""Keys, streams that go on, and answers made before: what a client sees of them."""

import asyncio
import re
from typing import Any

import msgspec
import pytest

from forebay.core.errors import EngineError, Outcome
from forebay.core.request import Delta, Finished, FinishReason, Source, Usage
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, TEXT, Stage, a_stage, chat, said

KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"


async def send(stage: Stage, body: Any = None, **headers: str) -> Exchange:
    return await ask(stage.gateway, "POST", CHAT, chat() if body is None else body, **headers)


def without_ids(content: bytes) -> bytes:
    return re.sub(rb"id: \d+-[0-9a-f]{8}\n", b"", content)


async def test_the_same_key_gets_the_same_bytes_and_one_generation() -> None:
    stage = a_stage()
    first = await send(stage, idempotency_key=KEY)
    again = await send(stage, idempotency_key=KEY)
    assert first.content == again.content
    assert len(stage.engine.asked) == 1
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert [record.timeline.source for record in stage.records] == [Source.ENGINE, Source.REPLAYED]


async def test_a_stream_replayed_from_its_start_has_the_same_bytes() -> None:
    stage = a_stage()
    body = chat(stream=True, stream_options={"include_usage": True})
    first = await send(stage, body, idempotency_key=KEY)
    again = await send(stage, body, idempotency_key=KEY)
    assert first.content == again.content
    assert re.match(rb"id: 1-[0-9a-f]{8}\ndata: {", first.content)
    assert again.headers["idempotent-replayed"] == "true"


async def test_duplicates_that_run_at_once_share_one_generation() -> None:
    go = asyncio.Event()
    stage = a_stage([go.wait, *said("one", " answer")])
    exchanges = [
        Exchange(stage.gateway, "POST", CHAT, idempotency_key=KEY)
        .body(b'{"model":"m","messages":[{"role":"user","content":"hello"}]}')
        .start()
        for _ in range(5)
    ]
    await asyncio.sleep(0.01)
    go.set()
    await asyncio.gather(*(exchange.task for exchange in exchanges if exchange.task))
    assert len({exchange.content for exchange in exchanges}) == 1
    assert len(stage.engine.asked) == 1
    replayed = [exchange.headers.get("idempotent-replayed") for exchange in exchanges]
    assert sorted(replayed, key=str) == [None, "true", "true", "true", "true"]


async def test_another_body_under_the_key_is_a_conflict() -> None:
    stage = a_stage()
    await send(stage, idempotency_key=KEY)
    other = await send(stage, chat("something else"), idempotency_key=KEY)
    assert other.status == 422
    assert other.json["error"]["code"] == "idempotency_conflict"
    assert other.json["error"]["param"] == "Idempotency-Key"
    assert other.headers["x-should-retry"] == "false"
    assert stage.records[-1].outcome is Outcome.CONFLICT


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages":[{"content":"hello","role":"user"}],"model":"m"}',
        b'{"model":"m","stream":false,"n":1,"messages":[{"role":"user","content":"hello"}]}',
        b'{"model":"m","top_p":null,"messages":[{"role":"user","content":"hello"}]}',
    ],
)
async def test_the_order_of_keys_and_a_default_spelled_out_make_no_difference(body: bytes) -> None:
    stage = a_stage()
    first = await send(stage, idempotency_key=KEY)
    again = await send(stage, body, idempotency_key=KEY)
    assert again.content == first.content
    assert len(stage.engine.asked) == 1


async def test_a_key_that_runs_can_be_refused_instead_of_joined() -> None:
    go = asyncio.Event()
    stage = a_stage([go.wait, *said("late")])
    first = Exchange(stage.gateway, "POST", CHAT, idempotency_key=KEY)
    first.body(b'{"model":"m","messages":[{"role":"user","content":"hello"}]}').start()
    await asyncio.sleep(0.01)
    second = await send(stage, idempotency_key=KEY, x_forebay_attach="false")
    assert second.status == 409
    assert int(second.headers["retry-after"]) >= 1
    go.set()
    assert first.task is not None
    await first.task
    assert first.status == 200


async def test_the_same_key_of_another_credential_is_another_key() -> None:
    stage = a_stage()
    await send(stage, idempotency_key=KEY, authorization="Bearer one")
    other = await send(stage, chat("else"), idempotency_key=KEY, authorization="Bearer two")
    assert other.status == 200
    assert len(stage.engine.asked) == 2


async def test_the_same_key_on_another_route_is_another_key() -> None:
    stage = a_stage()
    await send(stage, idempotency_key=KEY)
    body = {"model": "m", "prompt": "hello"}
    text = await ask(stage.gateway, "POST", TEXT, body, idempotency_key=KEY)
    assert text.status == 200
    assert text.json["object"] == "text_completion"


@pytest.mark.parametrize("key", ["", "k" * 256, "k" * 10_000, "a\nb"])
async def test_a_key_that_is_none_is_a_400_that_names_the_header(key: str) -> None:
    stage = a_stage()
    answer = await send(stage, idempotency_key=key)
    assert answer.status == 400
    assert answer.json["error"]["param"] == "Idempotency-Key"
    assert stage.engine.asked == []


async def test_a_failed_answer_is_not_kept() -> None:
    stage = a_stage([EngineError("broken")])
    assert (await send(stage, idempotency_key=KEY)).status == 500
    stage.engine.acts = said("fine")
    again = await send(stage, idempotency_key=KEY)
    assert again.status == 200
    assert "idempotent-replayed" not in again.headers


def streamed() -> dict[str, Any]:
    return chat(stream=True)


@pytest.mark.parametrize("cut", range(6))
async def test_a_stream_goes_on_after_any_of_its_events(cut: int) -> None:
    stage = a_stage(said("a", "b", "c"))
    whole = (await send(stage, streamed(), idempotency_key=KEY)).content
    events = [event + b"\n\n" for event in whole.split(b"\n\n")[:-1]]
    ids = ["0", *(event.split(b"\n")[0].removeprefix(b"id: ").decode() for event in events)]
    rest = await send(stage, streamed(), idempotency_key=KEY, last_event_id=ids[cut])
    assert rest.content == b"".join(events[cut:])
    assert len(stage.engine.asked) == 1


async def test_the_beginning_of_one_answer_is_not_gone_on_with_by_another() -> None:
    stage = a_stage([Delta("a"), EngineError("broken")])
    first = await send(stage, streamed(), idempotency_key=KEY)
    last = re.findall(rb"id: (\S+)\n", first.content)[-1].decode()
    stage.engine.acts = said("x", "y", "z")
    await send(stage, streamed(), idempotency_key=KEY)
    rest = await send(stage, streamed(), idempotency_key=KEY, last_event_id=last)
    assert rest.status == 410
    assert len(stage.engine.asked) == 2


async def test_a_stream_goes_on_by_its_own_address() -> None:
    stage = a_stage(said("a", "b", "c"))
    whole = await send(stage, streamed(), idempotency_key=KEY)
    address = whole.headers["x-forebay-stream"]
    rest = await ask(stage.gateway, "GET", address, last_event_id="2")
    assert rest.status == 200
    assert rest.headers["content-type"].startswith("text/event-stream")
    assert whole.content.endswith(rest.content)
    assert rest.content.startswith(b"id: 3-")


async def test_a_stream_is_not_gone_on_with_after_an_event_of_another() -> None:
    stage = a_stage(said("a", "b", "c"))
    whole = await send(stage, streamed(), idempotency_key=KEY)
    address = whole.headers["x-forebay-stream"]
    rest = await ask(stage.gateway, "GET", address, last_event_id="2-deadbeef")
    assert (rest.status, rest.json["error"]["param"]) == (410, "Last-Event-ID")


async def test_a_header_in_two_lines_is_one_list() -> None:
    stage = a_stage()
    for lines in (["no-store", "max-age=60"], ["max-age=60", "no-store"]):
        exchange = Exchange(stage.gateway, "POST", CHAT).body(msgspec.json.encode(chat()))
        exchange.scope["headers"] = [(b"cache-control", line.encode()) for line in lines]
        await exchange.run()
        assert exchange.headers["x-forebay-cache"] == "bypass"
    assert len(stage.engine.asked) == 2


async def test_a_header_that_says_the_same_twice_says_it_once() -> None:
    stage = a_stage()
    await send(stage, idempotency_key=KEY)
    exchange = Exchange(stage.gateway, "POST", CHAT).body(msgspec.json.encode(chat()))
    exchange.scope["headers"] = [(b"idempotency-key", KEY.encode())] * 2
    await exchange.run()
    assert exchange.headers["idempotent-replayed"] == "true"


async def test_a_text_stream_reopened_speaks_its_own_dialect() -> None:
    stage = a_stage(said("a", "b"))
    body = {
        "model": "m",
        "prompt": "hello",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    whole = await ask(stage.gateway, "POST", TEXT, body, idempotency_key=KEY)
    rest = await ask(stage.gateway, "GET", whole.headers["x-forebay-stream"])
    assert rest.content == whole.content


async def test_a_stream_is_followed_while_it_is_made() -> None:
    go = asyncio.Event()
    last = Delta("b", finish_reason=FinishReason.STOP)
    stage = a_stage([Delta("a"), go.wait, last, Finished(Usage(5, 2))])
    first = Exchange(stage.gateway, "POST", CHAT, idempotency_key=KEY)
    body = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hello"}]}'
    first.body(body).start()
    await first.sent_at_least(2)
    first.leave()
    second = Exchange(stage.gateway, "POST", CHAT, idempotency_key=KEY, last_event_id="1")
    second.body(body).start()
    await second.sent_at_least(2)
    go.set()
    assert second.task is not None
    await second.task
    whole = (await send(stage, body, idempotency_key=KEY)).content
    assert whole.endswith(second.content)
    assert second.content.startswith(b"id: 2-")
    assert len(stage.engine.asked) == 1


async def test_an_event_id_from_the_future_is_a_400() -> None:
    stage = a_stage(said("a"))
    await send(stage, streamed(), idempotency_key=KEY)
    answer = await send(stage, streamed(), idempotency_key=KEY, last_event_id="99")
    assert answer.status == 400
    assert answer.json["error"]["param"] == "Last-Event-ID"
    assert stage.records[-1].outcome is Outcome.INVALID


async def test_an_event_id_without_a_keyed_stream_is_a_400() -> None:
    stage = a_stage()
    answer = await send(stage, streamed(), last_event_id="1")
    assert answer.status == 400
    assert answer.json["error"]["param"] == "Last-Event-ID"


async def test_an_event_id_of_an_unknown_key_is_a_410_that_says_what_to_do() -> None:
    stage = a_stage()
    answer = await send(stage, streamed(), idempotency_key=KEY, last_event_id="1")
    assert answer.status == 410
    assert "without Last-Event-ID" in answer.json["error"]["message"]
    assert stage.engine.asked == []


async def test_a_strangers_stream_is_a_404_without_a_hint() -> None:
    stage = a_stage()
    whole = await send(stage, streamed(), idempotency_key=KEY, authorization="Bearer one")
    address = whole.headers["x-forebay-stream"]
    theirs = await ask(stage.gateway, "GET", address, authorization="Bearer two")
    nobodys = await ask(stage.gateway, "GET", "/v1/streams/chatcmpl-x")
    assert theirs.status == nobodys.status == 404
    assert theirs.content == nobodys.content


async def test_streams_are_read_by_get_only() -> None:
    answer = await ask(a_stage().gateway, "POST", "/v1/streams/x", {})
    assert answer.status == 405
    assert answer.headers["allow"] == "GET"


async def test_an_unkeyed_stream_carries_no_ids() -> None:
    answer = await send(a_stage(), streamed())
    assert b"id: " not in answer.content.replace(b'"id":', b"")
    assert "x-forebay-stream" not in answer.headers


async def test_a_repeatable_request_is_answered_from_memory_the_second_time() -> None:
    stage = a_stage()
    first = await send(stage, chat(temperature=0))
    again = await send(stage, chat(temperature=0))
    assert first.headers["x-forebay-cache"] == "miss"
    assert again.headers["x-forebay-cache"] == "hit"
    assert again.json["choices"] == first.json["choices"]
    assert again.json["id"] != first.json["id"]
    assert len(stage.engine.asked) == 1
    assert stage.records[-1].timeline.source is Source.CACHED


async def test_a_stream_and_a_whole_answer_come_from_the_same_entry() -> None:
    stage = a_stage()
    await send(stage, chat(seed=7))
    answer = await send(stage, chat(seed=7, stream=True))
    assert answer.headers["x-forebay-cache"] == "hit"
    contents = [frame["choices"][0]["delta"].get("content") for frame in answer.frames[:-1]]
    assert "".join(content or "" for content in contents) == "Hello world"


async def test_a_request_that_is_not_repeatable_is_made_anew() -> None:
    stage = a_stage()
    answers = [await send(stage, chat(temperature=1)) for _ in range(2)]
    assert [answer.headers["x-forebay-cache"] for answer in answers] == ["bypass", "bypass"]
    assert len(stage.engine.asked) == 2


async def test_a_client_can_ask_for_an_answer_of_some_age() -> None:
    stage = a_stage()
    for _ in range(2):
        answer = await send(stage, cache_control="max-age=60")
    assert answer.headers["x-forebay-cache"] == "hit"


@pytest.mark.parametrize("directive", ["no-store", "no-cache"])
async def test_a_client_can_decline_what_was_made_before(directive: str) -> None:
    stage = a_stage()
    await send(stage, chat(temperature=0))
    answer = await send(stage, chat(temperature=0), cache_control=directive)
    assert answer.headers["x-forebay-cache"] == "bypass"
    assert len(stage.engine.asked) == 2


async def test_nobody_is_answered_from_a_strangers_memory() -> None:
    stage = a_stage()
    await send(stage, chat(temperature=0), authorization="Bearer one")
    answer = await send(stage, chat(temperature=0), authorization="Bearer two")
    assert answer.headers["x-forebay-cache"] == "miss"
    assert len(stage.engine.asked) == 2


async def test_equal_repeatable_requests_at_once_make_one_generation() -> None:
    go = asyncio.Event()
    stage = a_stage([go.wait, *said("one")])
    body = b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"hello"}]}'
    exchanges = [Exchange(stage.gateway, "POST", CHAT).body(body).start() for _ in range(50)]
    await asyncio.sleep(0.02)
    go.set()
    await asyncio.gather(*(exchange.task for exchange in exchanges if exchange.task))
    assert {exchange.status for exchange in exchanges} == {200}
    assert len(stage.engine.asked) == 1
    made = [r for r in stage.records if r.timeline.source is Source.ENGINE]
    assert len(made) == 1


async def test_who_declines_what_was_made_before_does_not_join_what_is_under_way() -> None:
    go = asyncio.Event()
    stage = a_stage([go.wait, *said("one")])
    body = b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"hello"}]}'
    first = Exchange(stage.gateway, "POST", CHAT).body(body).start()
    await asyncio.sleep(0.01)
    own = Exchange(stage.gateway, "POST", CHAT, cache_control="no-cache").body(body).start()
    await asyncio.sleep(0.01)
    assert len(stage.engine.asked) == 2
    go.set()
    await asyncio.gather(*(one.task for one in (first, own) if one.task))
    assert (first.status, own.status) == (200, 200)
