"""The default model has to call: a grammar makes of 135 million parameters a well-formed caller."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from forebay.engine.text import ModelTokenizer
from tests.support.models import artefact_of
from tests.support.schemas import satisfies
from tests.support.server import serving

pytestmark = [pytest.mark.model, pytest.mark.slow]

SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "unit", "days"],
        "additionalProperties": False,
    },
    "set_alarm": {
        "type": "object",
        "properties": {"at": {"$ref": "#/$defs/clock"}},
        "required": ["at"],
        "additionalProperties": False,
        "$defs": {"clock": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"}},
    },
}
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": name, "description": name.replace("_", " "), "parameters": schema},
    }
    for name, schema in SCHEMAS.items()
]
MESSAGES: Any = [{"role": "user", "content": "What will the weather be in Paris tomorrow?"}]


@pytest.fixture(scope="module")
def client(default_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    folder = tmp_path_factory.mktemp("tools")
    settings = ("--set", "gateway.tools_generic=true")
    with (
        serving(folder, default_model, *settings) as server,
        OpenAI(
            base_url=f"{server.url}/v1",
            api_key="none",
            max_retries=0,
            timeout=120,
            _strict_response_validation=True,
        ) as client,
    ):
        server.until_ready()
        yield client


def model_of(client: OpenAI) -> str:
    return next(iter(client.models.list())).id


def check(name: str, arguments: str) -> None:
    schema = SCHEMAS[name]
    assert satisfies(json.loads(arguments), schema, schema), (name, arguments)


@pytest.mark.parametrize("seed", range(6))
def test_every_required_call_satisfies_its_schema(client: OpenAI, seed: int) -> None:
    answer = client.chat.completions.create(
        model=model_of(client),
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=seed % 2 == 0,
        temperature=1.0,
        seed=seed,
        max_tokens=2_000,
    )
    choice = answer.choices[0]
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    assert len(choice.message.tool_calls) == 1 or seed % 2 == 0
    for call in choice.message.tool_calls:
        assert call.type == "function"
        check(call.function.name, call.function.arguments)


def test_a_named_function_is_called_in_a_stream(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=model_of(client),
        messages=MESSAGES,
        tools=TOOLS,
        tool_choice={"type": "function", "function": {"name": "set_alarm"}},
        temperature=0,
        max_tokens=400,
    ) as stream:
        pieces = [
            event.arguments_delta
            for event in stream
            if event.type == "tool_calls.function.arguments.delta"
        ]
        answer = stream.get_final_completion()
    assert len(pieces) > 3
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.function.name == "set_alarm"
    check(call.function.name, call.function.arguments)


def test_a_response_has_to_call_too(client: OpenAI) -> None:
    answer = client.responses.create(
        model=model_of(client),
        input="What will the weather be in Paris tomorrow?",
        tools=[
            {"type": "function", "name": name, "parameters": schema, "strict": True}
            for name, schema in SCHEMAS.items()
        ],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
    )
    (call,) = answer.output
    assert call.type == "function_call"
    check(call.name, call.arguments)


def test_the_models_own_template_takes_no_tools(default_model: str) -> None:
    text = ModelTokenizer.load(artefact_of(default_model).path)
    assert {feature.value for feature in text.features} == {"chat"}


def test_a_result_is_answered(client: OpenAI) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
    }
    history: Any = [
        *MESSAGES,
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain, 12 degrees."},
    ]
    answer = client.chat.completions.create(
        model=model_of(client), messages=history, tools=TOOLS, max_tokens=60
    )
    assert answer.choices[0].finish_reason in {"stop", "length", "tool_calls"}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model=model_of(client), messages=[history[0], history[2]], tools=TOOLS
        )
