"""What one schema may say of itself: the keywords, types, values and texts that hold."""

import enum
import math
from dataclasses import dataclass
from typing import Any, Final

from forebay.engine.schema_pattern import PatternRefused, check_pattern

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
ANNOTATIONS: Final = frozenset(
    {
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment"),
    }
)
DEFINITIONS: Final = ("$defs", "definitions")
_TYPE_OF: Final = {
    **dict.fromkeys(("properties", "required", "additionalProperties"), "object"),
    **dict.fromkeys(("items", "prefixItems", "minItems", "maxItems"), "array"),
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), "string"),
    **dict.fromkeys(("minimum", "maximum"), "integer"),
}
"""Keyword -> the type that must stand beside it: without one the library drops it."""
DECIDERS: Final = ("$ref", "anyOf", "enum", "const")
"""Each decides alone: the library drops what stands beside it."""
_FORMATS: Final = (*("date", "date-time", "duration", "hostname", "ipv6", "time", "uri", "uuid"),)

Schema = dict[str, Any]


class SchemaRefused(Exception):
    """A schema that would not be enforced, or would cost too much.  `path` says where."""

    def __init__(self, message: str, path: str = "") -> None:
        """Say what is not accepted, where, and what is."""
        super().__init__(message)
        self.path = path


@dataclass(frozen=True, slots=True)
class Place:
    """Where the walk is: the path to show, and how deep."""

    path: str = ""
    depth: int = 0

    def inside(self, *steps: str | int) -> "Place":
        """Return the place of a part."""
        tail = ".".join(str(step)[:64] for step in steps)
        return Place(f"{self.path}.{tail}" if self.path else tail, self.depth + 1)

    def deeper(self) -> "Place":
        """Return the place of a part of a constant, which has no path of its own."""
        if self.depth > 2 * DEPTH_MAX:
            raise SchemaRefused(f"values can be nested {DEPTH_MAX} deep.", self.path)
        return Place(self.path, self.depth + 1)


def check_keywords(schema: Schema, place: Place) -> None:
    """Refuse keywords that would not be enforced, at all or where they stand."""
    allowed = {"type", *_TYPE_OF, *DECIDERS, *ANNOTATIONS, *DEFINITIONS}
    for key in schema:
        if key not in allowed:
            hint = " Use anyOf." if key in ("oneOf", "allOf") else ""
            raise SchemaRefused(
                f"keyword {key[:32]!r} would not be enforced, so it is not accepted.{hint}",
                place.path,
            )
    decider = next((key for key in DECIDERS if key in schema), None)
    if decider is None:
        return
    beside = {"type"} if decider in ("enum", "const") else set()
    for key in schema.keys() - ANNOTATIONS - {decider, *DEFINITIONS} - beside:
        raise SchemaRefused(
            f"keyword {key!r} would not be enforced beside {decider!r}. Put it inside.", place.path
        )


def check_type(schema: Schema, place: Place) -> None:
    """Refuse unknown types, and keywords without the type that they need."""
    wanted = schema.get("type")
    types = wanted if isinstance(wanted, list) else [] if wanted is None else [wanted]
    if wanted == [] or any(kind not in _TYPES for kind in types) or len(set(types)) < len(types):
        raise SchemaRefused(f"type must be one or several of {', '.join(_TYPES)}.", place.path)
    for key in schema:
        if _TYPE_OF.get(key, "") not in {"", *types}:
            raise SchemaRefused(
                f'keyword {key!r} needs "type": "{_TYPE_OF[key]}" beside it.', place.path
            )


def check_required(schema: Schema, place: Place) -> None:
    """Refuse names in `required` that no property declares, and too many optional ones."""
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


def check_values(values: object, place: Place) -> None:
    """Refuse an `enum` without values, or with too many."""
    if not isinstance(values, list) or not 1 <= len(values) <= VALUES_MAX:
        raise SchemaRefused(f"must be a list of 1 to {VALUES_MAX} values.", place.path)


def _check_value(value: object, place: Place) -> None:
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


def drop_type(schema: Schema, values: list[Any], place: Place) -> None:
    """Drop a type that all values have anyway; the library does not check it."""
    check_type({key: schema[key] for key in ("type",) if key in schema}, place)
    for value in values:
        _check_value(value, place)
    wanted = schema.pop("type", list(_TYPES))
    types = set(wanted) if isinstance(wanted, list) else {wanted}
    if not all(_types_of(value) & types for value in values):
        raise SchemaRefused("a value does not have the type that stands beside it.", place.path)


def _types_of(value: object) -> set[str]:
    if isinstance(value, float) and value.is_integer():
        return {"integer", "number"}
    return _PYTHON_TYPES[type(value)]


def check_text(schema: Schema, place: Place) -> int:
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


def whole_range(schema: Schema, place: Place) -> list[int]:
    """Return the whole numbers between two bounds; none where there are not two."""
    bounds = [schema.get("minimum"), schema.get("maximum")]
    if any(bound is not None and type(bound) is not int for bound in bounds):
        raise SchemaRefused("minimum and maximum must be whole numbers.", place.path)
    match bounds:
        case [None, None]:
            return []
        case [int(low), None] if 0 <= low < _EXACT_MAX:
            return []
        case [int(low), int(high)] if (
            low <= high < low + VALUES_MAX and schema["type"] == "integer"
        ):
            return list(range(low, high + 1))
        case _:
            raise SchemaRefused(
                f"whole numbers can be bounded by both ends, at most {VALUES_MAX} values, in a "
                "schema whose only type is integer; or from below alone, by 0 or more.",
                place.path,
            )
