"""The tools of a call: read, bounded, and made what the core understands."""

from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import Raw

from forebay.core.errors import Invalid
from forebay.core.request import JsonSchema, Role
from forebay.core.tooling import Tool, ToolCall, Tooling, ToolTurn
from forebay.engine import json_schema
from forebay.engine.protocol import EngineInfo, Feature
from forebay.engine.tool_grammar import calls_schema
from forebay.gateway.config import GatewayConfig
from forebay.gateway.parameters import is_given
from forebay.gateway.reading import shown
from forebay.gateway.schemas import (
    AskedCall,
    ChatCall,
    ChatMessage,
    Function,
    OfferedTool,
    ToolChoice,
)

_SCHEMA_DEPTH_MAX: Final = 64
"""Templates write schemas down by recursion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """What a call's model may, or must, ask for."""

    tools: tuple[Tool, ...] = ()
    forced: bool = False
    """The answer is nothing but calls."""
    single: bool = False
    """At most one call an answer."""
    grammar: JsonSchema | None = None
    warnings: tuple[str, ...] = ()


class Tools:
    """Reads the tools of calls for one engine, within one configuration."""

    def __init__(self, config: GatewayConfig, info: EngineInfo) -> None:
        """Check against the bounds of `config` and the abilities in `info`."""
        self._config = config
        self._native = Feature.TOOLS in info.supports
        self._grammars = Feature.JSON_SCHEMA in info.supports
        self.offered = Feature.TOOLS in offered(info, config)

    @property
    def generic(self) -> bool:
        """Whether the conversation itself has to say what tools there are."""
        return self.offered and not self._native

    def read(self, call: ChatCall) -> Toolbox | None:
        """Return a call's tools; None where it has none, or may use none."""
        if not call.tools:
            if call.tool_choice not in (None, "none", "auto"):
                raise Invalid("tool_choice: it needs tools.", param="tool_choice")
            return None
        if len(call.tools) > self._config.tools_max:
            found, limit = len(call.tools), self._config.tools_max
            raise Invalid(f"tools: {found} tools, at most {limit} are taken.", param="tools")
        functions = [_function(f"tools[{n}]", tool) for n, tool in enumerate(call.tools)]
        _check_names(functions)
        tools = tuple(self._tool(n, function) for n, function in enumerate(functions))
        names = _chosen(call.tool_choice, functions)
        if call.tool_choice == "none":
            return None
        _check_alone(call)
        single = call.parallel_tool_calls is False
        if names is None:
            strict = any(function.strict for function in functions)
            # What the model writes of its own accord, no grammar holds to a schema.
            warnings = ("tools[].function.strict",) if strict else ()
            return Toolbox(tools=tools, single=single, warnings=warnings)
        single = single or isinstance(call.tool_choice, ToolChoice)
        return self._forced(functions, tools, names, single=single)

    def _forced(
        self, functions: list[Function], tools: tuple[Tool, ...], names: list[str], *, single: bool
    ) -> Toolbox:
        """Return the tools of a call whose answer must be calls to those of these names."""
        if not self._grammars:
            message = "tool_choice: the engine of this model has no grammars; send auto or none."
            raise Invalid(message, param="tool_choice")
        held, loose = [], False
        for number, (function, tool) in enumerate(zip(functions, tools, strict=True)):
            if tool.name in names:
                enforced = _enforced(f"tools[{number}].function", function, tool)
                loose = loose or enforced is not tool
                held.append(enforced)
        calls_max = 1 if single else self._config.tool_calls_max
        schema = calls_schema(held, calls_max=calls_max)
        try:
            json_schema.check(msgspec.json.decode(schema))
        except json_schema.SchemaRefused as error:
            message = f"tools: too much for one grammar together: {error} Send fewer of them."
            raise Invalid(message, param="tools") from None
        return Toolbox(
            tools=tools,
            forced=True,
            single=single,
            grammar=JsonSchema(schema=schema),
            warnings=("tools[].function.parameters",) if loose else (),
        )

    def _tool(self, number: int, function: Function) -> Tool:
        param = f"tools[{number}].function.parameters"
        text = ""
        if isinstance(function.parameters, Raw) and is_given(function.parameters):
            raw, limit = bytes(function.parameters), self._config.schema_bytes_max
            if len(raw) > limit:
                message = f"{param}: {len(raw)} bytes, at most {limit} are taken."
                raise Invalid(message, param=param)
            _check_object(raw, param)
            # Without blanks: a body that is only laid out otherwise is the same request.
            text = msgspec.json.format(raw, indent=-1).decode()
        return Tool(
            name=function.name,
            description=function.description or "",
            parameters="" if text == "{}" else text,
        )

    def tooling(self, messages: list[ChatMessage], toolbox: Toolbox | None) -> Tooling:
        """Return what a conversation has to do with tools; raises Invalid."""
        turns: list[ToolTurn] = []
        called: dict[str, str] = {}
        for index, message in enumerate(messages):
            if message.tool_calls:
                calls = self._calls(f"messages[{index}].tool_calls", message)
                called.update({call.id: call.name for call in calls})
                turns.append(ToolTurn(index=index, calls=calls))
            elif message.tool_call_id is not None:
                param = f"messages[{index}].tool_call_id"
                if message.role is not Role.TOOL:
                    raise Invalid(f"{param}: it belongs to messages of role tool.", param=param)
                if message.tool_call_id not in called:
                    text = f"{param}: no tool call before it has this id."
                    raise Invalid(text, param=param)
                id = message.tool_call_id
                turns.append(ToolTurn(index=index, answers=id, name=called[id]))
        return Tooling(tools=() if toolbox is None else toolbox.tools, turns=tuple(turns))

    def _calls(self, param: str, message: ChatMessage) -> tuple[ToolCall, ...]:
        if message.role is not Role.ASSISTANT:
            raise Invalid(f"{param}: only an assistant's message has them.", param=param)
        asked = message.tool_calls or []
        if len(asked) > self._config.tool_calls_max:
            found, limit = len(asked), self._config.tool_calls_max
            raise Invalid(f"{param}: {found} calls, at most {limit} are taken.", param=param)
        return tuple(_call(f"{param}[{number}]", call) for number, call in enumerate(asked))


def offered(info: EngineInfo, config: GatewayConfig) -> frozenset[Feature]:
    """Return what may be asked of an engine: what it supports, and tools in words if set so."""
    generic = config.tools_generic and Feature.CHAT in info.supports
    return info.supports | {Feature.TOOLS} if generic else info.supports


def _call(param: str, call: AskedCall) -> ToolCall:
    if call.type != "function":
        message = f"{param}.type: only function is taken, found '{shown(call.type)}'."
        raise Invalid(message, param=f"{param}.type")
    if call.function is None:
        raise Invalid(f"{param}.function: missing; it is required.", param=f"{param}.function")
    return ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)


def _function(param: str, tool: OfferedTool) -> Function:
    if tool.type != "function":
        message = f"{param}.type: only function is offered, found '{shown(tool.type)}'."
        raise Invalid(message, param=f"{param}.type")
    if tool.function is None:
        raise Invalid(f"{param}.function: missing; it is required.", param=f"{param}.function")
    return tool.function


def _check_names(functions: list[Function]) -> None:
    seen: dict[str, int] = {}
    for number, function in enumerate(functions):
        first = seen.setdefault(function.name, number)
        if first != number:
            param = f"tools[{number}].function.name"
            raise Invalid(f"{param}: tools[{first}] has this name too.", param=param)


def _check_alone(call: ChatCall) -> None:
    """Refuse what cannot be had together with tools."""
    form = call.response_format
    if form is not None and form.type != "text":
        message = "response_format: not together with tools; a grammar would exclude their calls."
        raise Invalid(f"{message} Send tool_choice none.", param="response_format")
    if call.logprobs:
        message = "logprobs: not together with tools; send tool_choice none."
        raise Invalid(message, param="logprobs")


def _chosen(choice: str | ToolChoice | None, functions: list[Function]) -> list[str] | None:
    """Return the names of which one must be called; None where the model decides."""
    match choice:
        case None | "none" | "auto":
            return None
        case "required":
            return [function.name for function in functions]
        case str() as found:
            message = "tool_choice: expected none, auto, required or a function"
            raise Invalid(f"{message}, found '{shown(found)}'.", param="tool_choice")
    if choice.type != "function":
        message = f"tool_choice.type: expected function, found '{shown(choice.type)}'."
        raise Invalid(message, param="tool_choice.type")
    param = "tool_choice.function"
    if choice.function is None:
        raise Invalid(f"{param}: missing; it is required.", param=param)
    if all(function.name != choice.function.name for function in functions):
        param += ".name"
        message = f"{param}: no tool is called '{shown(choice.function.name)}'."
        raise Invalid(message, param=param)
    return [choice.function.name]


def _check_object(raw: bytes, param: str) -> None:
    """Refuse parameters that are no schema of an object, or nested too deeply."""
    try:
        schema = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        message = f"{param}: nested too deeply, or with a number that no JSON reader can take."
        raise Invalid(message, param=param) from None
    if not isinstance(schema, dict) or (schema and schema.get("type") != "object"):
        message = f'{param}: expected a JSON schema of "type": "object".'
        raise Invalid(message, param=param)
    level: list[object] = [schema]
    for _ in range(_SCHEMA_DEPTH_MAX):
        level = [part for value in level for part in _parts(value)]
        if not level:
            return
    message = f"{param}: nested more than {_SCHEMA_DEPTH_MAX} deep."
    raise Invalid(message, param=param)


def _parts(value: object) -> list[object]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
    return []


def _enforced(param: str, function: Function, tool: Tool) -> Tool:
    """Return the tool as a grammar can hold a call to it.

    A schema that no grammar enforces is refused where the client said `strict`; elsewhere any
    object will do.
    """
    if not tool.parameters:
        return tool
    try:
        json_schema.check(msgspec.json.decode(tool.parameters))
    except json_schema.SchemaRefused as error:
        if function.strict:
            param += ".parameters"
            where = f"{param}.{shown(error.path)}" if error.path else param
            raise Invalid(f"{where}: {error}", param=where) from None
        return Tool(name=tool.name)
    return tool
