"""`response_format`: what the engine is told, and what is refused."""

import json
from typing import Any

import pytest

from forebay.core.request import JsonObject, JsonSchema
from forebay.engine.protocol import Feature
from tests.support.asgi import ask
from tests.support.gateways import CHAT, Stage, a_stage, chat

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def a_schema(schema: Any, **more: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, **more}}


def grammar(stage: Stage) -> object:
    return stage.engine.asked[0].sampling.grammar


async def test_text_asks_for_nothing() -> None:
    stage = a_stage(supports=frozenset({Feature.CHAT}))
    assert (await stage.chat(response_format={"type": "text"})).status == 200
    assert grammar(stage) is None


async def test_json_object() -> None:
    stage = a_stage()
    assert (await stage.chat(response_format={"type": "json_object"})).status == 200
    assert grammar(stage) == JsonObject()


async def test_a_schema_reaches_the_engine_as_json() -> None:
    stage = a_stage()
    answer = await stage.chat(response_format=a_schema(CITY, strict=True))
    assert answer.status == 200
    found = grammar(stage)
    assert isinstance(found, JsonSchema)
    assert json.loads(found.schema) == CITY


async def test_a_schema_laid_out_otherwise_is_the_same_request() -> None:
    stage = a_stage()
    body = chat(response_format=a_schema(CITY))
    for layout in (None, 2):
        content = json.dumps(body, indent=layout).encode()
        answer = await ask(stage.gateway, "POST", CHAT, content, idempotency_key="k")
        assert answer.status == 200
    assert len(stage.engine.asked) == 1


async def test_a_description_of_the_schema_is_named_as_having_no_effect() -> None:
    answer = await a_stage().chat(response_format=a_schema(CITY, description="a place"))
    assert answer.headers["x-forebay-warning"] == "response_format.json_schema.description"


@pytest.mark.parametrize(
    ("form", "lacking"),
    [({"type": "json_object"}, Feature.JSON_OBJECT), (a_schema(CITY), Feature.JSON_SCHEMA)],
    ids=["object", "schema"],
)
async def test_a_form_that_the_engine_cannot_do_is_refused(form: object, lacking: Feature) -> None:
    stage = a_stage(supports=frozenset(Feature) - {lacking})
    answer = await stage.chat(response_format=form)
    assert answer.status == 400
    assert answer.json["error"]["param"] == "response_format.type"


@pytest.mark.parametrize("schema", [[], "x", 5], ids=["array", "text", "number"])
async def test_a_schema_that_is_no_schema_is_refused(schema: object) -> None:
    answer = await a_stage().chat(response_format=a_schema(schema))
    assert answer.status == 400
    assert answer.json["error"]["param"] == "response_format.json_schema.schema"


async def test_a_number_in_a_schema_that_fits_nowhere_is_refused() -> None:
    stage = a_stage()
    answer = await stage.chat_raw(
        b'"response_format":{"type":"json_schema","json_schema":{"name":"x",'
        b'"schema":{"maximum":1e999}}}'
    )
    assert answer.status == 400
    assert "number" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "object", "properties": {"a": {"type": "colour"}}}, ".properties.a"),
        ({"type": "string", "minLength": 10**9}, ""),
        ({"anyOf": []}, ".anyOf"),
    ],
    ids=["an unknown type", "a huge length", "no choice"],
)
async def test_a_schema_that_would_not_hold_is_refused_with_its_place(
    schema: object, where: str
) -> None:
    stage = a_stage()
    answer = await stage.chat(response_format=a_schema(schema))
    assert answer.status == 400
    assert answer.json["error"]["param"] == f"response_format.json_schema.schema{where}"
    assert stage.engine.asked == []


async def test_a_schema_that_explodes_is_refused_before_the_engine() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(30):
        schema = {"anyOf": [schema, schema]}
        if len(json.dumps(schema)) > 30_000:
            break
    stage = a_stage()
    answer = await stage.chat(response_format=a_schema(schema))
    assert answer.status == 400
    assert stage.engine.asked == []


async def test_a_deeply_nested_schema_is_refused() -> None:
    nested = b'{"items":' * 5_000 + b"{}" + b"}" * 5_000
    answer = await a_stage().chat_raw(
        b'"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":'
        + nested
        + b"}}"
    )
    assert answer.status == 400
    assert "nested" in answer.json["error"]["message"]


async def test_a_place_in_a_schema_is_shown_bounded_and_printable() -> None:
    schema = {"type": "object", "properties": {"\x1b" + "x" * 9_000: {"type": "colour"}}}
    answer = await a_stage().chat(response_format=a_schema(schema))
    assert answer.status == 400
    assert len(answer.json["error"]["param"]) < 200
    assert answer.json["error"]["param"].isprintable()
