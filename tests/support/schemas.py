"""JSON schemas at random, and a judge of answers: a second opinion on what is enforced."""

import itertools
import json
import random
import re
from typing import Any

NAMES = ("a", "b", "name", "é中", "a b", "$id", "title", "properties", "", "0", "a/b", "{}", "%")
VALUES = (0, -1, 3.5, 1e-7, 1e22, 2**53, "", 'é"', "\\", "\n", "😀", 'root ::= "x"', True, None)
WORDS = tuple(map("".join, itertools.product("ab", repeat=3)))
PATTERNS = (
    *(r"^\d{1,3}\.\d+$", "^a?[b-d]{2}e*$", "^é*$", r"^[\-\]\^x]{2}$", r"^\{\}\|\/\$$"),
    *("^x*z?$", "^[a-z]*[A-Z]+\\d?$", "^[*+?.()]$", "^[ ]{2}$", r"^[\w.+-]+@[\w-]+\.[a-z]{2,4}$"),
)
FORMATS = {
    "date": r"\d{4}-[01]\d-[0-3]\d",
    "time": r"[0-2]\d:[0-5]\d:[0-6]\d(\.\d+)?(Z|[+-][0-2]\d:[0-5]\d)",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}
Schema = dict[str, Any]


class SchemaMaker:
    """Makes schemas that the checker accepts.  Mutable state: the generator's."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def whole(self) -> Schema:
        """Return a schema with two definitions, which it may use."""
        parts = {name: self._part(1) for name in ("d1", "D.x")}
        return {**self._part(0), "$defs": parts}

    def _part(self, depth: int) -> Schema:
        rng = self._rng
        kinds = [self._leaf, self._leaf, self._object, self._array, self._either, self._reference]
        schema = (self._leaf if depth > 3 else rng.choice(kinds))(depth + 1)
        note = {"description": rng.choice(VALUES)} if rng.random() < 0.2 else {}
        return {**schema, **note}

    def _leaf(self, _: int) -> Schema:
        rng = self._rng
        low = rng.randint(-200, 200)
        few = rng.randint(0, 4)
        leaves: list[Schema] = [
            {"type": rng.sample(sorted(TYPES), rng.randint(1, 3))},
            {"type": "string", "minLength": few, "maxLength": few + rng.randint(0, 3)},
            {"type": "string", "pattern": rng.choice(PATTERNS)},
            {"type": "string", "format": rng.choice(sorted(FORMATS))},
            {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 400)},
            {"type": "integer", "minimum": rng.choice([0, 1, 99, 100, 1_000])},
            {"type": "number"},
            {"enum": rng.sample(VALUES + WORDS, rng.randint(1, 9))},
            {"const": [{"k": rng.choice(VALUES)}]},
            {},
        ]
        return rng.choice(leaves)

    def _object(self, depth: int) -> Schema:
        rng = self._rng
        properties = {rng.choice(NAMES): self._part(depth) for _ in range(rng.randint(0, 4))}
        more = rng.choice([False, False, True, self._part(depth)])
        required = [name for name in properties if rng.random() < 0.6]
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": more,
        }

    def _array(self, depth: int) -> Schema:
        rng = self._rng
        if rng.random() < 0.3:
            first = [self._part(depth) for _ in range(rng.randint(1, 3))]
            return {"type": "array", "prefixItems": first, "items": rng.choice([False, True])}
        low = rng.randint(0, 2)
        return {
            "type": "array",
            "items": self._part(depth),
            "minItems": low,
            "maxItems": low + rng.randint(0, 3),
        }

    def _either(self, depth: int) -> Schema:
        return {"anyOf": [self._part(depth) for _ in range(self._rng.randint(1, 3))]}

    def _reference(self, _: int) -> Schema:
        return {"$ref": "#/$defs/" + self._rng.choice(["d1", "D.x"])}


def satisfies(value: Any, schema: Any, root: Schema) -> bool:
    """Judge a value by the keywords that `SchemaMaker` uses."""
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        return satisfies(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        return any(satisfies(value, part, root) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return any(same(value, one) for one in schema.get("enum", [schema.get("const")]))
    types = schema.get("type", sorted(TYPES))
    allowed = [types] if isinstance(types, str) else types
    return any(has_type(value, kind) for kind in allowed) and details(value, schema, root)


def details(value: Any, schema: Schema, root: Schema) -> bool:
    """Judge a value of the right type by what its type allows to be said."""
    match value:
        case str():
            return text_satisfies(value, schema)
        case list():
            return list_satisfies(value, schema, root)
        case dict():
            return object_satisfies(value, schema, root)
        case bool() | None:
            return True
        case _:
            return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def has_type(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, TYPES[kind])


def same(value: object, other: object) -> bool:
    return json.dumps(value) == json.dumps(other) or (
        value == other and not isinstance(value, bool) and not isinstance(other, bool)
    )


def text_satisfies(value: str, schema: Schema) -> bool:
    return (
        schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        and re.search(schema.get("pattern", ""), value, re.ASCII) is not None
        and re.fullmatch(FORMATS.get(schema.get("format", ""), ".*"), value, re.DOTALL) is not None
    )


def list_satisfies(value: list[Any], schema: Schema, root: Schema) -> bool:
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    return (
        schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        and all(satisfies(*pair, root) for pair in zip(value, first, strict=False))
        and all(satisfies(one, rest, root) for one in value[len(first) :])
    )


def object_satisfies(value: dict[str, Any], schema: Schema, root: Schema) -> bool:
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties", True)
    return set(schema.get("required", [])) <= set(value) and all(
        satisfies(one, known.get(name, rest), root) for name, one in value.items()
    )
