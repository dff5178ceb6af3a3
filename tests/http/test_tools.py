"""Tools on `/v1/chat/completions`: what the engine is told, and what the client is."""

import json
from typing import Any

from forebay.core.request import (
    Chat,
    Delta,
    Finished,
    FinishReason,
    JsonSchema,
    Role,
    Usage,
)
from forebay.core.tooling import Tool, ToolCall, ToolTurn
from forebay.engine.protocol import Feature
from forebay.gateway.config import GatewayConfig
from tests.support.asgi import Exchange, ask
from tests.support.gateways import CHAT, Stage, a_stage, chat, said

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
NO_TOOLS = frozenset(Feature) - {Feature.TOOLS}
HISTORY = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "weather", "arguments": '{"city": "Paris"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
]


def a_tool(name: str = "weather", /, **function: Any) -> dict[str, Any]:
    function = {"name": name, "parameters": CITY} | function
    return {"type": "function", "function": function}


def asked(stage: Stage) -> Chat:
    prompt = stage.engine.asked[0].prompt
    assert isinstance(prompt, Chat)
    return prompt


def grammar(stage: Stage) -> Any:
    found = stage.engine.asked[0].sampling.grammar
    assert isinstance(found, JsonSchema)
    return json.loads(found.schema)


def chunks(answer: Exchange) -> list[Any]:
    assert answer.frames[-1] == "[DONE]"
    return answer.frames[:-1]


CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'


async def test_the_models_words_for_a_call_become_a_call() -> None:
    stage = a_stage(said(CALL[:14], CALL[14:]))
    answer = await stage.chat(tools=[a_tool()])
    choice = answer.json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert call["type"] == "function"
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}
    assert call["id"].startswith("call_")
    assert len(call["id"]) == 29


async def test_the_engine_is_told_of_the_tools() -> None:
    stage = a_stage()
    await stage.chat(tools=[a_tool(description="Tells it.")])
    tooling = asked(stage).tooling
    assert tooling is not None
    text = json.dumps(CITY, separators=(",", ":"))
    assert tooling.tools == (Tool(name="weather", description="Tells it.", parameters=text),)
    assert stage.engine.asked[0].sampling.grammar is None


async def test_a_conversation_without_tools_is_as_it_was() -> None:
    stage = a_stage(said(CALL))
    answer = await stage.chat(tools=[a_tool()], tool_choice="none")
    assert asked(stage).tooling is None
    assert stage.engine.asked[0].shape == ""
    assert answer.json["choices"][0]["message"] == {
        "role": "assistant",
        "content": CALL,
        "refusal": None,
    }


async def test_earlier_calls_and_their_results_are_told() -> None:
    stage = a_stage()
    assert (await stage.chat(messages=HISTORY)).status == 200
    prompt = asked(stage)
    assert [turn.role for turn in prompt.messages] == [Role.USER, Role.ASSISTANT, Role.TOOL]
    assert prompt.messages[1].content == ""
    call = ToolCall(id="call_1", name="weather", arguments='{"city": "Paris"}')
    assert prompt.tooling is not None
    assert prompt.tooling.turns == (
        ToolTurn(index=1, calls=(call,)),
        ToolTurn(index=2, answers="call_1", name="weather"),
    )


async def test_a_streamed_call_is_named_first_and_its_arguments_follow_in_pieces() -> None:
    pieces = [
        "Well. ",
        "<tool_",
        'call>{"name": "weather", "argu',
        'ments": {"ci',
        'ty": 1}}',
        "</",
    ]
    answer = await a_stage(said(*pieces, "tool_call>")).chat(tools=[a_tool()], stream=True)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks(answer)]
    texts = [delta["content"] for delta in deltas if delta.get("content")]
    calls = [call for delta in deltas for call in delta.get("tool_calls", [])]
    assert "".join(texts) == "Well."
    assert calls[0]["function"] == {"name": "weather", "arguments": ""}
    assert (calls[0]["type"], calls[0]["index"]) == ("function", 0)
    assert calls[0]["id"].startswith("call_")
    assert calls[1:] == [
        {"index": 0, "function": {"arguments": '{"ci'}},
        {"index": 0, "function": {"arguments": 'ty": 1}'}},
    ]
    assert chunks(answer)[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_whole_and_streamed_answers_name_calls_alike() -> None:
    stage = a_stage(said(CALL))
    ids = []
    for stream in (False, True):
        headers = {"x-request-id": "same"}
        body = chat(tools=[a_tool()], stream=stream)
        answer = await ask(stage.gateway, "POST", CHAT, body, **headers)
        if stream:
            (first, *_) = [
                call
                for chunk in chunks(answer)
                for call in chunk["choices"][0]["delta"].get("tool_calls", [])
            ]
            ids.append(first["id"])
        else:
            ids.append(answer.json["choices"][0]["message"]["tool_calls"][0]["id"])
    assert ids[0] == ids[1]


async def test_each_choice_has_calls_of_its_own() -> None:
    acts = [
        Delta(CALL, 1, 0, FinishReason.STOP),
        Delta("No.", 1, 1, FinishReason.STOP),
        Delta(CALL, 1, 2, FinishReason.STOP),
        Finished(Usage(1, 3)),
    ]
    answer = await a_stage(acts).chat(tools=[a_tool()], n=3)
    one, two, three = answer.json["choices"]
    assert (one["finish_reason"], two["finish_reason"]) == ("tool_calls", "stop")
    assert two["message"]["content"] == "No."
    assert "tool_calls" not in two["message"]
    assert one["message"]["tool_calls"][0]["id"] != three["message"]["tool_calls"][0]["id"]


async def test_where_a_call_is_required_a_grammar_sees_to_it() -> None:
    stage = a_stage(said('[{"name":"weather","arguments":{"city":"Rome"}}]'))
    answer = await stage.chat(tools=[a_tool(), a_tool("time")], tool_choice="required")
    schema = grammar(stage)
    assert (schema["type"], schema["minItems"], schema["maxItems"]) == ("array", 1, 16)
    assert len(schema["items"]["anyOf"]) == 2
    (call,) = answer.json["choices"][0]["message"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city":"Rome"}'}


async def test_a_named_function_is_the_only_one_that_can_be_called() -> None:
    stage = a_stage(said('{"name":"time","arguments":{"city":"Rome"}}'))
    choice = {"type": "function", "function": {"name": "time"}}
    answer = await stage.chat(tools=[a_tool(), a_tool("time")], tool_choice=choice)
    assert grammar(stage)["properties"]["name"] == {"const": "time"}
    tooling = asked(stage).tooling
    assert tooling is not None
    assert len(tooling.tools) == 2
    assert answer.json["choices"][0]["finish_reason"] == "tool_calls"


async def test_without_parallel_calls_there_is_one() -> None:
    stage = a_stage(said(CALL + CALL))
    answer = await stage.chat(tools=[a_tool()], parallel_tool_calls=False)
    assert len(answer.json["choices"][0]["message"]["tool_calls"]) == 1
    stage = a_stage()
    await stage.chat(tools=[a_tool()], parallel_tool_calls=False, tool_choice="required")
    assert grammar(stage)["type"] == "object"


async def test_a_schema_that_no_grammar_enforces_is_warned_of_or_refused_where_strict() -> None:
    odd = {"type": "object", "properties": {"n": {"type": "number", "minimum": 0.5}}}
    stage = a_stage()
    loose = await stage.chat(tools=[a_tool(parameters=odd)], tool_choice="required")
    assert loose.headers["x-forebay-warning"] == "tools[].function.parameters"
    assert grammar(stage)["$defs"]["t0_"] == {"type": "object"}
    tools = [a_tool("time"), a_tool(parameters=odd, strict=True)]
    strict = await a_stage().chat(tools=tools, tool_choice="required")
    assert strict.status == 400
    assert strict.json["error"]["param"] == "tools[1].function.parameters.properties.n"


async def test_strict_arguments_under_auto_are_warned_of() -> None:
    answer = await a_stage().chat(tools=[a_tool(strict=True)])
    assert answer.headers["x-forebay-warning"] == "tools[].function.strict"


async def test_a_model_without_tools_says_what_to_do() -> None:
    stage = a_stage(supports=NO_TOOLS)
    answer = await stage.chat(tools=[a_tool()])
    assert answer.status == 400
    assert answer.json["error"]["param"] == "tools"
    assert "gateway.tools_generic" in answer.json["error"]["message"]
    spoken = await stage.chat(messages=HISTORY)
    assert spoken.json["error"]["param"] == "messages[1].tool_calls"
    assert not stage.engine.asked


async def test_tools_in_words_for_a_model_whose_template_has_none() -> None:
    stage = a_stage(said(CALL), supports=NO_TOOLS, config=GatewayConfig(tools_generic=True))
    system = {"role": "system", "content": "Be kind."}
    answer = await stage.chat(messages=[system, *HISTORY], tools=[a_tool()])
    prompt = asked(stage)
    assert prompt.tooling is None
    rules, user, called, result = [turn.content for turn in prompt.messages]
    assert rules.startswith("Be kind.\n\nYou may call functions")
    assert '"name":"weather"' in rules
    assert user == "Weather?"
    assert '{"name": "weather", "arguments": {"city": "Paris"}}' in called
    assert "Rain." in result
    assert prompt.messages[3].role is Role.USER
    assert answer.json["choices"][0]["finish_reason"] == "tool_calls"


async def test_capabilities_say_what_can_be_called_and_how() -> None:
    page = (await a_stage().get("/v1/capabilities")).json["models"]["m"]
    rows = page["endpoints"]["/v1/chat/completions"]
    assert rows["tools"]["bounds"]["tools_max"] == 128
    assert rows["tools"]["bounds"]["said_by"] == "template"
    assert rows["tool_choice"]["bounds"]["types"] == ["none", "auto", "required", "function"]
    config = GatewayConfig(tools_generic=True)
    supports = NO_TOOLS - {Feature.JSON_SCHEMA}
    page = (await a_stage(supports=supports, config=config).get("/v1/capabilities")).json
    rows = page["models"]["m"]["endpoints"]["/v1/chat/completions"]
    assert rows["tools"]["bounds"]["said_by"] == "system message"
    assert rows["tool_choice"]["bounds"]["types"] == ["none", "auto"]


async def test_a_call_cannot_be_required_of_an_engine_without_grammars() -> None:
    stage = a_stage(supports=frozenset(Feature) - {Feature.JSON_SCHEMA})
    answer = await stage.chat(tools=[a_tool()], tool_choice="required")
    assert answer.status == 400
    assert answer.json["error"]["param"] == "tool_choice"
    assert (await stage.chat(tools=[a_tool()])).status == 200


async def test_schemas_that_are_too_much_together_are_refused() -> None:
    schema = {"type": "object", "properties": {"s": {"type": "string", "maxLength": 100}}}
    tools = [a_tool(name, parameters=schema) for name in ("f", "g")]
    assert (await a_stage().chat(tools=tools[:1], tool_choice="required")).status == 200
    answer = await a_stage().chat(tools=tools, tool_choice="required")
    assert answer.status == 400
    assert answer.json["error"]["param"] == "tools"
    assert "together" in answer.json["error"]["message"]
