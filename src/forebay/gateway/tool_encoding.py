"""Events -> bytes of `/v1/chat/completions` where the model may call tools."""

import hashlib
from dataclasses import dataclass, replace
from typing import Final, assert_never

import msgspec

from forebay.core.request import Begun, Delta, FinishReason, Usage
from forebay.gateway.answers import (
    AssistantMessage,
    CalledBody,
    CalledDelta,
    ChatChoice,
    ChatCompletion,
    Finish,
    ToolCallBody,
    ToolCallDelta,
    UsageBody,
)
from forebay.gateway.encoding import ChatFrames, Encoder, Gathered, Label
from forebay.gateway.tool_text import Argued, Called, Part, Said, ToolText
from forebay.gateway.tools import Toolbox

_SHAPE: Final = "tools "
_encode: Final = msgspec.json.Encoder().encode


class Calling(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How calls are looked for in an answer; it travels in the answer's shape."""

    names: frozenset[str]
    forced: bool = False
    single: bool = False
    usage: bool = False
    """End a stream with the token counts."""

    def reader(self) -> ToolText:
        """Return what reads one choice."""
        return ToolText(self.names, forced=self.forced, single=self.single)

    def shape(self) -> str:
        """Return the shape that says so; equal ones are equal texts."""
        return _SHAPE + msgspec.json.encode(self, order="deterministic").decode()

    @staticmethod
    def of_toolbox(toolbox: Toolbox, *, usage: bool) -> "Calling":
        """Return how calls of these tools are looked for."""
        return Calling(
            names=frozenset(tool.name for tool in toolbox.tools),
            forced=toolbox.forced,
            single=toolbox.single,
            usage=usage,
        )

    @staticmethod
    def of(shape: str) -> "Calling | None":
        """Return what a shape says; None if it says nothing of tools."""
        if not shape.startswith(_SHAPE):
            return None
        return msgspec.json.decode(shape.removeprefix(_SHAPE), type=Calling)


def call_id(completion_id: str, choice: int, index: int) -> str:
    """Return a call's id: the same for the same answer, however often it is read."""
    text = f"{completion_id} {choice} {index}"
    return "call_" + hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A whole answer, parted."""

    text: str
    calls: tuple[CalledBody, ...]
    finish: Finish


def whole_turn(gathered: Gathered, calling: Calling) -> Turn:
    """Part a whole answer into its text and its calls."""
    reader = calling.reader()
    parts = reader.push("".join(gathered.texts)) + reader.close(gathered.finish_reason)
    names = [part.name for part in parts if isinstance(part, Called)]
    arguments = [""] * len(names)
    for part in parts:
        if isinstance(part, Argued):
            arguments[part.index] += part.text
    return Turn(
        text="".join([part.text for part in parts if isinstance(part, Said)]),
        calls=tuple(
            CalledBody(name=name, arguments=text)
            for name, text in zip(names, arguments, strict=True)
        ),
        finish=reader.finish(gathered.finish_reason),
    )


@dataclass(frozen=True, slots=True)
class ToolChatEncoder:
    """Writes an answer of `/v1/chat/completions` that may hold calls."""

    label: Label
    calling: Calling

    def named(self, answer: Begun) -> Encoder:
        """Return what writes an answer that another request began."""
        # Another's answer is to an equal wish: of one shape, or found by the wish alone.
        return ToolChatEncoder(Label.of(answer), self.calling)

    def whole(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Return the whole answer."""
        answer = ChatCompletion(
            id=self.label.id,
            created=self.label.created,
            model=self.label.model,
            system_fingerprint=self.label.fingerprint,
            choices=[self._choice(index, gathered) for index, gathered in enumerate(choices)],
            usage=UsageBody.of(usage),
        )
        return _encode(answer)

    def frames(self) -> "ToolFrames":
        """Return what writes it as a stream."""
        return ToolFrames(replace(self.label, usage=self.calling.usage), self.calling)

    def _choice(self, index: int, gathered: Gathered) -> ChatChoice:
        turn = whole_turn(gathered, self.calling)
        calls = [
            ToolCallBody(id=call_id(self.label.id, index, number), function=call)
            for number, call in enumerate(turn.calls)
        ]
        message = AssistantMessage(content=turn.text)
        if calls:
            message = AssistantMessage(content=turn.text or None, tool_calls=calls)
        return ChatChoice(index=index, message=message, finish_reason=turn.finish)


class ToolFrames(ChatFrames):
    """Writes a streamed answer of `/v1/chat/completions` that may hold calls."""

    def __init__(self, label: Label, calling: Calling) -> None:
        """Write the answer that `label` names."""
        super().__init__(label)
        # The whole mutable state: how far each choice is read.
        self._readers = [calling.reader() for _ in range(label.choices)]

    def chunk(self, delta: Delta) -> bytes:
        """Return the events of a delta and, with its last, the event of the finish reason."""
        reader, reason = self._readers[delta.choice], delta.finish_reason
        parts = reader.push(delta.text)
        if reason is not None:
            parts += reader.close(reason)
        chunk = b"".join([self._part(part, delta.choice) for part in parts])
        return chunk if reason is None else chunk + self._finish(delta.choice, reader, reason)

    def _part(self, part: Part, choice: int) -> bytes:
        match part:
            case Said(text=text):
                return super().chunk(Delta(text, choice=choice))
            case Called(index=index, name=name):
                return self._call(
                    choice,
                    ToolCallDelta(
                        index=index,
                        id=call_id(self._label.id, choice, index),
                        type="function",
                        function=CalledDelta(name=name, arguments=""),
                    ),
                )
            case Argued(index=index, text=text):
                function = CalledDelta(arguments=text)
                return self._call(choice, ToolCallDelta(index=index, function=function))
            case _:
                assert_never(part)

    def _call(self, choice: int, call: ToolCallDelta) -> bytes:
        return b'%b[{"index":%d,"delta":{"tool_calls":[%b]%b' % (
            self._head,
            choice,
            _encode(call),
            self._after,
        )

    def _finish(self, choice: int, reader: ToolText, reason: FinishReason) -> bytes:
        return b'%b[{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}]%b' % (
            self._head,
            choice,
            reader.finish(reason).encode(),
            self._end,
        )
