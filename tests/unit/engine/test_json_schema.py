"""Only schemas that are enforced are accepted; a refusal names the place and the keyword."""

import json
from typing import Any

import pytest

from forebay.engine.json_schema import ANY_OBJECT, SchemaRefused, check, grammar_schema
from forebay.engine.schema_rules import (
    BUDGETS,
    BYTES_MAX,
    NODES_MAX,
    OPTIONAL_MAX,
    VALUES_MAX,
    Budget,
)


def an_object(**properties: Any) -> dict[str, Any]:
    names = list(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": names,
        "additionalProperties": False,
    }


ACCEPTED = [
    {},
    {"type": "object"},
    an_object(name={"type": "string"}, age={"type": "integer", "minimum": 0}),
    an_object(kind={"enum": ["a", 1, None, {"k": [1.5]}]}),
    an_object(a=True, b={}),
    {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": {}},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 9},
    {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
    {"type": ["string", "null"], "maxLength": 20},
    {"type": "string", "format": "date-time"},
    {"type": "string", "pattern": r"^[A-Z]{2}-\d{4}$"},
    {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["x"]}], "title": "either"},
    {"$ref": "#/$defs/t", "$defs": {"t": an_object(t={"type": "array", "items": {"$ref": "#"}})}},
    {"$ref": "#/definitions/t", "definitions": {"t": {"const": 4}}},
    {"type": "integer", "title": "t", "description": "d", "default": 1, "examples": [2]},
    {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "type": "number"},
]


@pytest.mark.parametrize("schema", ACCEPTED, ids=json.dumps)
def test_a_schema_that_is_enforced_is_accepted(schema: dict[str, Any]) -> None:
    check(schema)
    json.loads(grammar_schema(json.dumps(schema)))


REFUSED = [
    ([], "", "must be an object"),
    ({"type": "foo"}, "", "type must be"),
    ({"type": []}, "", "type must be"),
    ({"type": ["integer", "integer"]}, "", "type must be"),
    ({"type": {}}, "", "type must be"),
    ({"type": {}, "enum": [1]}, "", "type must be"),
    (an_object(a=False), "properties.a", "object or true"),
    (an_object(a={"type": "integer", "multipleOf": 7}), "properties.a", "'multipleOf'"),
    ({"type": "array", "uniqueItems": True}, "", "'uniqueItems'"),
    ({"type": "array", "contains": {}}, "", "'contains'"),
    ({"type": "object", "minProperties": 1}, "", "'minProperties'"),
    ({"type": "object", "patternProperties": {}}, "", "'patternProperties'"),
    ({"type": "object", "propertyNames": {}}, "", "'propertyNames'"),
    ({"type": "object", "dependentRequired": {}}, "", "'dependentRequired'"),
    ({"not": {}}, "", "'not'"),
    ({"if": {}}, "", "'if'"),
    ({"oneOf": [{}]}, "", "Use anyOf"),
    ({"allOf": [{}]}, "", "Use anyOf"),
    ({"type": "integer", "nullable": True}, "", "'nullable'"),
    ({"minimum": 5}, "", 'needs "type": "integer"'),
    ({"type": "number", "minimum": 0.5}, "", 'needs "type": "integer"'),
    ({"type": "string", "minimum": 5}, "", 'needs "type": "integer"'),
    ({"properties": {}}, "", 'needs "type": "object"'),
    ({"type": "integer", "minimum": -5}, "", "bounded"),
    ({"type": "integer", "maximum": 5}, "", "bounded"),
    ({"type": "integer", "minimum": 1.5}, "", "whole numbers"),
    ({"type": "integer", "minimum": True}, "", "whole numbers"),
    ({"type": "integer", "minimum": 5, "maximum": 2}, "", "bounded"),
    ({"type": "integer", "minimum": 0, "maximum": VALUES_MAX}, "", "bounded"),
    ({"type": ["integer", "null"], "minimum": 0, "maximum": 9}, "", "bounded"),
    ({"type": "string", "minLength": 5, "maxLength": 2}, "", "not above"),
    ({"type": "string", "maxLength": -1}, "", "not above"),
    ({"type": "string", "maxLength": "5"}, "", "not above"),
    ({"type": "string", "maxLength": 10**9}, "", "minLength and maxLength"),
    ({"type": "array", "maxItems": 10**9}, "", "minItems and maxItems"),
    ({"type": "array", "prefixItems": [{}], "minItems": 1}, "", "exclude prefixItems"),
    ({"type": "array", "items": False, "minItems": 1}, "", "exclude prefixItems"),
    ({"type": "array", "prefixItems": []}, "prefixItems", "at least one"),
    ({"type": "string", "pattern": "^a$", "maxLength": 3}, "", "exclude each other"),
    ({"type": "string", "pattern": "^.$"}, "pattern", "'.' is not supported"),
    ({"type": "string", "format": "email"}, "", "format must be"),
    ({"type": "string", "format": ["date"]}, "", "format must be"),
    ({"type": "string", "enum": ["a", 1]}, "", "does not have the type"),
    ({"enum": ["a"], "minLength": 3}, "", "beside 'enum'"),
    ({"enum": []}, "enum", "1 to"),
    ({"enum": list(range(VALUES_MAX + 1))}, "enum", "1 to"),
    ({"enum": [2**60]}, "", "whole numbers must be within"),
    ({"const": {"a": [-(2**60)]}}, "", "whole numbers must be within"),
    ({"const": "\ud800"}, "", "surrogate"),
    ({"const": "x" * BUDGETS[Budget.VALUES]}, "", "enum and const"),
    ({"anyOf": []}, "anyOf", "at least one"),
    ({"anyOf": [{}], "type": "integer"}, "", "beside 'anyOf'"),
    ({"$ref": "#/$defs/n", "minimum": 4, "$defs": {"n": {}}}, "", "beside '$ref'"),
    ({"$ref": "https://elsewhere/x"}, "$ref", "exist"),
    ({"$ref": "#/$defs/none"}, "$ref", "exist"),
    ({"$ref": "#/properties/a"}, "$ref", "exist"),
    ({"$ref": 5}, "$ref", "exist"),
    ({"$ref": "#"}, "$ref", "back to itself"),
    (
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        "$defs.a.$ref",
        "back to itself",
    ),
    ({"type": "object", "properties": {"a": {}}, "required": ["b"]}, "", "declared"),
    ({"type": "object", "required": [[]]}, "", "declared"),
    ({"type": "object", "properties": []}, "properties", "object of schemas"),
    (an_object(**{'a"b': {}}), "properties", "quotes"),
    (an_object(**{"a\\b": {}}), "properties", "quotes"),
    (an_object(**{"a\nb": {}}), "properties", "quotes"),
]


@pytest.mark.parametrize(("schema", "path", "words"), REFUSED, ids=lambda value: str(value)[:60])
def test_a_schema_that_would_not_be_enforced_is_refused_with_its_place(
    schema: object, path: str, words: str
) -> None:
    with pytest.raises(SchemaRefused) as refusal:
        check(schema)
    assert words in str(refusal.value)
    assert refusal.value.path == path


def apart(*values: object) -> dict[str, Any]:
    """Return what an enum is compiled to."""
    names = [f"-{index}" for index in range(len(values))]
    return {
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in names],
        "$defs": {name: {"const": value} for name, value in zip(names, values, strict=True)},
    }


def test_small_ranges_of_whole_numbers_are_written_out() -> None:
    compiled = grammar_schema('{"type":"integer","minimum":-1,"maximum":2}')
    assert json.loads(compiled) == apart(-1, 0, 1, 2)


def test_each_alternative_is_a_definition_of_its_own() -> None:
    assert json.loads(grammar_schema('{"enum":["a","ab"]}')) == apart("a", "ab")
    compiled = json.loads(grammar_schema('{"anyOf":[{"const":"a"},{"type":"null"}]}'))
    assert compiled["anyOf"] == [{"$ref": "#/$defs/-1"}, {"$ref": "#/$defs/-2"}]


def test_our_definitions_never_take_the_place_of_the_clients() -> None:
    schema = {"enum": [1], "$defs": {"-0": {"type": "null"}}}
    compiled = json.loads(grammar_schema(json.dumps(schema)))
    assert compiled["$defs"] == {"-0": {"type": "null"}, "--0": {"const": 1}}


def test_counted_items_may_be_anything_unless_said() -> None:
    compiled = grammar_schema('{"type":"array","minItems":2}')
    assert json.loads(compiled) == {"type": "array", "minItems": 2, "items": True}


def test_annotations_and_redundant_types_are_not_compiled() -> None:
    compiled = grammar_schema('{"title":"t","type":"string","enum":["a"],"description":"d"}')
    assert json.loads(compiled) == apart("a")


def test_a_property_may_be_named_like_an_annotation() -> None:
    text = json.dumps(an_object(title={"type": "string"}))
    assert json.loads(grammar_schema(text)) == json.loads(text)


def test_nesting_is_bounded() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaRefused, match="nested"):
        check(schema)


def test_nesting_of_constants_is_bounded() -> None:
    with pytest.raises(SchemaRefused, match="nested"):
        check({"const": json.loads("[" * 60 + "]" * 60)})


def test_the_number_of_schemas_is_bounded() -> None:
    with pytest.raises(SchemaRefused, match="at most"):
        check({"anyOf": [{}] * NODES_MAX})


def test_optional_properties_are_bounded() -> None:
    properties: dict[str, Any] = {f"k{index}": {} for index in range(OPTIONAL_MAX + 1)}
    with pytest.raises(SchemaRefused, match="left out"):
        check({"type": "object", "properties": properties})


def test_lengths_are_bounded_over_the_whole_schema() -> None:
    half = BUDGETS[Budget.CHARACTERS] // 2 + 1
    text = {"type": "string", "maxLength": half}
    check(text)
    with pytest.raises(SchemaRefused, match="of one schema"):
        check(an_object(a=text, b=text))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 50_000, '{"const": NaN}', '{"const": Infinity}', f'"{"x" * BYTES_MAX}"'],
    ids=["empty", "broken", "deep", "nan", "infinity", "long"],
)
def test_what_is_no_schema_text_is_refused(text: str) -> None:
    with pytest.raises(SchemaRefused):
        grammar_schema(text)


def test_the_schema_of_any_object_is_one_that_is_accepted() -> None:
    assert grammar_schema(ANY_OBJECT) == ANY_OBJECT
