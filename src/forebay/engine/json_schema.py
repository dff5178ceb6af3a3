"""The JSON schemas that a grammar really enforces, and bounds on what they cost.

The grammar library compiles a schema inside the engine's step.  Left to itself it drops
keywords that it does not know in silence, writes text that is not JSON for others (a decimal
bound, a `.` in a pattern), breaks integer ranges, and loses every running sequence when it
meets a schema that it cannot compile.  So this is an allow-list: each keyword here was seen to
hold over sampled answers, alone and in these combinations, and nothing else is let through.

Alternatives that share letters are the library's worst fault: it merges their states, so that
an enum of 129 to 140 lets 120 through.  A reference keeps them apart, so each alternative is
compiled as a definition of its own.  Annotations say nothing about the answer and are allowed.
"""

import json
from typing import Any, Final, Literal

from forebay.engine.schema_rules import (
    ANNOTATIONS,
    BUDGETS,
    BYTES_MAX,
    DECIDERS,
    DEFINITIONS,
    DEPTH_MAX,
    NODES_MAX,
    Budget,
    Place,
    Schema,
    SchemaRefused,
    check_keywords,
    check_required,
    check_text,
    check_type,
    check_values,
    drop_type,
    whole_range,
)

__all__ = ["ANY_OBJECT", "SchemaRefused", "check", "grammar_schema"]

ANY_OBJECT: Final = '{"type":"object"}'
"""The schema of `response_format: json_object`."""


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


class _Walk:
    """One pass over a schema; returns what is to be compiled.

    State: what is left to spend, and the references that are known to end.
    """

    def __init__(self, schema: object) -> None:
        self._schema = schema
        self._nodes = 0
        self._left = dict(BUDGETS)
        self._own: Schema = {}
        self._prefix = _free_prefix(schema)
        self._grounded: set[str] = set()

    def run(self) -> Schema | Literal[True]:
        if not isinstance(self._schema, dict):
            raise SchemaRefused("the schema must be an object.")
        compiled = self._visit(self._schema, Place())
        if isinstance(compiled, dict) and self._own:
            compiled["$defs"] = compiled.get("$defs", {}) | self._own
        return compiled

    def _visit(self, schema: object, place: Place) -> Schema | Literal[True]:
        self._nodes += 1
        if self._nodes > NODES_MAX or place.depth > DEPTH_MAX * 2:
            raise SchemaRefused(
                f"at most {NODES_MAX} schemas, nested {DEPTH_MAX} deep, are compiled.", place.path
            )
        if schema is True:
            return True
        if not isinstance(schema, dict):
            raise SchemaRefused("a schema must be an object or true.", place.path)
        check_keywords(schema, place)
        kept = {key: value for key, value in schema.items() if key not in ANNOTATIONS}
        for key in DEFINITIONS:
            if key in kept:
                kept[key] = self._named(kept[key], place.inside(key))
        match next((key for key in DECIDERS if key in schema), None):
            case "$ref":
                self._follow(schema["$ref"], place.inside("$ref"))
            case "anyOf":
                choices = self._choices(schema["anyOf"], place.inside("anyOf"))
                kept["anyOf"] = [self._apart(choice) for choice in choices]
            case "enum":
                check_values(schema["enum"], place.inside("enum"))
                self._one_of(kept, kept.pop("enum"), place)
            case "const":
                self._one_of(kept, [kept.pop("const")], place)
            case _:
                self._typed(kept, place)
        return kept

    def _one_of(self, kept: Schema, values: list[Any], place: Place) -> None:
        """Let a schema stand for one of `values`."""
        drop_type(kept, values, place)
        self._spend(Budget.VALUES, len(json.dumps(values)), place)
        kept["anyOf"] = [self._apart({"const": value}) for value in values]

    def _apart(self, schema: Schema | Literal[True]) -> Schema:
        """Move a schema into a definition of its own and return the reference."""
        name = f"{self._prefix}{len(self._own)}"
        self._own[name] = schema
        return {"$ref": f"#/$defs/{name}"}

    def _typed(self, kept: Schema, place: Place) -> None:
        """Check the keywords of a schema with a type, replacing its parts by their own."""
        check_type(kept, place)
        if "properties" in kept:
            kept["properties"] = self._named(kept["properties"], place.inside("properties"))
        check_required(kept, place)
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
        self._spend(Budget.COUNTS, check_text(kept, place), place)
        if values := whole_range(kept, place):
            for key in ("minimum", "maximum"):
                del kept[key]
            self._one_of(kept, values, place)

    def _named(self, schemas: object, place: Place) -> Schema:
        if not isinstance(schemas, dict):
            raise SchemaRefused("must be an object of schemas.", place.path)
        for name in schemas:
            # The library copies names into its grammar as they are.
            if not isinstance(name, str) or not name.isprintable() or set(name) & {'"', "\\"}:
                raise SchemaRefused(
                    "names cannot hold quotes, backslashes or control characters.", place.path
                )
        return {name: self._visit(part, place.inside(name)) for name, part in schemas.items()}

    def _choices(self, schemas: object, place: Place) -> list[Schema | Literal[True]]:
        if not isinstance(schemas, list) or not schemas:
            raise SchemaRefused("must be a list of at least one schema.", place.path)
        return [self._visit(part, place.inside(index)) for index, part in enumerate(schemas)]

    def _repeat(self, kept: Schema, what: str, place: Place, *, budget: Budget) -> None:
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

    def _spend(self, budget: Budget, amount: int, place: Place) -> None:
        self._left[budget] -= amount
        if self._left[budget] < 0:
            raise SchemaRefused(
                f"all {budget} of one schema may come to {BUDGETS[budget]}.", place.path
            )

    def _follow(self, reference: object, place: Place) -> None:
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


def _find(root: object, reference: object, place: Place) -> object:
    parts = reference.split("/") if isinstance(reference, str) else []
    if parts == ["#"]:
        return root
    if len(parts) == 3 and parts[0] == "#" and parts[1] in DEFINITIONS:  # noqa: PLR2004 - #/x/y
        group = root.get(parts[1]) if isinstance(root, dict) else None
        if isinstance(group, dict) and parts[2] in group and not set(parts[2]) & set("~%"):
            return group[parts[2]]
    raise SchemaRefused("must be #, #/$defs/NAME or #/definitions/NAME, and exist.", place.path)


def _free_prefix(root: object) -> str:
    """Return what no name of the client's own definitions begins with."""
    names = root.get("$defs") if isinstance(root, dict) else None
    prefix = "-"
    while isinstance(names, dict) and any(str(name).startswith(prefix) for name in names):
        prefix += "-"
    return prefix
