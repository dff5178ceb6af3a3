"""What a span says of an exchange and of a request: facts, and no text that a client wrote.

The exception is asked for by the operator: `traces.content`.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from forebay.core.errors import OUTCOMES, Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import Chat, Prompt, Request, Route, Sampling, Text
from forebay.core.visit import Visit
from forebay.telemetry import conventions as names

Attribute = str | bool | int | float | Sequence[str] | Sequence[int]
Attributes = dict[str, Attribute]

_COMPLETION: Final = "text_completion"
_TEXT_MAX: Final = 256
"""Characters of a text that a client chose: an id, the name of a model, a path."""

_OPERATIONS: Final[dict[str, str]] = {
    Route.CHAT_COMPLETIONS: "chat",
    Route.RESPONSES: "chat",
    Route.COMPLETIONS: _COMPLETION,
    Route.EMBEDDINGS: "embeddings",
}
_PATHS: Final = {
    Route.CHAT_COMPLETIONS: "/v1/chat/completions",
    Route.COMPLETIONS: "/v1/completions",
    Route.RESPONSES: "/v1/responses",
    Route.EMBEDDINGS: "/v1/embeddings",
    Route.STREAMS: "/v1/streams/{id}",
}
_NANOS: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What spans tell beyond the request's facts."""

    address: str = ""
    """Where this server listens; empty: not told."""
    port: int = 0
    secure: bool = False
    older_names: bool = True
    tenants: bool = False
    """Tell tenants apart, by a hash."""
    content_characters: int = 0
    """Most characters of prompts, and of answers; 0: none of either."""


def asked_for(record: RequestRecord) -> str:
    """Return what OpenTelemetry calls what was asked."""
    found = _OPERATIONS.get(record.route)
    if found is None:
        is_chat = record.request is not None and isinstance(record.request.prompt, Chat)
        found = "chat" if is_chat else _COMPLETION
    return found


def operation_of(route: str) -> str:
    """Return the same of an endpoint, where the single request is not known."""
    return _OPERATIONS.get(route, _COMPLETION)


def of_exchange(visit: Visit, told: Told) -> Attributes:
    """Return what is known of an exchange."""
    found: Attributes = {
        names.HTTP_METHOD: visit.method,
        names.URL_PATH: _short(visit.path),
        names.URL_SCHEME: "https" if told.secure else "http",
        names.ENDPOINT: visit.route,
        names.HTTP_ROUTE: _PATHS.get(Route(visit.route), f"/{visit.route}")
        if visit.route
        else _short(visit.path),
        names.HTTP_REQUEST_BYTES: visit.body_bytes,
        names.HTTP_RESPONSE_BYTES: visit.answer_bytes,
        names.REQUEST_ID: visit.id,
        names.LOOP_WAIT_S: visit.wait_s,
    }
    if visit.status:
        found[names.HTTP_STATUS] = visit.status
    if told.address:
        found[names.SERVER_ADDRESS] = told.address
    if told.port:
        found[names.SERVER_PORT] = told.port
    return found


def of_request(record: RequestRecord, told: Told) -> Attributes:
    """Return what is known of a request."""
    found: Attributes = {
        names.OPERATION: asked_for(record),
        names.PROVIDED_BY: names.UPSTREAM_NAME,
        names.OUTCOME: record.outcome.value,
        names.REQUEST_ID: _short(record.id),
    }
    if told.older_names:
        found[names.SYSTEM] = names.UPSTREAM_NAME
    if record.model:
        found[names.REQUEST_MODEL] = _short(record.via or record.model)
    if record.via:
        found[names.VIA] = record.via
    if record.outcome is not Outcome.OK:
        found[names.ERROR_TYPE] = OUTCOMES[record.outcome].code
    if record.request is not None:
        found |= _asked(record.request, told)
    found.update(_answered(record))
    if told.content_characters:
        found.update(_content(record, told.content_characters))
    return found


def _short(text: str) -> str:
    """Bound a text, and leave nothing in it that UTF-8 cannot say: its span would be lost."""
    return text[:_TEXT_MAX].encode("utf-8", "replace").decode()


def _asked(request: Request, told: Told) -> Attributes:
    found: Attributes = {
        names.STREAM: request.stream,
        names.PRIORITY: request.priority.name.lower(),
        names.OUTPUT_TYPE: "text" if request.sampling.grammar is None else "json",
    }
    if request.sampling.embed:
        del found[names.OUTPUT_TYPE]
    else:
        found |= _sampled(request.sampling)
    if told.tenants:
        found[names.TENANT_HASH] = hashlib.blake2b(
            request.tenant.encode("utf-8", "surrogatepass"), digest_size=8
        ).hexdigest()
    return found


def _sampled(sampling: Sampling) -> Attributes:
    found: Attributes = {names.TEMPERATURE: sampling.temperature, names.TOP_P: sampling.top_p}
    for name, value, off in (
        (names.TOKENS_MAX, sampling.tokens_max, None),
        (names.TOP_K, sampling.top_k, 0),
        (names.SEED, sampling.seed, None),
        (names.CHOICES, sampling.choices, 1),
        (names.PRESENCE_PENALTY, sampling.presence_penalty, 0.0),
        (names.FREQUENCY_PENALTY, sampling.frequency_penalty, 0.0),
    ):
        if value is not None and value != off:
            found[name] = value
    return found


def _answered(record: RequestRecord) -> Iterator[tuple[str, Attribute]]:
    timeline, request = record.timeline, record.request
    if record.outcome is Outcome.OK:
        yield names.RESPONSE_MODEL, _short(record.model)
    if record.usage is not None:
        yield names.INPUT_TOKENS, record.usage.prompt_tokens
        yield names.OUTPUT_TOKENS, record.usage.completion_tokens
    if timeline.finish_reasons:
        yield names.FINISH_REASONS, [reason.value for reason in timeline.finish_reasons]
    for name, value in (
        (names.QUEUE_S, record.queue_s),
        (names.TTFT_S, record.ttft_s),
        (names.TPOT_S, record.tpot_s),
        (names.OVERHEAD_S, record.overhead_s),
    ):
        if value is not None:
            yield name, value
    if request is not None:
        yield names.ANSWER_SOURCE, timeline.source.value
        if record.outcome is Outcome.OK and request.completion_id:
            yield names.RESPONSE_ID, request.completion_id
        if request.stream and timeline.first_token is not None:
            yield names.FIRST_CHUNK_S, timeline.first_token - timeline.received
    if record.visit is not None:
        yield from _handled(record.visit)


def _handled(visit: Visit) -> Iterator[tuple[str, Attribute]]:
    """Yield what was done with a request."""
    if visit.workers:
        yield names.WORKERS, list(visit.workers)
    if visit.failovers:
        yield names.RETRIES, len(visit.failovers)
        yield names.RETRY_REASONS, list(visit.failovers)
    for name, text in ((names.GUARD, visit.guard), (names.LIMIT, visit.limit)):
        if text:
            yield name, text
    if visit.cost_nanos is not None:
        yield names.COST, visit.cost_nanos / _NANOS


def _content(record: RequestRecord, characters_max: int) -> Iterator[tuple[str, Attribute]]:
    request = record.request
    if request is not None:
        if request.sampling.stop:
            yield names.STOP_SEQUENCES, [_short(text) for text in request.sampling.stop]
        messages = _bounded(_messages(request.prompt), characters_max)
        yield names.INPUT_MESSAGES, json.dumps(messages)
    said = record.timeline.said
    if said is not None and said.texts:
        reasons = record.timeline.finish_reasons
        answers = [
            _message("assistant", text)
            | ({"finish_reason": reasons[at].value} if at < len(reasons) else {})
            for at, text in enumerate(said.by_choice())
        ]
        yield names.OUTPUT_MESSAGES, json.dumps(answers)


def _messages(prompt: Prompt) -> list[tuple[str, str]]:
    if isinstance(prompt, Chat):
        return [(message.role.value, message.content) for message in prompt.messages]
    if isinstance(prompt, Text):
        return [("user", prompt.text)]
    return []


def _bounded(messages: list[tuple[str, str]], characters_max: int) -> list[dict[str, Any]]:
    """Return the newest messages of so many characters in all."""
    found: list[dict[str, Any]] = []
    for role, text in reversed(messages):
        if characters_max <= 0:
            break
        found.append(_message(role, text[:characters_max]))
        characters_max -= len(text)
    return found[::-1]


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}
