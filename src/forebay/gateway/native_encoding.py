"""Events -> bytes, in the shapes of `/generate` and its kin, with what was measured of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from forebay.core.clock import Clock
from forebay.core.errors import Outcome, ServingError
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import Begun, Delta, Events, Request, Route, Usage
from forebay.gateway.closing import Reading
from forebay.gateway.encoding import Encoder, Gathered, Label, encoder_of
from forebay.gateway.native_answers import (
    Generated,
    InferMetadata,
    Inferred,
    Metrics,
    StreamFailure,
    TokenEvent,
)
from forebay.gateway.problems import problem

_encode: Final = msgspec.json.Encoder().encode

NATIVE_ROUTES: Final = frozenset(
    {Route.GENERATE, Route.GENERATE_STREAM, Route.GENERATE_BATCH, Route.INFER}
)

OWN_VERSION: Final = "default"
"""What the version is called that is a model's own weights, without an adapter."""


class Stopwatch:
    """When one answer's tokens came.  Mutable state: the timeline, filled by its events."""

    __slots__ = ("_now", "request", "timeline")

    def __init__(self, request: Request, now: Clock) -> None:
        """Measure on the clock that stamped the request's receipt."""
        self.request = request
        self.timeline = Timeline(received=request.received)
        self._now = now

    async def timing(self, events: Events) -> Events:
        """Pass events on, and note when."""
        async with Reading(events):
            async for event in events:
                self.timeline.saw(event, self._now())
                yield event

    def record(self, usage: Usage) -> RequestRecord:
        """Return the facts as they stand: the measures' definitions are the record's."""
        self.timeline.ended = self._now()
        return RequestRecord(
            id=self.request.id,
            route=self.request.route,
            model=self.request.model,
            outcome=Outcome.OK,
            status=200,
            timeline=self.timeline,
            request=self.request,
            usage=usage,
        )

    def metrics(self, tokens: int, *, prompt_tokens: int | None = None) -> Metrics:
        """Return what was measured; without `prompt_tokens`, so far."""
        record = self.record(Usage(prompt_tokens or 0, tokens))
        return Metrics(
            ttft=_rounded(record.ttft_s),
            tpot=_rounded(record.tpot_s),
            total_time=round(record.e2e_s, 6),
            tokens_generated=tokens,
            tokens_per_second=per_second(tokens, record.e2e_s),
            prompt_tokens=prompt_tokens,
        )

    def engine_s(self) -> float:
        """Return the seconds that the engine took; 0 where it made nothing for this request."""
        timeline, engine = self.timeline, self.timeline.engine
        if engine is not None and engine.first_token_s is not None:
            return engine.first_token_s + (engine.decode_s or 0.0)
        if timeline.admitted is None or timeline.last_token is None:
            return 0.0
        return timeline.last_token - timeline.admitted


class NativeFrames:
    """Writes a streamed answer of `/generate_stream`: an event per token."""

    def __init__(self, stopwatch: Stopwatch) -> None:
        """Tell what `stopwatch` measures."""
        self._stopwatch = stopwatch
        # The whole mutable state: the text and tokens so far; text that waits for the last event,
        # which is sent once the counts are known.
        self._text = ""
        self._tokens = 0
        self._last = ""

    def opening(self) -> bytes:
        """Return nothing: a stream begins with its first token."""
        return b""

    def chunk(self, delta: Delta) -> bytes:
        """Return the event of a delta; empty if it has no text, or is the last."""
        self._tokens += delta.tokens
        if delta.finish_reason is not None:
            self._last += delta.text
            return b""
        if not delta.text:
            return b""
        return self._event(delta.text, self._stopwatch.metrics(self._tokens))

    def closing(self, usage: Usage) -> bytes:
        """Return the last event."""
        metrics = self._stopwatch.metrics(
            usage.completion_tokens, prompt_tokens=usage.prompt_tokens
        )
        return self._event(self._last, metrics, finished=True)

    def _event(self, token: str, metrics: Metrics, *, finished: bool = False) -> bytes:
        self._text += token
        event = TokenEvent(token=token, text=self._text, finished=finished, metrics=metrics)
        return b"data: %b\n\n" % _encode(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, and what was measured of it."""

    label: Label
    gathered: Gathered
    usage: Usage
    stopwatch: Stopwatch

    @property
    def text(self) -> str:
        """What the model wrote."""
        return "".join(self.gathered.texts)

    @property
    def metrics(self) -> Metrics:
        """What was measured."""
        usage = self.usage
        return self.stopwatch.metrics(usage.completion_tokens, prompt_tokens=usage.prompt_tokens)


@dataclass(frozen=True, slots=True)
class NativeEncoder:
    """Writes an answer of `/generate` or one of its kin."""

    label: Label
    stopwatch: Stopwatch
    write: Callable[[Answer], bytes]
    """Writes a whole answer."""

    def whole(self, choices: list[Gathered], usage: Usage) -> bytes:
        """Return the whole answer."""
        answer = Answer(
            label=self.label, gathered=choices[0], usage=usage, stopwatch=self.stopwatch
        )
        return self.write(answer)

    def frames(self) -> NativeFrames:
        """Return what writes it as a stream."""
        return NativeFrames(self.stopwatch)

    def named(self, answer: Begun) -> Encoder:
        """Return what writes an answer that another request began, in its dialect."""
        if answer.route not in NATIVE_ROUTES:
            return encoder_of(answer)
        return NativeEncoder(Label.of(answer), self.stopwatch, self.write)


def generated(answer: Answer) -> bytes:
    """Write the answer of `/generate` to one prompt."""
    body = Generated(
        id=answer.label.id,
        model=answer.label.model,
        text=answer.text,
        finish_reason=answer.gathered.finish_reason.value,
        metrics=answer.metrics,
    )
    return _encode(body)


def inferred(answer: Answer) -> bytes:
    """Write the answer of `/infer`."""
    model, _, version = answer.label.model.partition(":")
    metadata = InferMetadata(
        model=model,
        version=version or OWN_VERSION,
        tokens_generated=answer.usage.completion_tokens,
        response_time=round(answer.stopwatch.record(answer.usage).e2e_s, 6),
        generation_time=round(answer.stopwatch.engine_s(), 6),
    )
    return _encode(Inferred(result=answer.text, metadata=metadata))


def failure(error: ServingError, request_id: str) -> bytes:
    """Write an error as the last event of a stream that has begun."""
    return b"data: %b\n\n" % _encode(StreamFailure(error=problem(error, request_id)))


def per_second(tokens: int, seconds: float) -> float | None:
    """Return a rate; None where nothing was made."""
    return round(tokens / seconds, 3) if tokens and seconds > 0 else None


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
