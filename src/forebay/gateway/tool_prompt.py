"""Tools in words, for models whose chat template takes none: Hermes' system message.

A model that was not trained for it may still not call; where it must (`tool_choice`), a grammar
sees to the form.
"""

import json
from typing import Any, Final

import msgspec

from forebay.core.request import Message, Role
from forebay.core.tooling import Tool, Tooling, ToolTurn

_BEFORE: Final = (
    "You may call functions to answer the user. Their signatures are within <tools></tools>:\n"
    "<tools>\n"
)
_AFTER: Final = (
    "\n</tools>\n\nTo call one, write a JSON object with its name and its arguments within "
    "<tool_call></tool_call>:\n<tool_call>\n"
    '{"name": "FUNCTION", "arguments": {...}}\n</tool_call>'
)


def in_words(messages: tuple[Message, ...], tooling: Tooling) -> tuple[Message, ...]:
    """Return a conversation that says in its texts what `tooling` says beside them."""
    said = {turn.index: turn for turn in tooling.turns}
    turns = [
        _turn(message, said[index]) if index in said else message
        for index, message in enumerate(messages)
    ]
    if not tooling.tools:
        return tuple(turns)
    rules = _BEFORE + "\n".join(map(_signature, tooling.tools)) + _AFTER
    if turns[0].role is Role.SYSTEM:
        first = turns.pop(0)
        rules = f"{first.content}\n\n{rules}"
    return (Message(role=Role.SYSTEM, content=rules), *turns)


def _turn(message: Message, said: ToolTurn) -> Message:
    if said.answers:
        # Templates without tools know no such role; Hermes' own has the user report.
        text = f"<tool_response>\n{message.content}\n</tool_response>"
        return Message(role=Role.USER, content=text)
    calls = [
        f'<tool_call>\n{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}\n'
        "</tool_call>"
        for call in said.calls
    ]
    texts = [message.content, *calls] if message.content else calls
    return Message(role=message.role, content="\n".join(texts))


def _signature(tool: Tool) -> str:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters:
        function["parameters"] = msgspec.Raw(tool.parameters.encode())
    return msgspec.json.encode({"type": "function", "function": function}).decode()
