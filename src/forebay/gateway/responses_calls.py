"""A call of `/v1/responses` in the words of chat completions, and its errors in its own.

One translation serves bounds, tools, grammars and errors: what is checked further down names a
field of chat completions, and is renamed on its way to the client.
"""

import re
from collections.abc import Sequence
from typing import Final, TypeVar

from forebay.core.errors import Invalid
from forebay.core.request import Role
from forebay.gateway.parameters import is_given
from forebay.gateway.reading import shown
from forebay.gateway.responses_schemas import (
    FunctionChoice,
    FunctionTool,
    InputItem,
    InputPart,
    ResponsesCall,
    TextFormat,
)
from forebay.gateway.schemas import (
    AskedCall,
    CalledFunction,
    ChatCall,
    ChatMessage,
    ChosenFunction,
    Function,
    OfferedTool,
    Part,
    ResponseFormat,
    SchemaFormat,
    ToolChoice,
)

T = TypeVar("T")

_TEXTS: Final = ("input_text", "output_text", "text")
_PART_EXTRAS: Final = (
    *("detail", "file_data", "file_id", "file_url", "filename", "image_url", "input_audio"),
    "refusal",
)
_ITEM_EXTRAS: Final = ("action", "caller", "encrypted_content", "namespace", "summary")
"""Fields of kinds of items that are not offered; `id` and its like come with every item."""
_CHOICE_EXTRAS: Final = ("mode", "server_label", "tools")
_TOOL_EXTRAS: Final = tuple(
    name
    for name in FunctionTool.__struct_fields__
    if name not in {"type", "name", "description", "parameters", "strict"}
)
_NAMES: Final = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "tool_choice.function": "tool_choice",
    "tool_choice.function.name": "tool_choice.name",
}
_PREFIXES: Final = (
    (re.compile(r"^response_format\.json_schema\b"), "text.format"),
    (re.compile(r"^response_format\b"), "text.format"),
    (re.compile(r"^tools\[(\d+)\]\.function\b"), r"tools[\1]"),
)
_MESSAGE: Final = re.compile(r"^messages(?:\[(\d+)\](?:\.tool_calls(?:\[(\d+)\])?)?)?")


class Translation:
    """One call, translated."""

    def __init__(self, call: ResponsesCall) -> None:
        """Translate; raises Invalid for kinds of items, parts and tools that are not offered."""
        # The whole state: messages so far, and where in the call each, and each of its calls, is.
        self._messages: list[ChatMessage] = []
        self._places: list[str] = []
        self._called: list[list[str]] = []
        self._read(call)
        options = call.text
        if options is not None and options.verbosity not in {None, "medium"}:
            message = 'text.verbosity: not supported. Ask for brevity in words; send "medium".'
            raise Invalid(message, param="text.verbosity")
        self.chat = ChatCall(
            model=call.model,
            messages=self._messages,
            max_completion_tokens=call.max_output_tokens,
            parallel_tool_calls=call.parallel_tool_calls,
            response_format=None if options is None else _format(options.format),
            stream=call.stream,
            temperature=call.temperature,
            tool_choice=_choice(call.tool_choice),
            tools=None if call.tools is None else _tools(call.tools),
            top_p=call.top_p,
        )

    def renamed(self, error: Invalid) -> Invalid:
        """Return an error with the field's name in this dialect."""
        if error.param is None:
            return error
        param = self._renamed(error.param)
        if param == error.param:
            return error
        message = error.message
        if message.startswith(error.param):
            message = param + message.removeprefix(error.param)
        return Invalid(message, param=param, status=error.status)

    def warned(self, name: str) -> str:
        """Return the name of what has no effect in this dialect."""
        return name.replace("tools[].function.", "tools[].").replace(
            "response_format.json_schema", "text.format"
        )

    def _renamed(self, param: str) -> str:
        if param in _NAMES:
            return _NAMES[param]
        for pattern, name in _PREFIXES:
            if pattern.match(param):
                return pattern.sub(name, param, count=1)
        found = _MESSAGE.match(param)
        if found is None:
            return param
        if found[1] is None:
            return "input" + param[found.end() :]
        index = int(found[1])
        place = self._called[index][int(found[2])] if found[2] else self._places[index]
        if place in {"instructions", "input"}:
            return place
        rest = param[found.end() :].replace(".tool_call_id", ".call_id")
        return place + rest.replace(".function", "")

    def _read(self, call: ResponsesCall) -> None:
        if call.instructions:
            self._add(ChatMessage(role=Role.SYSTEM, content=call.instructions), "instructions")
        if isinstance(call.input, str):
            self._add(ChatMessage(role=Role.USER, content=call.input), "input")
            return
        if not call.input:
            raise Invalid("input: empty; send a text, or at least one item.", param="input")
        for index, item in enumerate(call.input):
            self._item(item, f"input[{index}]")

    def _add(self, message: ChatMessage, place: str) -> None:
        self._messages.append(message)
        self._places.append(place)
        self._called.append([])

    def _item(self, item: InputItem, place: str) -> None:
        match item.type:
            case "message":
                role = _required(item.role, f"{place}.role")
                content = _content(item.content, f"{place}.content")
                self._add(ChatMessage(role=role, content=content), place)
            case "function_call":
                self._call(item, place)
            case "function_call_output":
                output = _content(item.output, f"{place}.output")
                call_id = _required(item.call_id, f"{place}.call_id")
                message = ChatMessage(role=Role.TOOL, content=output, tool_call_id=call_id)
                self._add(message, place)
            case other:
                message_ = (
                    f"{place}.type: only message, function_call and function_call_output are "
                    f"taken, found '{shown(other)}'."
                )
                raise Invalid(message_, param=f"{place}.type")
        _refuse_extras(item, _ITEM_EXTRAS, place, what=f"an item of type {item.type}")

    def _call(self, item: InputItem, place: str) -> None:
        """Put a call into the assistant's turn that it belongs to."""
        asked = AskedCall(
            id=_required(item.call_id, f"{place}.call_id"),
            function=CalledFunction(
                name=_required(item.name, f"{place}.name"),
                arguments=_required(item.arguments, f"{place}.arguments"),
            ),
        )
        last = self._messages[-1] if self._messages else None
        if last is None or last.role is not Role.ASSISTANT:
            self._add(ChatMessage(role=Role.ASSISTANT, tool_calls=[asked]), place)
        else:
            last.tool_calls = [*(last.tool_calls or ()), asked]
        self._called[-1].append(place)


def _refuse_extras(
    found: InputItem | InputPart | FunctionChoice, names: Sequence[str], param: str, *, what: str
) -> None:
    """Refuse fields that only other kinds have: they would be dropped in silence."""
    for name in names:
        if is_given(getattr(found, name)):
            raise Invalid(f"{param}.{name}: {what} has no such field.", param=f"{param}.{name}")


def _required(value: T | None, param: str) -> T:
    if value is None:
        raise Invalid(f"{param}: missing; it is required.", param=param)
    return value


def _content(content: str | list[InputPart] | None, param: str) -> str | list[Part]:
    match content:
        case None:
            raise Invalid(f"{param}: missing; it is required.", param=param)
        case str() as text:
            return text
        case parts:
            return [_part(part, f"{param}[{number}]") for number, part in enumerate(parts)]


def _part(part: InputPart, param: str) -> Part:
    if part.type not in _TEXTS:
        message = f"{param}.type: only text is taken here, found '{shown(part.type)}'."
        raise Invalid(message, param=f"{param}.type")
    _refuse_extras(part, _PART_EXTRAS, param, what=f"a part of type {part.type}")
    return Part(type="text", text=part.text)


def _format(form: TextFormat | None) -> ResponseFormat | None:
    if form is None:
        return None
    if form.type != "json_schema":
        return ResponseFormat(type=form.type)
    name = _required(form.name, "text.format.name")
    schema = SchemaFormat(
        name=name, schema=form.schema, description=form.description, strict=form.strict
    )
    return ResponseFormat(type=form.type, json_schema=schema)


def _tools(tools: list[FunctionTool]) -> list[OfferedTool]:
    return [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]


def _tool(tool: FunctionTool, param: str) -> OfferedTool:
    if tool.type != "function":
        return OfferedTool(type=tool.type)  # refused by that name further down
    for extra in _TOOL_EXTRAS:
        value = getattr(tool, extra)
        if is_given(value) and bytes(value) != b"false":
            message = f"{param}.{extra}: not supported for functions; leave it out."
            raise Invalid(message, param=f"{param}.{extra}")
    function = Function(
        name=_required(tool.name, f"{param}.name"),
        description=tool.description,
        parameters=tool.parameters,
        strict=tool.strict,
    )
    return OfferedTool(type="function", function=function)


def _choice(choice: str | FunctionChoice | None) -> str | ToolChoice | None:
    if not isinstance(choice, FunctionChoice):
        return choice
    if choice.type != "function":
        return ToolChoice(type=choice.type)
    _refuse_extras(choice, _CHOICE_EXTRAS, "tool_choice", what="a choice of a function")
    name = _required(choice.name, "tool_choice.name")
    return ToolChoice(type="function", function=ChosenFunction(name=name))
