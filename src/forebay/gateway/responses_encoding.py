"""Events -> bytes of `/v1/responses`: items, one after another, whole or as semantic events."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, assert_never

import msgspec

from forebay.core.errors import ServingError
from forebay.core.request import Begun, Delta, FinishReason, Usage
from forebay.gateway.encoding import Encoder, Gathered, Label
from forebay.gateway.responses_answers import (
    Echo,
    FunctionCall,
    Incomplete,
    OutputItem,
    OutputMessage,
    OutputText,
    Response,
    ResponseUsage,
    Status,
)
from forebay.gateway.tool_encoding import Calling, call_id
from forebay.gateway.tool_text import Argued, Called, Part, Said

_SHAPE: Final = "response "
_MESSAGE_CHARACTERS_MAX: Final = 1_000
_encode: Final = msgspec.json.Encoder().encode


class Plan(msgspec.Struct, kw_only=True):
    """How an answer is written; it travels in the answer's shape."""

    echo: Echo
    calling: Calling | None = None

    def shape(self) -> str:
        """Return the shape that says so; equal ones are equal texts."""
        return _SHAPE + msgspec.json.encode(self, order="deterministic").decode()

    @staticmethod
    def of(shape: str) -> "Plan | None":
        """Return what a shape says; None if it is another dialect's."""
        if not shape.startswith(_SHAPE):
            return None
        return msgspec.json.decode(shape.removeprefix(_SHAPE), type=Plan)


@dataclass(slots=True)
class Events:
    """Numbers the events of one stream.  Mutable state: the next number."""

    next: int = 0

    def take(self) -> int:
        """Return the number of the event that comes."""
        self.next += 1
        return self.next - 1

    def failure(self, error: ServingError) -> bytes:
        """Return the event of an error, the last: for clients that read types, or `error`."""
        said = {
            "code": error.ending.code,
            "message": error.message[:_MESSAGE_CHARACTERS_MAX],
            "param": error.param,
        }
        fields = _encode(said | {"error": said | {"type": error.ending.type}})[1:-1]
        return _written(b"error", self.take(), fields)


@dataclass(frozen=True, slots=True)
class ResponsesEncoder:
    """Writes an answer of `/v1/responses`."""

    label: Label
    plan: Plan
    events: Events = field(default_factory=Events)

    def named(self, answer: Begun) -> Encoder:
        """Return what writes an answer that another request began."""
        return ResponsesEncoder(Label.of(answer), self.plan, self.events)

    def whole(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Return the whole answer."""
        (gathered,) = choices
        frames = self.frames()
        frames.take(Delta("".join(gathered.texts), finish_reason=gathered.finish_reason))
        return _encode(frames.response(usage))

    def frames(self) -> "ResponsesFrames":
        """Return what writes it as a stream."""
        return ResponsesFrames(self.label, self.plan, self.events)


@dataclass(slots=True, kw_only=True)
class _Item:
    """An item that is being made.  Mutable state: its text, or its arguments."""

    index: int
    id: str
    texts: list[str] = field(default_factory=list)
    call_id: str = ""
    name: str = ""
    """Of the function; empty: it is a message."""

    def typed(self, status: Status) -> OutputItem:
        """Return it as it is told."""
        text = "".join(self.texts)
        if self.name:
            return FunctionCall(
                id=self.id, status=status, call_id=self.call_id, name=self.name, arguments=text
            )
        begun = bool(self.texts) or status != "in_progress"
        return OutputMessage(
            id=self.id, status=status, content=[OutputText(text=text)] if begun else []
        )


class ResponsesFrames:
    """Writes a streamed answer of `/v1/responses`."""

    def __init__(self, label: Label, plan: Plan, events: Events) -> None:
        """Write the answer that `label` names."""
        self._label = label
        self._plan = plan
        self._events = events
        # The whole mutable state: what reads the model's words, the items, the last of them
        # while it is open, and why the answer ended.
        self._reader = None if plan.calling is None else plan.calling.reader()
        self._items: list[OutputItem] = []
        self._open: _Item | None = None
        self._reason = FinishReason.STOP

    def opening(self) -> bytes:
        """Return the events that tell of the answer's beginning."""
        return self._whole(b"response.created", None) + self._whole(b"response.in_progress", None)

    def chunk(self, delta: Delta) -> bytes:
        """Return the events of a delta."""
        return b"".join(self.take(delta))

    def closing(self, usage: Usage) -> bytes:
        """Return the events that tell of the answer's end."""
        cut = self._reason is FinishReason.LENGTH
        return self._whole(b"response.incomplete" if cut else b"response.completed", usage)

    def response(self, usage: Usage | None) -> Response:
        """Return the answer as it stands; without its counts, it is only begun."""
        cut = usage is not None and self._reason is FinishReason.LENGTH
        ended: Status = "incomplete" if cut else "completed"
        return Response(
            id=self._label.id,
            created_at=self._label.created,
            status="in_progress" if usage is None else ended,
            model=self._label.model,
            output=self._items,
            incomplete_details=Incomplete() if cut else None,
            usage=None if usage is None else ResponseUsage.of(usage),
            **{name: getattr(self._plan.echo, name) for name in Echo.__struct_fields__},
        )

    def take(self, delta: Delta) -> list[bytes]:
        """Take a delta in; return its events."""
        reason = delta.finish_reason
        parts: list[Part]
        if self._reader is None:
            parts = [Said(delta.text)] if delta.text else []
        else:
            parts = self._reader.push(delta.text)
            if reason is not None:
                parts += self._reader.close(reason)
        events = [event for part in parts for event in self._part(part)]
        if reason is not None:
            self._reason = reason
            if self._open is None and not self._items:
                events += self._begin_message()  # an answer without a word is a message too
            events += self._end("incomplete" if reason is FinishReason.LENGTH else "completed")
        return events

    def _part(self, part: Part) -> Iterator[bytes]:
        match part:
            case Said(text=text):
                if self._open is None or self._open.name:
                    yield from self._end("completed")
                    yield from self._begin_message()
                yield self._add(text)
            case Called(index=index, name=name):
                yield from self._end("completed")
                yield self._begin_call(index, name)
            case Argued(text=text):
                yield self._add(text)
            case _:
                assert_never(part)

    def _begin_message(self) -> Iterator[bytes]:
        item = self._open = _Item(index=len(self._items), id=self._item_id("msg_"))
        yield self._item(item, item.typed("in_progress"), b"added")
        yield self._content(item, OutputText(text=""), b"added")

    def _begin_call(self, index: int, name: str) -> bytes:
        item = self._open = _Item(
            index=len(self._items),
            id=self._item_id("fc_"),
            call_id=call_id(self._label.id, 0, index),
            name=name,
        )
        return self._item(item, item.typed("in_progress"), b"added")

    def _add(self, text: str) -> bytes:
        item = self._open
        assert item is not None, "what is added to was begun"
        item.texts.append(text)
        if item.name:
            return self._event(
                b"response.function_call_arguments.delta", item, b'"delta":%b' % _encode(text)
            )
        return self._event(
            b"response.output_text.delta",
            item,
            b'"content_index":0,"delta":%b,"logprobs":[]' % _encode(text),
        )

    def _end(self, status: Status) -> Iterator[bytes]:
        """Tell of the end of the item that is open, if one is."""
        item, self._open = self._open, None
        if item is None:
            return
        whole = item.typed(status)
        self._items.append(whole)
        match whole:
            case FunctionCall():
                fields = b'"name":%b,"arguments":%b' % (
                    _encode(item.name),
                    _encode(whole.arguments),
                )
                yield self._event(b"response.function_call_arguments.done", item, fields)
            case OutputMessage(content=[text]):
                fields = b'"content_index":0,"text":%b,"logprobs":[]' % _encode(text.text)
                yield self._event(b"response.output_text.done", item, fields)
                yield self._content(item, text, b"done")
        yield self._item(item, whole, b"done")

    def _item_id(self, prefix: str) -> str:
        text = f"{self._label.id} {len(self._items)}"
        return prefix + hashlib.sha256(text.encode()).hexdigest()[:24]

    def _item(self, item: _Item, whole: OutputItem, what: bytes) -> bytes:
        kind = b"response.output_item." + what
        fields = b'"output_index":%d,"item":%b' % (item.index, _encode(whole))
        return _written(kind, self._events.take(), fields)

    def _content(self, item: _Item, text: OutputText, what: bytes) -> bytes:
        fields = b'"content_index":0,"part":%b' % _encode(text)
        return self._event(b"response.content_part." + what, item, fields)

    def _event(self, kind: bytes, item: _Item, fields: bytes) -> bytes:
        place = b'"item_id":"%b","output_index":%d,' % (item.id.encode(), item.index)
        return _written(kind, self._events.take(), place + fields)

    def _whole(self, kind: bytes, usage: Usage | None) -> bytes:
        fields = b'"response":%b' % _encode(self.response(usage))
        return _written(kind, self._events.take(), fields)


def _written(kind: bytes, number: int, fields: bytes) -> bytes:
    return b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n' % (
        *(kind, kind),
        *(number, fields),
    )
