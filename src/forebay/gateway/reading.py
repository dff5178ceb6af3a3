"""Bytes -> a typed call, or an error that names the field, what was found and what is taken.

`msgspec` parses, checks and is quick; its words are for programmers.  When it refuses, its
verdict is put into a client's words here, off the hot path.
"""

import difflib
import re
from typing import Final, Generic, NoReturn, TypeVar

import msgspec

from forebay.core.errors import Invalid
from forebay.gateway import responses_schemas, schemas

T = TypeVar("T", bound=msgspec.Struct)

_NAME_CHARACTERS_MAX: Final = 64
_EXPLAINED_BYTES_MAX: Final = 65_536
"""A refused body up to this size is parsed again to say what was found."""

_AT: Final = " - at `$"
_UNKNOWN: Final = "Object contains unknown field `"
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`$")
_TYPE: Final = re.compile(r"Expected `(?P<types>[^`]+)`(?: (?P<bound>[<>]=? \S+))?")
_STEP: Final = re.compile(r"([^.\[\]]+)|\[(\d+)\]")

_WORDS: Final = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
}
_ENUMERATED: Final = frozenset({"role", "type", "name"})
"""Fields whose text may be shown again in an error; the text of others may be a prompt."""

_NESTED: Final[dict[str, type[msgspec.Struct]]] = {
    "stream_options": schemas.StreamOptions,
    "response_format": schemas.ResponseFormat,
    "response_format.json_schema": schemas.SchemaFormat,
    "messages[]": schemas.ChatMessage,
    "messages[].content[]": schemas.Part,
    "messages[].tool_calls[]": schemas.AskedCall,
    "messages[].tool_calls[].function": schemas.CalledFunction,
    "tools[]": schemas.OfferedTool,
    "tools[].function": schemas.Function,
    "tool_choice": schemas.ToolChoice,
    "tool_choice.function": schemas.ChosenFunction,
    "input[]": responses_schemas.InputItem,
    "input[].content[]": responses_schemas.InputPart,
    "input[].output[]": responses_schemas.InputPart,
    "text": responses_schemas.TextOptions,
    "text.format": responses_schemas.TextFormat,
}
_OWN: Final[dict[type[msgspec.Struct], dict[str, type[msgspec.Struct]]]] = {
    responses_schemas.ResponsesCall: {
        "tools[]": responses_schemas.FunctionTool,
        "tool_choice": responses_schemas.FunctionChoice,
    },
}
"""Paths that mean something else in one dialect."""
_ELSEWHERE: Final[dict[type[msgspec.Struct], tuple[type[msgspec.Struct], str]]] = {
    schemas.ChatCall: (schemas.TextCall, "/v1/completions"),
    schemas.TextCall: (schemas.ChatCall, "/v1/chat/completions"),
}


class Reader(Generic[T]):
    """Reads the calls of one dialect."""

    def __init__(self, call: type[T]) -> None:
        """Read bodies as `call`."""
        self._call = call
        self._decoder = msgspec.json.Decoder(call)

    def read(self, body: bytes) -> T:
        """Return the call that a body states; raises Invalid."""
        if not body.strip():
            raise Invalid("The body is empty; send a JSON object.")
        try:
            body.decode()  # what the parser skips, it does not check
            return self._decoder.decode(body)
        except UnicodeDecodeError as error:
            message = f"The body is not valid UTF-8 (at byte {error.start})."
            raise Invalid(message) from None
        except RecursionError:
            raise Invalid("The body is nested too deeply.") from None
        except msgspec.ValidationError as error:
            self._explain(str(error), body)
        except msgspec.DecodeError as error:
            raise Invalid(f"The body is not valid JSON: {_malformed(str(error))}.") from None

    def _explain(self, words: str, body: bytes) -> NoReturn:
        verdict, path = _parted(words)
        if verdict.startswith(_UNKNOWN):
            name = verdict.removeprefix(_UNKNOWN).removesuffix("`")
            raise self._unknown(name, path) from None
        if missing := _MISSING.match(verdict):
            param = _join(path, missing["name"])
            raise Invalid(f"{param}: missing; it is required.", param=param) from None
        message = f"{path or 'The body'}: expected {_expected(verdict, path)}{_found(body, path)}."
        raise Invalid(message, param=path or None) from None

    def _unknown(self, name: str, path: str) -> Invalid:
        """Name the field and the nearest known one."""
        param = _join(path, shown(name))
        kind = re.sub(r"\[\d+\]", "[]", path)
        nested = _OWN.get(self._call, {}).get(kind) or _NESTED.get(kind)
        struct = nested if path else self._call
        known = struct.__struct_fields__ if struct else ()
        near = difflib.get_close_matches(name[:_NAME_CHARACTERS_MAX], known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        if not path and self._call in _ELSEWHERE:
            other, route = _ELSEWHERE[self._call]
            if name in other.__struct_fields__:
                hint = f" It belongs to {route}."
        return Invalid(f"{param}: there is no such parameter.{hint}", param=param)


def shown(name: str) -> str:
    """Return a client's name for something, bounded and printable."""
    return "".join(c if c.isprintable() else "?" for c in name[:_NAME_CHARACTERS_MAX])


def _parted(words: str) -> tuple[str, str]:
    """Return the parser's verdict, and the path that it names, if any.

    A verdict may hold a megabyte that a client made up as a name: a pattern that is tried at each
    of its characters takes 140 ms.
    """
    verdict, at, path = words.rpartition(_AT)
    if not at or path.find("`") != len(path) - 1:
        return words, ""
    return verdict, path[:-1].removeprefix(".")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _malformed(words: str) -> str:
    return words.removeprefix("JSON is malformed: ").rstrip(".")


def _expected(verdict: str, path: str) -> str:
    """Put the parser's demand into words."""
    if verdict.startswith("Invalid enum value"):
        return "one of system, developer, user, assistant, tool"
    if "matching regex" in verdict:
        return "1 to 64 letters, digits, '_' or '-'"
    if verdict.startswith("Number out of range"):
        return "a finite number"
    if "of length" in verdict:
        named = path == "model" or path.endswith(("id",))
        return "1 to 256 characters" if named else "another length"
    if kind := _TYPE.match(verdict):
        words = " or ".join(_WORDS.get(t, t) for t in kind["types"].split(" | ") if t != "null")
        return f"{words} {kind['bound']}" if kind["bound"] else words
    return "something else"


def _found(body: bytes, path: str) -> str:
    """Say what stood at `path`, without repeating what may be a prompt."""
    if len(body) > _EXPLAINED_BYTES_MAX:
        return ""
    try:
        value = msgspec.json.decode(body)
        for name, index in _STEP.findall(path):
            value = value[name] if name else value[int(index)]
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError):
        return ""
    match value:
        case str():
            last = path.rpartition(".")[2]
            return f", found '{shown(value)}'" if last in _ENUMERATED else _kind(value)
        case bool() | None | int() | float():
            return f", found {msgspec.json.encode(value).decode()[:_NAME_CHARACTERS_MAX]}"
    return _kind(value)


def _kind(value: object) -> str:
    match value:
        case str():
            return ", found a string" if value else ", found an empty string"
        case list():
            return f", found an array of {len(value)}"
    return ", found an object"
