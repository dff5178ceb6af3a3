"""The official `openai` package calls tools, and asks for responses: it parses what we send."""

import json
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseCompletedEvent, ResponseFunctionToolCall

from forebay.core.errors import EngineError
from forebay.core.request import (
    Chat,
    Delta,
    Finished,
    FinishReason,
    JsonSchema,
    Role,
    Scheduled,
    Usage,
)
from tests.conformance.test_openai_package import MESSAGES, client_of
from tests.support.gateways import a_stage, said

CITY: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "description": "?", "parameters": CITY}}
]
FLAT_TOOLS: Any = [{"type": "function", "name": "weather", "parameters": CITY, "strict": None}]
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
PIECES = [CALL[n : n + 5] for n in range(0, len(CALL), 5)]


async def test_a_tool_call_and_its_result() -> None:
    stage = a_stage(said(*PIECES))
    async with client_of(stage) as client:
        answer = await client.chat.completions.create(model="m", messages=MESSAGES, tools=TOOLS)
        message = answer.choices[0].message
        assert answer.choices[0].finish_reason == "tool_calls"
        assert message.tool_calls is not None
        call = message.tool_calls[0]
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"city": "Paris"}
        result: Any = {"role": "tool", "tool_call_id": call.id, "content": "Rain."}
        history: Any = [*MESSAGES, message.model_dump(exclude_none=True), result]
        stage.engine.acts = said("It rains.")
        last = await client.chat.completions.create(model="m", messages=history, tools=TOOLS)
    assert last.choices[0].message.content == "It rains."
    prompt = stage.engine.asked[1].prompt
    assert isinstance(prompt, Chat)
    assert prompt.tooling is not None
    assert [turn.name for turn in prompt.tooling.turns] == ["", "weather"]


async def test_the_packages_stream_helper_puts_a_call_together() -> None:
    async with (
        client_of(a_stage(said("Well. ", *PIECES))) as client,
        client.chat.completions.stream(model="m", messages=MESSAGES, tools=TOOLS) as stream,
    ):
        seen = [event.type async for event in stream]
        answer = await stream.get_final_completion()
    assert "tool_calls.function.arguments.delta" in seen
    assert "tool_calls.function.arguments.done" in seen
    message = answer.choices[0].message
    assert message.content == "Well."
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"city": "Paris"}'
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_a_response() -> None:
    stage = a_stage(said("Par", "is"))
    async with client_of(stage) as client:
        answer = await client.responses.create(
            model="m",
            input="What is the capital of France?",
            instructions="Be brief.",
            max_output_tokens=8,
            temperature=0,
            store=False,
        )
    assert answer.output_text == "Paris"
    assert answer.status == "completed"
    assert answer.id.startswith("resp_")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 2)
    assert (answer.instructions, answer.temperature) == ("Be brief.", 0)
    request = stage.engine.asked[0]
    assert isinstance(request.prompt, Chat)
    assert [turn.role for turn in request.prompt.messages] == [Role.SYSTEM, Role.USER]
    assert (request.sampling.tokens_max, request.sampling.temperature) == (8, 0)


async def test_a_streamed_response_has_the_semantic_events_in_order() -> None:
    async with client_of(a_stage(said("Par", "is"))) as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        events = [event async for event in stream]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(10))
    last = events[-1]
    assert isinstance(last, ResponseCompletedEvent)
    assert last.response.output_text == "Paris"
    assert last.response.usage is not None


async def test_whole_and_streamed_responses_are_the_same() -> None:
    headers = {"x-request-id": "same"}
    async with client_of(a_stage(said("Well. ", *PIECES, " So."))) as client:
        whole = await client.responses.create(
            model="m", input="x", tools=FLAT_TOOLS, extra_headers=headers
        )
        async with client.responses.stream(
            model="m", input="x", tools=FLAT_TOOLS, extra_headers=headers
        ) as stream:
            seen = [event.type async for event in stream]
            streamed = await stream.get_final_response()
    assert "response.function_call_arguments.delta" in seen
    assert [item.type for item in whole.output] == ["message", "function_call", "message"]
    ours, theirs = whole.model_dump(mode="json"), streamed.model_dump(mode="json")
    assert ours["id"] == theirs["id"]
    assert [item["id"] for item in ours["output"]] == [item["id"] for item in theirs["output"]]
    assert calls_of(whole)[0].arguments == calls_of(streamed)[0].arguments == '{"city": "Paris"}'


def calls_of(answer: Response) -> list[ResponseFunctionToolCall]:
    return [item for item in answer.output if isinstance(item, ResponseFunctionToolCall)]


async def test_a_response_that_calls_goes_on_with_the_result() -> None:
    stage = a_stage(said('{"name":"weather","arguments":{"city":"Rome"}}'))
    async with client_of(stage) as client:
        first = await client.responses.create(
            model="m",
            input="Weather?",
            tools=FLAT_TOOLS,
            tool_choice={"type": "function", "name": "weather"},
        )
        (call,) = calls_of(first)
        stage.engine.acts = said("It rains.")
        history: Any = [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            *(item.model_dump(exclude_none=True) for item in first.output),
            {"type": "function_call_output", "call_id": call.call_id, "output": "Rain."},
        ]
        last = await client.responses.create(model="m", input=history, tools=FLAT_TOOLS)
    assert isinstance(stage.engine.asked[0].sampling.grammar, JsonSchema)
    assert last.output_text == "It rains."
    prompt = stage.engine.asked[1].prompt
    assert isinstance(prompt, Chat)
    assert prompt.tooling is not None
    assert prompt.tooling.turns[1].answers == call.call_id
    again: Any = [*history, *(item.model_dump(exclude_none=True) for item in last.output)]
    async with client_of(stage) as client:
        await client.responses.create(model="m", input=again, tools=FLAT_TOOLS)


async def test_a_response_in_a_json_form() -> None:
    stage = a_stage(said('{"city": "Paris"}'))
    async with client_of(stage) as client:
        answer = await client.responses.create(
            model="m",
            input="x",
            text={"format": {"type": "json_schema", "name": "place", "schema": CITY}},
        )
    assert answer.output_text == '{"city": "Paris"}'
    assert isinstance(stage.engine.asked[0].sampling.grammar, JsonSchema)


async def test_a_response_that_is_cut_short_is_incomplete() -> None:
    acts = [Scheduled(1), Delta("Par", 1, 0, FinishReason.LENGTH), Finished(Usage(1, 1))]
    async with client_of(a_stage(acts)) as client:
        answer = await client.responses.create(model="m", input="x", max_output_tokens=1)
        stream = await client.responses.create(model="m", input="x", stream=True)
        events = [event async for event in stream]
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert events[-1].type == "response.incomplete"


async def test_an_error_in_mid_stream_is_raised_by_the_package() -> None:
    acts = [Delta("a"), EngineError("The engine was lost.")]
    async with client_of(a_stage(acts)) as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        with pytest.raises(openai.APIError, match=r"The engine was lost\."):
            async for _ in stream:
                pass


async def test_what_is_not_offered_is_a_bad_request_that_names_it() -> None:
    async with client_of(a_stage()) as client:
        with pytest.raises(openai.BadRequestError) as refusal:
            await client.responses.create(model="m", input="x", previous_response_id="resp_1")
        with pytest.raises(openai.BadRequestError) as built_in:
            await client.responses.create(model="m", input="x", tools=[{"type": "web_search"}])
    assert refusal.value.param == "previous_response_id"
    assert built_in.value.param == "tools[0].type"
