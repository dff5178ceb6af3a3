"""The schema of an answer that is nothing but tool calls."""

import json
from typing import Any

import pytest

from forebay.core.tooling import Tool
from forebay.engine import json_schema
from forebay.engine.tool_grammar import calls_schema
from tests.support.schemas import satisfies

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TREE = {
    "type": "object",
    "properties": {
        "left": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        "leaf": {"$ref": "#/$defs/leaf"},
        "old": {"$ref": "#/definitions/leaf"},
        "$ref": {"const": {"$ref": "#"}},
    },
    "required": ["leaf"],
    "additionalProperties": False,
    "$defs": {"leaf": {"type": "integer"}},
    "definitions": {"leaf": {"type": "boolean"}},
}


def tool(name: str, schema: dict[str, Any] | None = None) -> Tool:
    return Tool(name=name, parameters="" if schema is None else json.dumps(schema))


def accepts(schema: str, value: object) -> bool:
    root = json.loads(schema)
    return satisfies(value, root, root)


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


@pytest.mark.parametrize("calls_max", [1, 3])
def test_the_schema_is_one_that_a_grammar_enforces(calls_max: int) -> None:
    schema = calls_schema([tool("a", CITY), tool("b", TREE), tool("c")], calls_max=calls_max)
    json_schema.check(json.loads(schema))
    json_schema.grammar_schema(schema)


def test_one_call_has_a_name_and_the_arguments_of_its_own_schema() -> None:
    schema = calls_schema([tool("a", CITY), tool("c")], calls_max=1)
    assert accepts(schema, call("a", city="Paris"))
    assert accepts(schema, call("c", anything=1))
    assert not accepts(schema, call("a", town="Paris"))
    assert not accepts(schema, call("b"))
    assert not accepts(schema, {"name": "a"})
    assert not accepts(schema, [call("a", city="Paris")])


def test_several_calls_are_an_array_with_an_end() -> None:
    schema = calls_schema([tool("a", CITY)], calls_max=2)
    one = call("a", city="Paris")
    assert accepts(schema, [one])
    assert accepts(schema, [one, one])
    assert not accepts(schema, [])
    assert not accepts(schema, [one, one, one])


def test_references_lead_where_they_led() -> None:
    schema = calls_schema([tool("a", CITY), tool("b", TREE)], calls_max=1)
    assert accepts(schema, call("b", leaf=1, old=True, left={"leaf": 2, "left": None}))
    assert not accepts(schema, call("b", leaf=True))
    assert not accepts(schema, call("b", leaf=1, old=1))
    assert not accepts(schema, call("b", leaf=1, left={"leaf": "x"}))
    assert accepts(schema, call("b", leaf=1) | {"arguments": {"leaf": 1, "$ref": {"$ref": "#"}}})
