"""Bad tools on `/v1/chat/completions`: each is refused by the name of its field."""

import json
from typing import Any

import pytest

from tests.http.test_tools import a_tool
from tests.support.gateways import a_stage


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def called(**fields: Any) -> list[dict[str, Any]]:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}} | fields
    return [{"role": "assistant", "tool_calls": [call]}]


DEEP = {"type": "object", "x": json.loads('{"x":' * 70 + "1" + "}" * 70)}
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "a name": ({"tools": [a_tool("no spaces")]}, "tools[0].function.name", "letters"),
    "a long name": ({"tools": [a_tool("n" * 65)]}, "tools[0].function.name", "letters"),
    "no name": (
        {"tools": [{"type": "function", "function": {}}]},
        "tools[0].function.name",
        "missing",
    ),
    "a name twice": (
        {"tools": [a_tool("f"), a_tool("g"), a_tool("f")]},
        "tools[2].function.name",
        "tools[0] has this name too",
    ),
    "a kind": ({"tools": [{"type": "web_search"}]}, "tools[0].type", "only function"),
    "no kind": ({"tools": [{"function": {"name": "f"}}]}, "tools[0].type", "missing"),
    "an unknown field": (
        {"tools": [a_tool(parameter={})]},
        "tools[0].function.parameter",
        "Did you mean parameters?",
    ),
    "too many": ({"tools": [a_tool(f"f{n}") for n in range(129)]}, "tools", "at most 128"),
    "a text for a schema": (
        {"tools": [a_tool(parameters="x")]},
        "tools[0].function.parameters",
        "JSON schema",
    ),
    "a schema of a text": (
        {"tools": [a_tool(), a_tool("g", parameters={"type": "string"})]},
        "tools[1].function.parameters",
        "object",
    ),
    "a large schema": (
        {"tools": [a_tool(parameters={"type": "object", "description": "x" * 65_536})]},
        "tools[0].function.parameters",
        "at most 65536",
    ),
    "a deep schema": (
        {"tools": [a_tool(parameters=DEEP)]},
        "tools[0].function.parameters",
        "deep",
    ),
    "a choice without tools": ({"tool_choice": "required"}, "tool_choice", "needs tools"),
    "an unknown choice": (
        {"tools": [a_tool()], "tool_choice": "any"},
        "tool_choice",
        "found 'any'",
    ),
    "a choice of another kind": (
        {"tools": [a_tool()], "tool_choice": {"type": "allowed_tools"}},
        "tool_choice.type",
        "expected function",
    ),
    "a choice of none": (
        {"tools": [a_tool()], "tool_choice": {"type": "function"}},
        "tool_choice.function",
        "missing",
    ),
    "a choice of an unknown function": (
        {"tools": [a_tool()], "tool_choice": named("time")},
        "tool_choice.function.name",
        "no tool is called 'time'",
    ),
    "a form": (
        {"tools": [a_tool()], "response_format": {"type": "json_object"}},
        "response_format",
        "not together with tools",
    ),
    "odds": ({"tools": [a_tool()], "logprobs": True}, "logprobs", "not together with tools"),
    "the older form": ({"functions": [{"name": "f"}]}, "functions", "older form"),
    "a result of nothing": (
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "q"}]},
        "messages[0].tool_call_id",
        "no tool call",
    ),
    "a result by the wrong speaker": (
        {"messages": [{"role": "user", "content": "x", "tool_call_id": "q"}]},
        "messages[0].tool_call_id",
        "role tool",
    ),
    "a call by the wrong speaker": (
        {"messages": [called()[0] | {"role": "user"}]},
        "messages[0].tool_calls",
        "only an assistant",
    ),
    "a call of another kind": (
        {"messages": called(type="custom")},
        "messages[0].tool_calls[0].type",
        "only function",
    ),
    "a call without an id": (
        {"messages": called(id="")},
        "messages[0].tool_calls[0].id",
        "1 to 256 characters",
    ),
    "arguments that are no text": (
        {"messages": called(function={"name": "f", "arguments": {}})},
        "messages[0].tool_calls[0].function.arguments",
        "a string",
    ),
    "too many calls": (
        {"messages": [{"role": "assistant", "tool_calls": called()[0]["tool_calls"] * 17}]},
        "messages[0].tool_calls",
        "at most 16",
    ),
    "too much about tools": (
        {"tools": [a_tool(f"f{n}", description="x" * 9_000) for n in range(60)]},
        "messages",
        "bytes of text",
    ),
}


@pytest.mark.parametrize(("fields", "param", "words"), BAD.values(), ids=BAD)
async def test_bad_tools_are_refused_by_name(
    fields: dict[str, Any], param: str, words: str
) -> None:
    stage = a_stage()
    answer = await stage.chat(**fields)
    assert answer.status == 400
    error = answer.json["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert not stage.engine.asked
