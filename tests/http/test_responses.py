"""`/v1/responses`: its fields, its errors by their names, its streams that go on."""

import json
import re
from typing import Any

import pytest
from openai.types.responses import response_create_params as openai_responses

from forebay.core.errors import EngineError, Outcome
from forebay.core.request import Chat, Delta, Role, Route, Source
from forebay.engine.protocol import Feature
from forebay.gateway.config import GatewayConfig
from forebay.gateway.parameters import Verdict
from forebay.gateway.responses_parameters import RESPONSES
from forebay.gateway.responses_schemas import ResponsesCall
from tests.support.asgi import Exchange, ask
from tests.support.gateways import Stage, a_stage, said

PATH = "/v1/responses"
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "name": "weather", "parameters": CITY}
CALL = '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'


async def send(stage: Stage, said: Any = "hello", /, **fields: Any) -> Exchange:
    return await ask(stage.gateway, "POST", PATH, {"model": "m", "input": said} | fields)


def prompt_of(stage: Stage) -> Chat:
    prompt = stage.engine.asked[-1].prompt
    assert isinstance(prompt, Chat)
    return prompt


def events(answer: Exchange) -> list[dict[str, Any]]:
    """Return the data of each event, each under its own type."""
    found = []
    for event in answer.content.decode().removesuffix("\n\n").split("\n\n"):
        *_, name, data = event.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


async def test_a_whole_answer_says_what_it_was_asked() -> None:
    stage = a_stage()
    answer = await send(stage, instructions="Be kind.", max_output_tokens=7, top_p=0.5)
    body = answer.json
    assert body["output"][0]["content"][0]["text"] == "Hello world"
    assert (body["object"], body["status"], body["store"]) == ("response", "completed", False)
    assert (body["instructions"], body["max_output_tokens"]) == ("Be kind.", 7)
    assert (body["temperature"], body["top_p"]) == (1.0, 0.5)
    assert body["text"] == {"format": {"type": "text"}}
    assert (body["tools"], body["tool_choice"]) == ([], "auto")
    assert body["usage"]["total_tokens"] == 7
    assert stage.record.outcome is Outcome.OK
    assert stage.record.route is Route.RESPONSES


async def test_an_answer_without_a_word_is_a_message_without_text() -> None:
    answer = await send(a_stage(said("")))
    assert [item["content"][0]["text"] for item in answer.json["output"]] == [""]
    streamed = events(await send(a_stage(said("")), stream=True))
    assert streamed[-1]["response"]["output"][0]["content"][0]["text"] == ""


async def test_calls_and_results_become_turns() -> None:
    stage = a_stage()
    call = {"type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"}
    said_before = {"type": "output_text", "text": "Let me see.", "annotations": []}
    items = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "message", "role": "assistant", "content": [said_before], "id": "m"},
        call,
        call | {"call_id": "b"},
        {"type": "function_call_output", "call_id": "b", "output": "Rain."},
        {"type": "function_call_output", "call_id": "a", "output": "Sun."},
        call | {"call_id": "c"},
    ]
    assert (await send(stage, items)).status == 200
    prompt = prompt_of(stage)
    assert [turn.role for turn in prompt.messages] == [
        *(Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.TOOL, Role.TOOL, Role.ASSISTANT)
    ]
    assert prompt.messages[2].content == "Let me see."
    assert prompt.tooling is not None
    assert [len(turn.calls) for turn in prompt.tooling.turns] == [2, 0, 0, 1]
    assert [turn.answers for turn in prompt.tooling.turns] == ["", "b", "a", ""]


async def test_the_events_of_a_call() -> None:
    found = events(await send(a_stage(said(CALL)), tools=[TOOL], stream=True))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    names = [event["type"].removeprefix("response.") for event in found]
    assert names == [
        *("created", "in_progress", "output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done", "completed"),
    ]
    (item,) = found[-1]["response"]["output"]
    assert (item["type"], item["name"]) == ("function_call", "weather")
    assert item["arguments"] == '{"city": "Paris"}'
    assert found[2]["item"] == item | {"arguments": "", "status": "in_progress"}


async def test_an_error_in_mid_stream_is_an_event_with_the_next_number() -> None:
    found = events(await send(a_stage([Delta("a"), EngineError("Lost.")]), stream=True))
    assert found[-1]["type"] == "error"
    assert found[-1]["sequence_number"] == found[-2]["sequence_number"] + 1
    assert found[-1]["message"] == found[-1]["error"]["message"] == "Lost."
    assert found[-1]["code"] == "engine_error"


@pytest.mark.parametrize("tools", [[], [TOOL]], ids=["a text", "a call"])
async def test_a_keyed_stream_goes_on_where_it_broke_off(tools: list[Any]) -> None:
    stage = a_stage(said(CALL[:20], CALL[20:50], CALL[50:], " So."))
    body = {"model": "m", "input": "x", "stream": True, "tools": tools}
    first = await ask(stage.gateway, "POST", PATH, body, idempotency_key=KEY)
    ids = re.findall(r"id: (\S+)\n", first.content.decode())
    _, rest = first.content.split(f"id: {ids[3]}\n".encode())
    again = await ask(stage.gateway, "POST", PATH, body, idempotency_key=KEY)
    assert again.content == first.content
    path = first.headers["x-forebay-stream"]
    reopened = await stage.get(path, last_event_id=ids[3])
    assert reopened.content == rest.split(b"\n\n", 1)[1]
    assert [record.timeline.source for record in stage.records] == [
        *(Source.ENGINE, Source.REPLAYED, Source.REPLAYED)
    ]


async def test_a_keyed_stream_of_a_chats_call_goes_on_too() -> None:
    stage = a_stage(said(CALL[:50], CALL[50:]))
    function = {"name": "weather", "parameters": CITY}
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "stream": True,
        "tools": [{"type": "function", "function": function}],
    }
    first = await ask(stage.gateway, "POST", "/v1/chat/completions", body, idempotency_key=KEY)
    reopened = await stage.get(first.headers["x-forebay-stream"])
    assert reopened.content == first.content
    assert b'"finish_reason":"tool_calls"' in first.content


async def test_another_layout_of_the_same_call_is_the_same_call() -> None:
    stage = a_stage()
    body = {"model": "m", "input": "x", "tools": [TOOL]}
    one = json.dumps(body, indent=3).encode()
    two = json.dumps(body, separators=(",", ":")).encode()
    await ask(stage.gateway, "POST", PATH, one, idempotency_key=KEY)
    again = await ask(stage.gateway, "POST", PATH, two, idempotency_key=KEY)
    assert again.headers["idempotent-replayed"] == "true"


def test_every_parameter_of_the_openai_package_is_known_and_in_the_table() -> None:
    params = (
        openai_responses.ResponseCreateParamsNonStreaming,
        openai_responses.ResponseCreateParamsStreaming,
    )
    theirs = {name for each in params for name in each.__annotations__}
    assert theirs == set(ResponsesCall.__struct_fields__)
    assert sorted(row.name for row in RESPONSES) == sorted(ResponsesCall.__struct_fields__)


def test_every_note_is_a_sentence_for_people() -> None:
    for row in RESPONSES:
        assert len(row.note) < 100
        assert row.note.endswith(".")


@pytest.mark.parametrize("row", RESPONSES, ids=lambda row: row.name)
async def test_each_parameter_is_honoured_refused_or_warned_of(row: Any) -> None:
    if row.verdict is Verdict.HONOURED:
        return
    value = {"include_obfuscation": True} if row.name == "stream_options" else {"x": 1}
    stream = row.name == "stream_options"
    answer = await send(a_stage(), stream=stream, **{row.name: value})
    if row.verdict is Verdict.REFUSED:
        assert answer.status == 400
        assert answer.json["error"]["param"] == row.name
    else:
        assert answer.status == 200
        assert answer.headers["x-forebay-warning"] == row.name
    for neutral in row.neutral:
        quiet = await send(a_stage(), stream=stream, **{row.name: neutral})
        assert (quiet.status, quiet.headers.get("x-forebay-warning")) == (200, None), neutral


async def test_capabilities_tell_of_this_endpoint_too() -> None:
    page = (await a_stage().get("/v1/capabilities")).json["models"]["m"]
    rows = page["endpoints"][PATH]
    assert rows["previous_response_id"]["verdict"] == "refused"
    assert rows["max_output_tokens"]["bounds"] == {"minimum": 1, "maximum": 1_000}


def an_item(**fields: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "x"}, fields]


def a_form(**fields: Any) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", "name": "n"} | fields}}


ODD = {"type": "object", "properties": {"n": {"type": "number", "minimum": 0.5}}}
BAD: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "no items": ([], {}, "input", "empty"),
    "a number": (5, {}, "input", "a string or an array"),
    "too many items": (an_item(role="user", content="x") * 300, {}, "input", "at most"),
    "another kind of item": (
        an_item(type="reasoning", summary=[]),
        {},
        "input[1].type",
        "found 'reasoning'",
    ),
    "no role": (an_item(content="x"), {}, "input[1].role", "missing"),
    "no content": (an_item(role="user"), {}, "input[1].content", "missing"),
    "an image": (
        an_item(role="user", content=[{"type": "input_image", "image_url": "x"}]),
        {},
        "input[1].content[0].type",
        "found 'input_image'",
    ),
    "a text with an image": (
        an_item(role="user", content=[{"type": "input_text", "text": "x", "image_url": "x"}]),
        {},
        "input[1].content[0].image_url",
        "no such field",
    ),
    "a message with another kind's field": (
        an_item(role="user", content="x", encrypted_content="x"),
        {},
        "input[1].encrypted_content",
        "no such field",
    ),
    "a choice with another kind's field": (
        "x",
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "n", "mode": "auto"}},
        "tool_choice.mode",
        "no such field",
    ),
    "a text without text": (
        an_item(role="user", content=[{"type": "input_text"}]),
        {},
        "input[1].content[0].text",
        "missing",
    ),
    "a misspelt field": (
        an_item(role="user", contents="x"),
        {},
        "input[1].contents",
        "Did you mean content?",
    ),
    "a call without a name": (
        an_item(type="function_call", call_id="a", arguments="{}"),
        {},
        "input[1].name",
        "missing",
    ),
    "a result of nothing": (
        an_item(type="function_call_output", call_id="a", output="x"),
        {"instructions": "x"},
        "input[1].call_id",
        "no tool call",
    ),
    "instructions that are too long": (
        "x",
        {"instructions": "x" * 600_000},
        "input",
        "bytes of text",
    ),
    "too many tokens": ("x", {"max_output_tokens": 2_000}, "max_output_tokens", "context"),
    "a tool without a name": ("x", {"tools": [{"type": "function"}]}, "tools[0].name", "missing"),
    "a built-in tool": (
        "x",
        {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]},
        "tools[0].type",
        "found 'file_search'",
    ),
    "a tool's odd field": (
        "x",
        {"tools": [TOOL | {"defer_loading": True}]},
        "tools[0].defer_loading",
        "not supported",
    ),
    "a tool twice": ("x", {"tools": [TOOL, TOOL]}, "tools[1].name", "this name too"),
    "a tool's odd schema": (
        "x",
        {"tools": [TOOL | {"parameters": ODD, "strict": True}], "tool_choice": "required"},
        "tools[0].parameters.properties.n",
        "minimum",
    ),
    "a choice of an unknown tool": (
        "x",
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "time"}},
        "tool_choice.name",
        "no tool",
    ),
    "a choice of a built-in tool": (
        "x",
        {"tools": [TOOL], "tool_choice": {"type": "web_search_preview"}},
        "tool_choice.type",
        "expected function",
    ),
    "a form without a schema": ("x", a_form(), "text.format.schema", "missing"),
    "a form without a name": (
        "x",
        {"text": {"format": {"type": "json_schema"}}},
        "text.format.name",
        "missing",
    ),
    "a form's odd schema": ("x", a_form(schema=ODD), "text.format.schema.properties.n", "minimum"),
    "an unknown form": ("x", {"text": {"format": {"type": "xml"}}}, "text.format.type", "expected"),
    "a verbosity": ("x", {"text": {"verbosity": "low"}}, "text.verbosity", "not supported"),
    "a form and tools": (
        "x",
        a_form(schema=CITY) | {"tools": [TOOL]},
        "text.format",
        "not together with tools",
    ),
    "an unknown parameter": ("x", {"seed": 5}, "seed", "no such parameter"),
    "options without a stream": (
        "x",
        {"stream_options": {"include_obfuscation": False}},
        "stream_options",
        "only together with stream",
    ),
}


@pytest.mark.parametrize(("items", "fields", "param", "words"), BAD.values(), ids=BAD)
async def test_a_bad_call_is_refused_by_the_names_of_this_dialect(
    items: Any, fields: dict[str, Any], param: str, words: str
) -> None:
    stage = a_stage()
    answer = await send(stage, items, **fields)
    assert answer.status == 400, answer.content
    error = answer.json["error"]
    assert error["param"] == param
    assert error["message"].startswith(param)
    assert words in error["message"]
    assert not stage.engine.asked


async def test_a_model_that_cannot_chat_says_so_of_the_input() -> None:
    answer = await send(a_stage(supports=frozenset({Feature.TEXT})))
    assert answer.json["error"]["param"] == "input"


async def test_warnings_have_the_names_of_this_dialect() -> None:
    tools = [TOOL | {"strict": True}]
    answer = await send(a_stage(), tools=tools, user="u")
    assert answer.headers["x-forebay-warning"] == "user, tools[].strict"
    forced = await send(
        a_stage(), tools=[TOOL | {"parameters": ODD}], tool_choice="required", metadata={"a": "b"}
    )
    assert forced.headers["x-forebay-warning"] == "metadata, tools[].parameters"


async def test_tools_in_words_serve_here_too() -> None:
    supports = frozenset(Feature) - {Feature.TOOLS}
    stage = a_stage(said(CALL), supports=supports, config=GatewayConfig(tools_generic=True))
    answer = await send(stage, tools=[TOOL])
    assert answer.json["output"][0]["name"] == "weather"
    refused = await send(a_stage(supports=supports), tools=[TOOL])
    assert refused.json["error"]["param"] == "tools"
