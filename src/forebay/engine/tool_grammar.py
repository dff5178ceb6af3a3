"""The JSON schema of an answer that is nothing but tool calls.

Each tool's own schema becomes a definition of the whole; what it defines moves beside it, and its
references follow.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from forebay.core.tooling import Tool

_NAMED: Final = ("properties", "$defs", "definitions")
_LISTED: Final = ("anyOf", "prefixItems")
_SINGLE: Final = ("items", "additionalProperties")
_DEFINITIONS: Final = ("$defs", "definitions")


def calls_schema(tools: Sequence[Tool], *, calls_max: int) -> str:
    """Return the schema of a call to one of `tools`, or of an array of 1 to `calls_max` calls.

    The tools' schemas have passed `json_schema.check`; an empty one allows any object.
    """
    definitions: dict[str, Any] = {}
    calls = []
    for number, tool in enumerate(tools):
        schema = json.loads(tool.parameters) if tool.parameters else {"type": "object"}
        moved = _Moved(f"t{number}_", definitions)
        moved.take(schema)
        calls.append(
            {
                "type": "object",
                "properties": {"name": {"const": tool.name}, "arguments": {"$ref": moved.root}},
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    call: dict[str, Any] = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if calls_max > 1:
        call = {"type": "array", "items": call, "minItems": 1, "maxItems": calls_max}
    return json.dumps(call | {"$defs": definitions}, separators=(",", ":"))


class _Moved:
    """One tool's schema on its way into the definitions of another, under a prefix."""

    def __init__(self, prefix: str, definitions: dict[str, Any]) -> None:
        self._prefix = prefix
        self._definitions = definitions
        self.root = f"#/$defs/{prefix}"

    def take(self, schema: dict[str, Any]) -> None:
        """Define the schema and, beside it, what it defines."""
        kept = {key: part for key, part in schema.items() if key not in _DEFINITIONS}
        self._definitions[self._prefix] = self._moved(kept)
        for group in _DEFINITIONS:
            for name, part in schema.get(group, {}).items():
                self._definitions[self._name(group, name)] = self._moved(part)

    def _name(self, group: str, name: str) -> str:
        return f"{self._prefix}{group[0]}{name}"

    def _moved(self, schema: Any) -> Any:  # noqa: ANN401 - JSON
        if not isinstance(schema, dict):
            return schema
        moved = dict(schema)
        for key, part in schema.items():
            if key in _NAMED:
                moved[key] = {name: self._moved(each) for name, each in part.items()}
            elif key in _LISTED:
                moved[key] = [self._moved(each) for each in part]
            elif key in _SINGLE:
                moved[key] = self._moved(part)
            elif key == "$ref":
                moved[key] = self._reference(part)
        return moved

    def _reference(self, reference: str) -> str:
        if reference == "#":
            return self.root
        _, group, name = reference.split("/")
        return f"#/$defs/{self._name(group, name)}"
