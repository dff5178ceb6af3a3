"""Schemas with their judges, and answers that a step engine gives under them."""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from forebay.core.request import FinishReason, JsonSchema, Sampling
from forebay.engine.json_schema import SchemaRefused, check
from forebay.engine.protocol import StepEngine
from tests.support.answers import answers, text_of
from tests.support.schemas import SchemaMaker


def is_whole(value: object) -> bool:
    """Whether a value is a whole number; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool)


NAMED = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 1, "maximum": 120},
        "m": {"type": ["string", "null"]},
    },
    "required": ["n"],
    "additionalProperties": False,
}
OPEN_NUMBER = {"type": "integer", "minimum": 0}
JUDGES: list[tuple[Any, Callable[[Any], object]]] = [
    (NAMED, lambda value: {"n"} <= set(value) <= {"n", "m"} and value["n"] in range(1, 121)),
    (
        {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
        lambda value: 2 <= len(value) <= 4 and set(value) <= {True, False},
    ),
    ({"enum": ['é"', "\\", 1.5, None, [{}]]}, lambda value: value in ['é"', "\\", 1.5, None, [{}]]),
    ({"enum": list(range(129, 141))}, lambda value: value in range(129, 141)),
    ({"type": "string", "maxLength": 5}, lambda value: len(value) <= 5),
    (
        {"type": "string", "pattern": r"^[A-Z]{2}-\d{4}$"},
        lambda value: re.fullmatch(r"[A-Z]{2}-[0-9]{4}", value),
    ),
    (
        {"type": "string", "format": "date"},
        lambda value: re.fullmatch(r"[0-9]{4}-[01][0-9]-[0-3][0-9]", value),
    ),
    (OPEN_NUMBER, lambda value: is_whole(value) and value >= 0),
    (
        {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        lambda value: all(isinstance(number, int | float) for number in value),
    ),
]
"""A schema, and whether a value satisfies it."""


def a_schema(seed: int) -> Any:
    """Return a random schema that is not refused; skips the test of one that is."""
    schema = SchemaMaker(seed).whole()
    try:
        check(schema)
    except SchemaRefused:
        pytest.skip("this seed made a schema that is refused")
    return schema


def ways(schema: Any, count: int, *, tokens_max: int) -> list[Sampling]:
    """Return so many ways to sample under a schema, cool and hot."""
    grammar = JsonSchema(schema=json.dumps(schema))
    return [
        Sampling(
            tokens_max=tokens_max, temperature=(1.0, 3.0)[seed % 2], seed=seed, grammar=grammar
        )
        for seed in range(count)
    ]


def ended(engine: StepEngine, prompt: list[int], how: Sequence[Sampling]) -> list[Any]:
    """Return what those answers hold that came to an end."""
    return [
        json.loads(text_of(engine, answer))
        for answer in answers(engine, *((prompt, one) for one in how))
        if answer.reason is FinishReason.STOP
    ]
