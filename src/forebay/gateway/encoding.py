"""Events -> bytes, in either dialect.

A chunk of a stream is constant bytes around the JSON-encoded delta: the constants are made
once per request, so that a chunk builds no object and encodes nothing but its own text.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from forebay.core.request import Begun, Delta, FinishReason, Route, TokenLogprob, Usage
from forebay.core.value import value
from forebay.gateway.answers import (
    AssistantMessage,
    ChatChoice,
    ChatCompletion,
    ChatLogprobs,
    TextChoice,
    TextCompletion,
    TextLogprobs,
    UsageBody,
)
from forebay.gateway.problems import DONE

USAGE_SHAPE: Final = "usage"
"""The shape of a stream that ends with its token counts."""

_encode: Final = msgspec.json.Encoder().encode

_CHAT_TAIL: Final = b'},"logprobs":null,"finish_reason":null}]'
_TEXT_TAIL: Final = b',"logprobs":null,"finish_reason":null}]'


@value
class Label:
    """What an answer says of itself beside its text."""

    id: str
    created: int
    """Unix seconds."""
    model: str
    fingerprint: str
    choices: int = 1
    usage: bool = False
    """End a stream with the token counts."""

    @staticmethod
    def of(answer: Begun) -> "Label":
        """Return what an answer says of itself, from how it was begun."""
        return Label(
            id=answer.completion_id,
            created=answer.created,
            model=answer.model,
            fingerprint=answer.imprint,
            choices=answer.choices,
            usage=answer.shape == USAGE_SHAPE,
        )


@dataclass(slots=True)
class Gathered:
    """One choice of a whole answer, as it comes together."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason = FinishReason.STOP

    def add(self, delta: Delta) -> None:
        """Take a piece in."""
        self.texts.append(delta.text)
        self.logprobs.extend(delta.logprobs)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason


class Frames(Protocol):
    """Writes one answer as a stream of events."""

    def opening(self) -> bytes:
        """Return what a stream begins with."""

    def chunk(self, delta: Delta) -> bytes:
        """Return a piece of a stream; empty if it says nothing."""

    def closing(self, usage: Usage) -> bytes:
        """Return what a stream ends with."""


class Encoder(Protocol):
    """Writes one answer, whole or as a stream."""

    def named(self, answer: Begun) -> "Encoder":
        """Return what writes an answer that another request began, perhaps elsewhere."""

    def whole(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Return the whole answer."""

    def frames(self) -> Frames:
        """Return what writes it as a stream."""


@dataclass(frozen=True, slots=True)
class ChatEncoder:
    """Writes an answer of `/v1/chat/completions`."""

    label: Label

    def named(self, answer: Begun) -> Encoder:
        """Return what writes an answer that another request began."""
        return encoder_of(answer)

    def whole(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Return the whole answer."""
        answer = ChatCompletion(
            id=self.label.id,
            created=self.label.created,
            model=self.label.model,
            system_fingerprint=self.label.fingerprint,
            choices=[
                ChatChoice(
                    index=index,
                    message=AssistantMessage(content="".join(choice.texts)),
                    logprobs=ChatLogprobs.of(choice.logprobs) if choice.logprobs else None,
                    finish_reason=choice.finish_reason.value,
                )
                for index, choice in enumerate(choices)
            ],
            usage=UsageBody.of(usage),
        )
        return _encode(answer)

    def frames(self) -> "ChatFrames":
        """Return what writes it as a stream."""
        return ChatFrames(self.label)


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """Writes an answer of `/v1/completions`."""

    label: Label

    def named(self, answer: Begun) -> Encoder:
        """Return what writes an answer that another request began."""
        return encoder_of(answer)

    def whole(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Return the whole answer."""
        answer = TextCompletion(
            id=self.label.id,
            created=self.label.created,
            model=self.label.model,
            system_fingerprint=self.label.fingerprint,
            choices=[
                TextChoice(
                    index=index,
                    text="".join(choice.texts),
                    logprobs=TextLogprobs.of(choice.logprobs, 0) if choice.logprobs else None,
                    finish_reason=choice.finish_reason.value,
                )
                for index, choice in enumerate(choices)
            ],
            usage=UsageBody.of(usage),
        )
        return _encode(answer)

    def frames(self) -> "TextFrames":
        """Return what writes it as a stream."""
        return TextFrames(self.label)


def encoder_of(answer: Begun) -> Encoder:
    """Return what writes an answer in the dialect that its first request spoke."""
    label = Label.of(answer)
    return TextEncoder(label) if answer.route is Route.COMPLETIONS else ChatEncoder(label)


class _Constants:
    """The constant bytes of one answer's events."""

    def __init__(self, label: Label, *, kind: bytes, text: bytes, tail: bytes) -> None:
        self._label = label
        self._head = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,' % (
            _encode(label.id),
            kind,
            label.created,
            _encode(label.model),
        )
        self._head += b'"system_fingerprint":%b,"choices":' % _encode(label.fingerprint)
        # OpenAI's streams say `usage: null` in every chunk before the one that has it.
        self._end = b',"usage":null}\n\n' if label.usage else b"}\n\n"
        self._before = [
            b'%b[{"index":%d,%b' % (self._head, index, text) for index in range(label.choices)
        ]
        self._after = tail + self._end

    def closing(self, usage: Usage) -> bytes:
        """Return the event with the token counts, if they were asked for, and the end's mark."""
        if not self._label.usage:
            return DONE
        return b'%b[],"usage":%b}\n\n%b' % (self._head, _encode(UsageBody.of(usage)), DONE)


class ChatFrames(_Constants):
    """Writes a streamed answer of `/v1/chat/completions`."""

    def __init__(self, label: Label) -> None:
        """Write the answer that `label` names."""
        super().__init__(
            label, kind=b"chat.completion.chunk", text=b'"delta":{"content":', tail=_CHAT_TAIL
        )

    def opening(self) -> bytes:
        """Return an event per choice that says who speaks."""
        speaker = b'"delta":{"role":"assistant","content":"","refusal":null'
        return b"".join(
            b'%b[{"index":%d,%b%b' % (self._head, index, speaker, self._after)
            for index in range(self._label.choices)
        )

    def chunk(self, delta: Delta) -> bytes:
        """Return the event of a delta and, with its last, the event of the finish reason."""
        chunk = b""
        if delta.logprobs:
            odds = _encode(ChatLogprobs.of(delta.logprobs))
            tail = b'},"logprobs":%b,"finish_reason":null}]%b' % (odds, self._end)
            chunk = self._before[delta.choice] + _encode(delta.text) + tail
        elif delta.text:
            chunk = self._before[delta.choice] + _encode(delta.text) + self._after
        if delta.finish_reason is not None:
            chunk += b'%b[{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%b"}]%b' % (
                self._head,
                delta.choice,
                delta.finish_reason.encode(),
                self._end,
            )
        return chunk


class TextFrames(_Constants):
    """Writes a streamed answer of `/v1/completions`."""

    def __init__(self, label: Label) -> None:
        """Write the answer that `label` names."""
        super().__init__(label, kind=b"text_completion", text=b'"text":', tail=_TEXT_TAIL)
        self._written = [0] * label.choices
        """Characters of each choice's tokens so far, for their offsets."""

    def opening(self) -> bytes:
        """Return nothing: this dialect begins with its first text."""
        return b""

    def chunk(self, delta: Delta) -> bytes:
        """Return the event of a delta and, with its last, the event of the finish reason."""
        chunk = b""
        if delta.logprobs:
            odds = TextLogprobs.of(delta.logprobs, self._written[delta.choice])
            self._written[delta.choice] += sum(len(t.text) for t in delta.logprobs)
            tail = b',"logprobs":%b,"finish_reason":null}]%b' % (_encode(odds), self._end)
            chunk = self._before[delta.choice] + _encode(delta.text) + tail
        elif delta.text:
            chunk = self._before[delta.choice] + _encode(delta.text) + self._after
        if delta.finish_reason is not None:
            chunk += b'%b"","logprobs":null,"finish_reason":"%b"}]%b' % (
                self._before[delta.choice],
                delta.finish_reason.encode(),
                self._end,
            )
        return chunk
