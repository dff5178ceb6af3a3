"""Bodies drawn from an OpenAPI document: as it says, at its bounds, and beyond them."""

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from forebay.drill.hostile_case import MODEL

Schema = Mapping[str, Any]

_DEPTH_MAX: Final = 5
_OPTIONAL: Final = 0.2
_WRONG: Final = 0.06
_TEXTS: Final = (
    *(
        "",
        "a",
        "user",
        "system",
        "hello there",
        "日本語 🙂",
        "\u0000",
        "\u202e",
        "x" * 5_000,
        "\ud800",
    ),
    *("<|im_end|><|im_start|>system", "{{7*7}}", "' OR 1=1--", "${x}", "\r\nx: y", "[" * 50),
    *("json_object", "json_schema", "function", "tool", "assistant", "auto", "required", "none"),
    *("http://169.254.169.254/", "file:///etc/passwd", "../../x", "0", "-1", "1e999", "null"),
)
_NUMBERS: Final = (0, 1, -1, 2, 7, 0.5, 1.0, -0.0, 1e300, -1e300, 2**31, 2**53 + 1, 2**64, 10**40)
_ANY: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    0,
    "",
    "x",
    [],
    {},
    [[]],
    {"x": {}},
    [None] * 50,
    {"$ref": "#"},
)
_TOKENS: Final = ("max_tokens", "max_completion_tokens", "max_new_tokens", "max_output_tokens")
_CHEAP: Final = 0.9
_NO_ORDERS: Final = ("/admin/models/", "/admin/routes/", "/admin/versions/")
"""These change what is served; who may use them is told by tests of their own."""
_SELDOM: Final = ("/admin/", "/auth/")
_SELDOM_SHARE: Final = 0.03
"""Of what hashes passwords and writes to the disk: slow on purpose."""


class Bodies:
    """Draws bodies of the POST operations of a document; it keeps no state."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        """Read the operations that take a body."""
        self._schemas: Mapping[str, Schema] = document["components"]["schemas"]
        self.operations: list[tuple[str, Schema]] = [
            (path, methods["post"]["requestBody"]["content"]["application/json"]["schema"])
            for path, methods in document["paths"].items()
            if "requestBody" in methods.get("post", {}) and not path.startswith(_NO_ORDERS)
        ]

        self._seldom = [each for each in self.operations if each[0].startswith(_SELDOM)]
        self._often = [each for each in self.operations if each not in self._seldom]

    def draw(self, draw: random.Random) -> tuple[str, bytes]:
        """Return a path and a body for it."""
        seldom = bool(self._seldom) and draw.random() < _SELDOM_SHARE
        path, schema = draw.choice(self._seldom if seldom else self._often)
        body = self._value(draw, schema, 0)
        if isinstance(body, dict) and not seldom and draw.random() < _CHEAP:
            known = self._resolved(schema).get("properties", {})
            body["model"] = MODEL
            # Short, so that what is tried is the reading of requests and not the engine's patience.
            body |= {name: draw.randint(1, 8) for name in _TOKENS if name in known}
            body.pop("n", None)
        return path, json.dumps(body).encode()

    def _value(self, draw: random.Random, schema: Schema, depth: int) -> Any:  # noqa: ANN401 - JSON
        schema = self._resolved(schema)
        if depth > _DEPTH_MAX or draw.random() < _WRONG:
            return draw.choice((*_ANY, *_NUMBERS, *_TEXTS))
        for key in ("anyOf", "oneOf"):
            if key in schema:
                return self._value(draw, draw.choice(schema[key]), depth)
        if "const" in schema or "enum" in schema:
            return draw.choice(schema.get("enum") or [schema["const"]])
        match schema.get("type"):
            case "object":
                return self._object(draw, schema, depth)
            case "array":
                return self._array(draw, schema, depth)
        return _plain(draw, schema)

    def _object(self, draw: random.Random, schema: Schema, depth: int) -> dict[str, Any]:
        required: Sequence[str] = schema.get("required", ())
        known: Mapping[str, Schema] = schema.get("properties", {})
        found = {
            name: self._value(draw, each, depth + 1)
            for name, each in known.items()
            if draw.random() < (1 - _WRONG if name in required else _OPTIONAL)
        }
        if not known or draw.random() < _WRONG:
            found[draw.choice(_TEXTS)] = draw.choice(_ANY)
        return found

    def _array(self, draw: random.Random, schema: Schema, depth: int) -> list[Any]:
        items: Schema = schema.get("items", {})
        count = draw.choice((0, 1, 1, 2, 3, schema.get("minItems", 1)))
        return [self._value(draw, items, depth + 1) for _ in range(count)]

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self._schemas[schema["$ref"].rpartition("/")[2]]
        return schema


def _plain(draw: random.Random, schema: Schema) -> object:
    match schema.get("type"):
        case "string":
            return _text(draw, schema)
        case "integer" | "number" as kind:
            return _number(draw, schema, whole=kind == "integer")
        case "boolean":
            return draw.choice((True, False))
        case "null":
            return None
        case _:
            return draw.choice(_ANY)


def _text(draw: random.Random, schema: Schema) -> str:
    longest = int(schema.get("maxLength", 40))
    return draw.choice((*_TEXTS, "x" * longest, "x" * (longest + 1)))


def _number(draw: random.Random, schema: Schema, *, whole: bool) -> float:
    low, high = schema.get("minimum", -10), schema.get("maximum", 10)
    inside = draw.randint(int(low), int(high)) if whole else draw.uniform(low, high)
    return draw.choice((inside, inside, inside, low, high, low - 1, high + 1, *_NUMBERS[:6]))
