"""Tools as a chat template sees them, in the shape that Hugging Face fixed.

Templates write tools and calls down as JSON or word by word, so every text in them, names of
properties included, is marked like a message's content: none becomes a control token.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from forebay.core.tooling import ToolCall, Tooling, ToolTurn
from forebay.engine.protocol import Refused

_TAKES_TOOLS: Final = re.compile(r"\btools\b")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]*")
_NO_PARAMETERS: Final = {"type": "object", "properties": {}}
_SHORT_ID_CHARACTERS: Final = 9
"""Mistral's templates refuse ids of another length."""


def can_call(template: str) -> bool:
    """Whether a template takes tools, and has the model ask for them in a form that is read.

    The forms: `<tool_call>{JSON}</tool_call>` of Hermes and Qwen, `{"name", "parameters"}` of
    Llama 3, `[TOOL_CALLS] [{JSON}]` of Mistral.  Others put no JSON object there.
    """
    if not _TAKES_TOOLS.search(template):
        return False
    hermes = "<tool_call>" in template and "arguments" in template
    foreign = "<parameter=" in template or "<arg_key>" in template
    llama = "{" in template and "function name" in template and "parameters" in template
    mistral = _is_mistrals(template) and "[ARGS]" not in template
    return (hermes and not foreign) or llama or mistral


def _is_mistrals(template: str) -> bool:
    return "[TOOL_CALLS]" in template


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolShapes:
    """What a template is given beside roles and contents."""

    tools: list[dict[str, Any]] | None
    turns: dict[int, dict[str, Any]]
    """By the index of a message: what it has beside role and content."""

    @property
    def parts(self) -> int:
        """How many tools and turns there are, each worth some of a template's work."""
        return len(self.tools or ()) + len(self.turns)

    def texts(self) -> Iterator[str]:
        """Yield every text in them."""
        return _texts([self.tools, *self.turns.values()])

    def marked(self, mark: Callable[[str], str]) -> "ToolShapes":
        """Return the same with each text through `mark`, but for plain names.

        Templates look for names (`parameters`, `object`), and a name alone is no control token.
        """

        def marked(text: str) -> str:
            return text if _NAME.fullmatch(text) else mark(text)

        return ToolShapes(
            tools=_mapped(self.tools, marked),
            turns={index: _mapped(turn, marked) for index, turn in self.turns.items()},
        )


def tool_shapes(tooling: Tooling, template: str) -> ToolShapes:
    """Return what this template is given; raises Refused for JSON that is none."""
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": _schema(tool.parameters),
            },
        }
        for tool in tooling.tools
    ]
    id_of = _short if _is_mistrals(template) else str
    turns = {turn.index: _turn(turn, id_of) for turn in tooling.turns}
    return ToolShapes(tools=tools or None, turns=turns)


def _turn(turn: ToolTurn, id_of: Callable[[str], str]) -> dict[str, Any]:
    said: dict[str, Any] = {}
    if turn.calls:
        said["tool_calls"] = [_call(call, id_of) for call in turn.calls]
    if turn.answers:
        said["tool_call_id"] = id_of(turn.answers)
    if turn.name:
        said["name"] = turn.name
    return said


def _call(call: ToolCall, id_of: Callable[[str], str]) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(call.arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        arguments = call.arguments  # the model wrote no object; it sees again what it wrote
    function = {"name": call.name, "arguments": arguments}
    return {"id": id_of(call.id), "type": "function", "function": function}


def _schema(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return msgspec.json.decode(text) if text else _NO_PARAMETERS
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refused("tools: a schema cannot be read.", param="tools") from error


def _short(id: str) -> str:
    if len(id) == _SHORT_ID_CHARACTERS and id.isalnum():
        return id
    return hashlib.sha256(id.encode()).hexdigest()[:_SHORT_ID_CHARACTERS]


def _texts(value: object) -> Iterator[str]:
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                yield text
            case list() as items:
                rest += items
            case dict() as entries:
                rest += entries.keys()
                rest += entries.values()


def _mapped(value: Any, mark: Callable[[str], str]) -> Any:  # noqa: ANN401 - JSON
    match value:
        case str():
            return mark(value)
        case list():
            return [_mapped(part, mark) for part in value]
        case dict():
            return {mark(key): _mapped(part, mark) for key, part in value.items()}
        case _:
            return value
