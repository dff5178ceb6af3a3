"""The JSON schemas that a grammar really enforces, and bounds on what they cost.

The grammar library compiles a schema inside the engine's step.  Left to itself it drops
keywords that it does not know in silence, writes text that is not JSON for others (a decimal
bound, a `.` in a pattern), breaks integer ranges, and loses every running sequence when it
meets a schema that it cannot compile.  So this is an allow-list: each keyword here was seen to
hold over sampled answers, alone and in these combinations, and nothing else is let through.
Annotations say nothing about the answer and are allowed.
"""

import enum
import json
import math
from dataclasses import dataclass
from typing import Any, Final

from forebay.engine.schema_pattern import PatternRefused, check_pattern

ANY_OBJECT: Final = '{"type":"object"}'
"""The schema of `response_format: json_object`."""

BYTES_MAX: Final = 64 * 1024
DEPTH_MAX: Final = 16
NODES_MAX: Final = 500
VALUES_MAX: Final = 500
"""Values of one `enum`, or whole numbers between two bounds."""
OPTIONAL_MAX: Final = 100
"""Properties of one object that may be left out: the grammar grows with their square."""


class Budget(enum.StrEnum):
    """What a schema spends while it is compiled; its value is how the client is told."""

    ITEMS = "minItems and maxItems"
    CHARACTERS = "minLength and maxLength"
    COUNTS = "counts in patterns"
    VALUES = "characters of enum and const"


BUDGETS: Final = {
    Budget.ITEMS: 4_000,
    Budget.CHARACTERS: 128,
    Budget.COUNTS: 300,
    Budget.VALUES: 16_384,
}
"""Sums over one schema.  All of them spent take about a second to compile (measured: 500
characters of maxLength take 2.7 s, and then up to 5 s of every step)."""

_EXACT_MAX: Final = 2**53
_TYPES: Final = ("object", "array", "string", "integer", "number", "boolean", "null")
_PYTHON_TYPES: Final[dict[type, set[str]]] = {
    dict: {"object"},
    list: {"array"},
    str: {"string"},
    int: {"integer", "number"},
    float: {"number"},
    bool: {"boolean"},
    type(None): {"null"},
}
_ANNOTATIONS: Final = frozenset(
    {
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment"),
    }
)
_DEFINITIONS: Final = ("$defs", "definitions")
_TYPE_OF: Final = {
    **dict.fromkeys(("properties", "required", "additionalProperties"), "object"),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems"), "array"),
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), "string"),
    **dict.fromkeys(("minimum", "maximum"), "integer"),
}
"""Keyword -> the type that must stand beside it: without one the library drops it."""
_DECIDERS: Final = ("$ref", "anyOf", "enum", "const")
"""Each decides alone: the library drops what stands beside it."""
_FORMATS: Final = (
    *("date", "date-time", "duration", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"),
)

Schema = dict[str, Any]


class SchemaRefused(Exception):
    """A schema that would not be enforced, or would cost too much.  `path` says where."""

    def __init__(self, message: str, path: str = "") -> None:
        """Say what is not accepted, where, and what is."""
        super().__init__(message)
        self.path = path


def check(schema: object) -> None:
    """Raise `SchemaRefused` unless every keyword of a schema will be enforced."""
    _Walk(schema).run()


def grammar_schema(text: str) -> str:
    """Return the schema to compile for a client's schema text; raise `SchemaRefused`.

    Whole numbers between two bounds are written out as values: the library's own ranges let
    others through (0 to 120 allowed 123).
    """
    if len(text) > BYTES_MAX:
        raise SchemaRefused(f"the schema is longer than {BYTES_MAX} bytes.")
    try:
        schema = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise SchemaRefused("the schema is not JSON, or is nested too deep.") from None
    return json.dumps(_Walk(schema).run(), separators=(",", ":"))


def _no_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are Python's, not JSON's


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the walk is: the path to show, and how deep."""

    path: str = ""
    depth: int = 0

    def inside(self, *steps: str | int) -> "_Place":
        tail = ".".join(str(step)[:64] for step in steps)
        return _Place(f"{self.path}.{tail}" if self.path else tail, self.depth + 1)

    def deeper(self) -> "_Place":
        if self.depth > 2 * DEPTH_MAX:
            raise SchemaRefused(f"values can be nested {DEPTH_MAX} deep.", self.path)
        return _Place(self.path, self.depth + 1)


class _Walk:
    """One pass over a schema; returns what is to be compiled.

    State: what is left to spend, and the references that are known to end.
    """

    def __init__(self, schema: object) -> None:
        self._schema = schema
        self._nodes = 0
        self._left = dict(BUDGETS)
        self._grounded: set[str] = set()

    def run(self) -> Schema | bool:
        if not isinstance(self._schema, dict):
            raise SchemaRefused("the schema must be an object.")
        return self._visit(self._schema, _Place())

    def _visit(self, schema: object, place: _Place) -> Schema | bool:
        self._nodes += 1
        if self._nodes > NODES_MAX or place.depth > DEPTH_MAX * 2:
            raise SchemaRefused(
                f"at most {NODES_MAX} schemas, nested {DEPTH_MAX} deep, are compiled.", place.path
            )
        if schema is True:
            return True
        if not isinstance(schema, dict):
            raise SchemaRefused("a schema must be an object or true.", place.path)
        _check_keywords(schema, place)
        kept = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
        for key in _DEFINITIONS:
            if key in kept:
                kept[key] = self._named(kept[key], place.inside(key))
        match next((key for key in _DECIDERS if key in schema), None):
            case "$ref":
                self._follow(schema["$ref"], place.inside("$ref"))
            case "anyOf":
                kept["anyOf"] = self._choices(schema["anyOf"], place.inside("anyOf"))
            case "enum":
                _check_values(schema["enum"], place.inside("enum"))
                self._spend(Budget.VALUES, len(json.dumps(schema["enum"])), place)
                kept = _without_type(kept, schema["enum"], place)
            case "const":
                self._spend(Budget.VALUES, len(json.dumps(schema["const"])), place)
                kept = _without_type(kept, [schema["const"]], place)
            case _:
                self._typed(kept, place)
        return kept

    def _typed(self, kept: Schema, place: _Place) -> None:
        """Check the keywords of a schema with a type, replacing its parts by their own."""
        _check_type(kept, place)
        if "properties" in kept:
            kept["properties"] = self._named(kept["properties"], place.inside("properties"))
        _check_required(kept, place)
        if kept.get("additionalProperties") not in (None, True, False):
            kept["additionalProperties"] = self._visit(
                kept["additionalProperties"], place.inside("additionalProperties")
            )
        if "prefixItems" not in kept and ("minItems" in kept or "maxItems" in kept):
            kept.setdefault("items", True)  # without it, the library takes no item at all
        if "items" in kept and kept["items"] is not False:
            kept["items"] = self._visit(kept["items"], place.inside("items"))
        if "prefixItems" in kept:
            kept["prefixItems"] = self._choices(kept["prefixItems"], place.inside("prefixItems"))
        self._repeat(kept, "Items", place, budget=Budget.ITEMS)
        self._repeat(kept, "Length", place, budget=Budget.CHARACTERS)
        self._spend(Budget.COUNTS, _check_text(kept, place), place)
        _write_out_range(kept, place)

    def _named(self, schemas: object, place: _Place) -> Schema:
        if not isinstance(schemas, dict):
            raise SchemaRefused("must be an object of schemas.", place.path)
        for name in schemas:
            # The library copies names into its grammar as they are.
            if not isinstance(name, str) or not name.isprintable() or set(name) & {'"', "\\"}:
                raise SchemaRefused(
                    "names cannot hold quotes, backslashes or control characters.", place.path
                )
        return {name: self._visit(part, place.inside(name)) for name, part in schemas.items()}

    def _choices(self, schemas: object, place: _Place) -> list[Schema | bool]:
        if not isinstance(schemas, list) or not schemas:
            raise SchemaRefused("must be a list of at least one schema.", place.path)
        return [self._visit(part, place.inside(index)) for index, part in enumerate(schemas)]

    def _repeat(self, kept: Schema, what: str, place: _Place, *, budget: Budget) -> None:
        low, high = kept.get(f"min{what}", 0), kept.get(f"max{what}", BUDGETS[budget])
        if type(low) is not int or type(high) is not int or not 0 <= low <= high:
            raise SchemaRefused(
                f"min{what} and max{what} must be whole numbers, the first not above the second.",
                place.path,
            )
        fixed = "prefixItems" in kept or kept.get("items") is False
        if fixed and ("minItems" in kept or "maxItems" in kept):
            raise SchemaRefused(
                "minItems and maxItems exclude prefixItems and items: false.", place.path
            )
        self._spend(budget, high if f"max{what}" in kept else low, place)

    def _spend(self, budget: Budget, amount: int, place: _Place) -> None:
        self._left[budget] -= amount
        if self._left[budget] < 0:
            raise SchemaRefused(
                f"all {budget} of one schema may come to {BUDGETS[budget]}.", place.path
            )

    def _follow(self, reference: object, place: _Place) -> None:
        # Each reference is followed once: a chain of them would cost its square otherwise.
        seen: set[str] = set()
        while str(reference) not in self._grounded:
            target = _find(self._schema, reference, place)
            if str(reference) in seen:
                raise SchemaRefused("the reference leads back to itself.", place.path)
            seen.add(str(reference))
            if not isinstance(target, dict) or "$ref" not in target:
                break
            reference = target["$ref"]
        self._grounded |= seen


def _find(root: object, reference: object, place: _Place) -> object:
    parts = reference.split("/") if isinstance(reference, str) else []
    if parts == ["#"]:
        return root
    if len(parts) == 3 and parts[0] == "#" and parts[1] in _DEFINITIONS:  # noqa: PLR2004 - #/x/y
        group = root.get(parts[1]) if isinstance(root, dict) else None
        if isinstance(group, dict) and parts[2] in group and not set(parts[2]) & set("~%"):
            return group[parts[2]]
    raise SchemaRefused("must be #, #/$defs/NAME or #/definitions/NAME, and exist.", place.path)


def _check_keywords(schema: Schema, place: _Place) -> None:
    allowed = {"type", *_TYPE_OF, *_DECIDERS, *_ANNOTATIONS, *_DEFINITIONS}
    for key in schema:
        if key not in allowed:
            hint = " Use anyOf." if key in ("oneOf", "allOf") else ""
            raise SchemaRefused(
                f"keyword {key[:32]!r} would not be enforced, so it is not accepted.{hint}",
                place.path,
            )
    decider = next((key for key in _DECIDERS if key in schema), None)
    if decider is None:
        return
    beside = {"type"} if decider in ("enum", "const") else set()
    for key in schema.keys() - _ANNOTATIONS - {decider, *_DEFINITIONS} - beside:
        raise SchemaRefused(
            f"keyword {key!r} would not be enforced beside {decider!r}. Put it inside.", place.path
        )


def _check_type(schema: Schema, place: _Place) -> None:
    wanted = schema.get("type")
    types = wanted if isinstance(wanted, list) else [] if wanted is None else [wanted]
    if wanted == [] or any(kind not in _TYPES for kind in types) or len(set(types)) < len(types):
        raise SchemaRefused(f"type must be one or several of {', '.join(_TYPES)}.", place.path)
    for key in schema:
        if _TYPE_OF.get(key, "") not in {"", *types}:
            raise SchemaRefused(
                f'keyword {key!r} needs "type": "{_TYPE_OF[key]}" beside it.', place.path
            )


def _check_required(schema: Schema, place: _Place) -> None:
    required = schema.get("required", [])
    declared = schema.get("properties", {})
    if not isinstance(required, list) or any(
        not isinstance(name, str) or name not in declared for name in required
    ):
        raise SchemaRefused("each name in required must be declared in properties.", place.path)
    if len(declared) - len(set(required)) > OPTIONAL_MAX:
        raise SchemaRefused(
            f"at most {OPTIONAL_MAX} properties of an object may be left out of required.",
            place.path,
        )


def _check_values(values: object, place: _Place) -> None:
    if not isinstance(values, list) or not 1 <= len(values) <= VALUES_MAX:
        raise SchemaRefused(f"must be a list of 1 to {VALUES_MAX} values.", place.path)


def _check_value(value: object, place: _Place) -> None:
    """Refuse a constant that the library would change: it keeps numbers as doubles."""
    match value:
        case bool():
            return
        case int() if abs(value) > _EXACT_MAX:
            raise SchemaRefused(f"whole numbers must be within {_EXACT_MAX}.", place.path)
        case float() if not math.isfinite(value):
            raise SchemaRefused("numbers must be finite.", place.path)
        case str() if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise SchemaRefused("half of a surrogate pair is no character.", place.path)
        case list():
            for part in value:
                _check_value(part, place.deeper())
        case dict():
            for key, part in value.items():
                _check_value(key, place)
                _check_value(part, place.deeper())


def _without_type(schema: Schema, values: list[Any], place: _Place) -> Schema:
    """Drop a type that all values have anyway; the library does not check it."""
    _check_type({key: schema[key] for key in ("type",) if key in schema}, place)
    for value in values:
        _check_value(value, place)
    wanted = schema.pop("type", list(_TYPES))
    types = set(wanted) if isinstance(wanted, list) else {wanted}
    if not all(_types_of(value) & types for value in values):
        raise SchemaRefused("a value does not have the type that stands beside it.", place.path)
    return schema


def _types_of(value: object) -> set[str]:
    if isinstance(value, float) and value.is_integer():
        return {"integer", "number"}
    return _PYTHON_TYPES[type(value)]


def _check_text(schema: Schema, place: _Place) -> int:
    """Check a string's rules and return the counts in its pattern."""
    rules = [key for key in ("pattern", "format") if key in schema]
    if rules and len(rules) + ("minLength" in schema) + ("maxLength" in schema) > 1:
        raise SchemaRefused(
            "pattern, format and lengths exclude each other. Write the lengths into the pattern.",
            place.path,
        )
    if "format" in schema and schema["format"] not in _FORMATS:
        raise SchemaRefused(f"format must be one of {', '.join(_FORMATS)}.", place.path)
    if "pattern" in schema:
        try:
            return check_pattern(schema["pattern"])
        except PatternRefused as error:
            raise SchemaRefused(str(error), place.inside("pattern").path) from error
    return 0


def _write_out_range(schema: Schema, place: _Place) -> None:
    bounds = [schema.get("minimum"), schema.get("maximum")]
    if any(bound is not None and type(bound) is not int for bound in bounds):
        raise SchemaRefused("minimum and maximum must be whole numbers.", place.path)
    match bounds:
        case [None, None]:
            return
        case [int(low), None] if 0 <= low < 2**53:
            return
        case [int(low), int(high)] if (
            low <= high < low + VALUES_MAX and schema["type"] == "integer"
        ):
            for key in ("type", "minimum", "maximum"):
                del schema[key]
            schema["enum"] = list(range(low, high + 1))
        case _:
            raise SchemaRefused(
                f"whole numbers can be bounded by both ends, at most {VALUES_MAX} values, in a "
                "schema whose only type is integer; or from below alone, by 0 or more.",
                place.path,
            )
