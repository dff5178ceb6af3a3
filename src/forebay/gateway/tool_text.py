"""A model's own words for a tool call, found while the answer arrives in pieces.

Known forms: `<tool_call>{...}</tool_call>` (Hermes, Qwen), `[TOOL_CALLS] [{...}]` (Mistral),
`<|python_tag|>{...}` and a bare `{...}` or `[{...}]` with which the answer begins (Llama 3, and
every answer under a grammar).  The object has a `name`, which must be that of a tool that was
offered, and `arguments` or `parameters`.

Theory of operation.  Text that may still become a call is held back, so no markup leaks in part.
What turns out not to be a call is content after all, word for word.  Once name and the beginning
of the arguments are there, the call is announced, and its arguments are passed on as they come,
unread but for their end.  White space beside a call is markup, not content, and so are the
commas, semicolons and brackets that follow one.
"""

import enum
import json
import re
from dataclasses import dataclass
from typing import Final

from forebay.core.request import FinishReason
from forebay.gateway.answers import Finish

_CLOSER: Final = "</tool_call>"
_OPENERS: Final = ("<tool_call>", "[TOOL_CALLS]", "<|python_tag|>")
_OPENER: Final = re.compile("|".join(map(re.escape, _OPENERS)))
_PARTIAL: Final = frozenset(text[:n] for text in _OPENERS for n in range(1, len(text)))
_PARTIAL_MAX: Final = max(map(len, _PARTIAL))
_BARE: Final = re.compile(r"\s*(?:\[\s*)?(\{)?")
_BODY: Final = re.compile(r"\s*(?:\[\s*)?")
_AFTER: Final = re.compile(r"[\s,;\]]*")
_TAIL_END: Final = re.compile(rf"\}}|(?={re.escape(_CLOSER)})")

_KEY: Final = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*:\s*')
_KEY_BEGUN: Final = re.compile(r'\s*(?:"(?:[^"\\]|\\.)*(?:\\|"\s*)?)?\Z')
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCALAR: Final = re.compile(r"[-+.\w]+(?=[\s,}])")
_SCALAR_BEGUN: Final = re.compile(r"[-+.\w]*\Z")
_QUOTED: Final = re.compile(r'["\\]')
_UNQUOTED: Final = re.compile(r'["{}\[\]<]')
_ARGUMENTS: Final = ("arguments", "parameters")
_ASIDE: Final = ("id", "type", "index")

_SPACES_HELD_MAX: Final = 64
_HEAD_CHARACTERS_MAX: Final = 2_048
"""What of a call may come before its arguments can be passed on; beyond it, it is no call."""


@dataclass(frozen=True, slots=True)
class Said:
    """Text that is content."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """A call begins; calls are numbered from 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class Argued:
    """More of a call's arguments."""

    index: int
    text: str


Part = Said | Called | Argued


class _State(enum.Enum):
    """Where in the answer we are."""

    TEXT = enum.auto()
    HEAD = enum.auto()
    ARGUMENTS = enum.auto()
    TAIL = enum.auto()
    AFTER = enum.auto()
    DONE = enum.auto()


class _Junk(Exception):
    """This is no call."""


class _More(Exception):
    """What is there does not say yet whether it is a call."""


class ToolText:
    """One answer's text, parted into content and calls."""

    def __init__(
        self, names: frozenset[str], *, forced: bool = False, single: bool = False
    ) -> None:
        """Look for calls of these tools.

        `forced`: the answer is nothing else.  `single`: what follows the first call is dropped.
        """
        self._names = names
        self._forced = forced
        self._single = single
        # The whole mutable state: where we are, what is held back, where in it a call's object
        # would begin, whether anything came before, and the calls begun.
        self._state = _State.TEXT
        self._held = ""
        self._body = 0
        self._tagged = False
        self._fresh = True
        self._span = _Span()
        self.calls = 0

    def push(self, text: str) -> list[Part]:
        """Return what has become certain."""
        parts: list[Part] = []
        self._held += text
        while self._step(parts):
            pass
        return parts

    def close(self, reason: FinishReason) -> list[Part]:
        """Return what is left: the answer has ended."""
        held, self._held = self._held, ""
        match self._state:
            case _State.TEXT if held and not (self.calls and held.isspace()):
                # Cut short before it could become a call.
                cut = self._forced and reason is FinishReason.LENGTH
                return [] if cut else [Said(held)]
            case _State.HEAD if reason is FinishReason.STOP or not (self._forced or self._tagged):
                return [Said(held)]
        return []

    def finish(self, reason: FinishReason) -> Finish:
        """Return how OpenAI calls the answer's end."""
        stopped = reason is FinishReason.STOP
        return "tool_calls" if stopped and self.calls else reason.value

    def _step(self, parts: list[Part]) -> bool:
        """Go as far as the next change of state; return whether there may be another."""
        match self._state:
            case _State.TEXT:
                return self._text(parts)
            case _State.HEAD:
                return self._head(parts)
            case _State.ARGUMENTS:
                return self._arguments(parts)
            case _State.TAIL:
                return self._tail()
            case _State.AFTER:
                return self._after()
            case _State.DONE:
                self._held = ""
                return False

    def _text(self, parts: list[Part]) -> bool:
        if self._fresh:
            bare = _BARE.match(self._held)
            if bare is not None and bare[1]:
                return self._suppose(bare.start(1), tagged=False)
            if bare is not None and bare.end() == len(self._held) <= _SPACES_HELD_MAX:
                return False
            self._fresh = False
        opener = _OPENER.search(self._held)
        if opener is None:
            self._say(parts, self._certain())
            return False
        said = len(self._held[: opener.start()].rstrip())
        self._say(parts, said)
        return self._suppose(opener.end() - said, tagged=True)

    def _certain(self) -> int:
        """Return how many of the held characters are content whatever comes."""
        held = self._held
        lengths = range(min(len(held), _PARTIAL_MAX), 0, -1)
        end = len(held) - next((n for n in lengths if held[-n:] in _PARTIAL), 0)
        return max(len(held[:end].rstrip()), end - _SPACES_HELD_MAX)

    def _say(self, parts: list[Part], characters: int) -> None:
        if characters:
            parts.append(Said(self._held[:characters]))
            self._held = self._held[characters:]

    def _suppose(self, body: int, *, tagged: bool) -> bool:
        self._state, self._body, self._tagged, self._fresh = _State.HEAD, body, tagged, False
        return True

    def _head(self, parts: list[Part]) -> bool:
        try:
            head = _Head(self._names).read(self._held, self._body)
        except _More:
            if len(self._held) <= _HEAD_CHARACTERS_MAX:
                return False
            head = None
        except _Junk:
            head = None
        if head is None or head.end > _HEAD_CHARACTERS_MAX:
            self._state = _State.TEXT
            self._say(parts, max(self._body, 1))
            return True
        parts.append(Called(self.calls, head.name))
        self.calls += 1
        self._held = self._held[head.end :]
        if head.arguments is None:
            self._span, self._state = _Span(), _State.ARGUMENTS
        else:
            parts.append(Argued(self.calls - 1, head.arguments))
            self._end()
        return True

    def _arguments(self, parts: list[Part]) -> bool:
        end = self._span.take(self._held)
        if end:
            parts.append(Argued(self.calls - 1, self._held[:end]))
            self._held = self._held[end:]
        if self._span.open:
            return False
        self._state = _State.TAIL
        return True

    def _tail(self) -> bool:
        end = _TAIL_END.search(self._held)
        if end is None:
            self._held = self._held[-len(_CLOSER) :]
            return False
        self._held = self._held[end.end() :]
        self._end()
        return True

    def _end(self) -> None:
        self._state = _State.DONE if self._single else _State.AFTER

    def _after(self) -> bool:
        skipped = _AFTER.match(self._held)
        rest = self._held[skipped.end() if skipped else 0 :]
        if rest.startswith(_CLOSER):
            self._held = rest[len(_CLOSER) :]
            return True
        if not rest or _CLOSER.startswith(rest) or rest in _PARTIAL:
            self._held = rest
            return False
        self._held = rest
        self._state = _State.TEXT
        self._fresh = rest[0] == "{"
        return True


class _Span:
    """Finds the end of a JSON value that is an object, unread but for quotes and brackets."""

    def __init__(self) -> None:
        """Begin before the value."""
        self.open = True
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def take(self, text: str, start: int = 0) -> int:
        """Return where the value ends in the text that follows; its end if it goes on."""
        at = start
        if self._escaped and at < len(text):
            at, self._escaped = at + 1, False
        while found := (_QUOTED if self._quoted else _UNQUOTED).search(text, at):
            at = found.end()
            match found.group():
                case "\\":
                    self._escaped = at == len(text)
                    at = min(at + 1, len(text))
                case '"':
                    self._quoted = not self._quoted
                case "{" | "[":
                    self._depth += 1
                case "<":  # no JSON: the model has closed its call too early
                    self.open = False
                    return at - 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        self.open = False
                        return at
        return len(text)


class _Head:
    """A call's object, as far as the beginning of its arguments or, where they are known, its end.

    State: what was read of it.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self.name = ""
        self.arguments: str | None = None
        """Where they are known already; None: they begin at `end`."""
        self.end = 0

    def read(self, text: str, start: int) -> "_Head":
        """Read the object that begins at or after `start`; raises _Junk or _More."""
        body = _BODY.match(text, start)
        at = body.end() if body else start
        if at == len(text):
            raise _More
        if text[at] != "{":
            raise _Junk
        at += 1
        while True:
            key = _KEY.match(text, at)
            if key is None:
                if _KEY_BEGUN.match(text, at):
                    raise _More
                raise _Junk
            at = key.end()
            if key[1] in _ARGUMENTS and self.name and text[at : at + 1] == "{":
                self.end = at
                return self
            end = self._value(text, at)
            self._know(key[1], text[at:end])
            rest = text[end:].lstrip()
            if not rest:
                raise _More
            at = len(text) - len(rest) + 1
            if rest[0] == "}":
                return self._whole(at)
            if rest[0] != ",":
                raise _Junk

    def _know(self, key: str, value: str) -> None:
        try:
            if key == "name":
                self.name = json.loads(value)
                if self.name not in self._names:
                    raise _Junk
            elif key in _ARGUMENTS:
                self.arguments = _as_object(value)
            elif key not in _ASIDE:
                raise _Junk
        except (ValueError, TypeError):  # TypeError: a name that is an object
            raise _Junk from None

    def _whole(self, end: int) -> "_Head":
        if not self.name:
            raise _Junk
        self.arguments = "{}" if self.arguments is None else self.arguments
        self.end = end
        return self

    def _value(self, text: str, at: int) -> int:
        """Return where a value ends."""
        first = text[at : at + 1]
        if first in {"{", "["}:
            span = _Span()
            end = span.take(text, at)
            if span.open:
                raise _More
            return end
        whole = (_STRING if first == '"' else _SCALAR).match(text, at)
        if whole is not None:
            return whole.end()
        if first == '"' or _SCALAR_BEGUN.match(text, at):
            raise _More
        raise _Junk


def _as_object(value: str) -> str:
    """Return arguments that a model gave as null, or as a text that holds an object."""
    if value == "null":
        return "{}"
    if value.startswith('"'):
        text = json.loads(value)
        return text if text.lstrip().startswith("{") else value
    return value
