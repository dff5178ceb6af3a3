"""Tools and responses by the official `openai` package, against a whole server and its worker.

The `scripted` engine says the last user's words again, so a user can put a call into its mouth.
"""

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.support.server import serving

TOOLS: Any = [
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
]
ARGUMENTS = '{"city": "Paris", "days": [1, 2]}'
CALL = f'Let me see. <tool_call>{{"name": "weather", "arguments": {ARGUMENTS}}}</tool_call>'


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    folder = tmp_path_factory.mktemp("live")
    with (
        serving(folder, "--engine", "scripted") as server,
        OpenAI(
            base_url=f"{server.url}/v1",
            api_key="none",
            max_retries=0,
            timeout=30,
            _strict_response_validation=True,
        ) as client,
    ):
        yield client


def asked(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_a_call_whole_and_streamed(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="scripted", messages=asked(CALL), tools=TOOLS)
    with client.chat.completions.stream(
        model="scripted", messages=asked(CALL), tools=TOOLS
    ) as stream:
        pieces = [
            event.arguments_delta
            for event in stream
            if event.type == "tool_calls.function.arguments.delta"
        ]
        streamed = stream.get_final_completion()
    assert len(pieces) > 1
    for choice in (whole.choices[0], streamed.choices[0]):
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content == "Let me see."
        (call,) = choice.message.tool_calls or []
        assert call.type == "function"
        assert (call.function.name, call.function.arguments) == ("weather", ARGUMENTS)


def test_a_conversation_with_a_result_goes_on(client: OpenAI) -> None:
    first = client.chat.completions.create(model="scripted", messages=asked(CALL), tools=TOOLS)
    (call,) = first.choices[0].message.tool_calls or []
    history: Any = [
        *asked(CALL),
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
        *asked("Thank you."),
    ]
    last = client.chat.completions.create(model="scripted", messages=history, tools=TOOLS)
    assert last.choices[0].message.content is not None
    assert last.choices[0].message.content.strip() == "Thank you."
    assert last.choices[0].finish_reason == "stop"


def test_without_a_grammar_no_call_can_be_required(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(
            model="scripted", messages=asked("x"), tools=TOOLS, tool_choice="required"
        )
    assert refusal.value.param == "tool_choice"


def test_a_response_whole_and_streamed(client: OpenAI) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": None, "strict": None}]
    whole = client.responses.create(model="scripted", input=CALL, tools=tools, store=False)
    with client.responses.stream(model="scripted", input=CALL, tools=tools) as stream:
        kinds = [event.type for event in stream]
        streamed = stream.get_final_response()
    assert kinds.count("response.function_call_arguments.delta") > 1
    for answer in (whole, streamed):
        assert answer.output_text == "Let me see."
        message, call = answer.output
        assert (message.type, call.type) == ("message", "function_call")
        assert call.type == "function_call"
        assert call.arguments == ARGUMENTS
        assert answer.usage is not None


def test_a_response_under_a_key_is_given_again(client: OpenAI) -> None:
    headers = {"Idempotency-Key": "tools-live"}
    first, second = (
        client.responses.with_raw_response.create(
            model="scripted", input="one two", extra_headers=headers
        )
        for _ in range(2)
    )
    assert second.headers["idempotent-replayed"] == "true"
    assert first.content == second.content
