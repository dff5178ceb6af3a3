"""What a line of the log says, by the names of the Elastic Common Schema (ECS).

What ECS has no name for is `forebay.<name>`, so that it never meets a name of ECS; the few flat
names are those that the Logstash pipelines of others expect.
No prompt, completion or secret is here.  What a client sent (an id, a model's name, a path) is
bounded, and its unprintable characters are escaped, so that it can neither start a line of its
own nor steer a terminal.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import msgspec

from forebay import __version__
from forebay.core.errors import OUTCOMES, Blame, Outcome
from forebay.core.record import RequestRecord
from forebay.core.visit import Visit

ECS_VERSION: Final = "8.11.0"
SERVICE: Final = "forebay"
REQUESTS: Final = "forebay.request"
"""`event.dataset` of a request's line."""
EVENTS: Final = "forebay.event"
"""`event.dataset` of a change of state's line."""

FIELD_CHARS_MAX: Final = 8_192
"""Longest text in one field; a stack trace is the longest that is useful."""

PATH_CHARS_MAX: Final = 1_024
"""Longest path in a line; ours are shorter, and one that nobody serves may be 64 kB."""

OWN_PREFIX: Final = "forebay."

LogLevel = Literal["info", "warning", "error"]
EventOutcome = Literal["success", "failure", "unknown"]
Named = Callable[[str], str]
"""From a user's name to what stands for it in the log."""


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request's line; what is None is left out.  To fill and encode it is cheaper than a dict.

    What all lines have in common is not here but in `constant_part`.
    """

    timestamp: str = msgspec.field(name="@timestamp")
    level: str = msgspec.field(name="log.level")
    message: str
    route: str = msgspec.field(name="event.action")
    outcome: str = msgspec.field(name="event.outcome")
    duration_ns: int = msgspec.field(name="event.duration")
    trace_id: str | None = msgspec.field(name="trace.id", default=None)
    span_id: str | None = msgspec.field(name="span.id", default=None)
    request_id: str = msgspec.field(name="http.request.id")
    method: str | None = msgspec.field(name="http.request.method", default=None)
    body_bytes: int | None = msgspec.field(name="http.request.body.bytes", default=None)
    status: int = msgspec.field(name="http.response.status_code")
    path: str | None = msgspec.field(name="url.path", default=None)
    client: str | None = msgspec.field(name="client.ip", default=None)
    user: str | None = msgspec.field(name="user.id", default=None)
    tenant: str | None = msgspec.field(name="organization.id", default=None)
    model: str | None = msgspec.field(name="gen_ai.request.model", default=None)
    input_tokens: int | None = msgspec.field(name="gen_ai.usage.input_tokens", default=None)
    output_tokens: int | None = msgspec.field(name="gen_ai.usage.output_tokens", default=None)
    error_type: str | None = msgspec.field(name="error.type", default=None)
    error: str | None = msgspec.field(name="error.message", default=None)
    latency_ms: float
    tokens_generated: int | None = None
    throughput_tokens_per_sec: float | None = None
    key_id: str | None = msgspec.field(name="forebay.key_id", default=None)
    stream: bool | None = msgspec.field(name="forebay.stream", default=None)
    source: str | None = msgspec.field(name="forebay.source", default=None)
    queue_ms: float | None = msgspec.field(name="forebay.queue_ms", default=None)
    ttft_ms: float | None = msgspec.field(name="forebay.ttft_ms", default=None)
    tpot_ms: float | None = msgspec.field(name="forebay.tpot_ms", default=None)
    overhead_ms: float | None = msgspec.field(name="forebay.overhead_ms", default=None)


def constant_part(environment: str) -> dict[str, str]:
    """Return what every line says of the service."""
    found = {
        "ecs.version": ECS_VERSION,
        "service.name": SERVICE,
        "service.version": __version__,
        "service.environment": environment,
    }
    return {name: clean(text) for name, text in found.items() if text}


def request_line(record: RequestRecord, timestamp: str, named: Named) -> Line:
    """Return the line of a request that ended at `timestamp`."""
    level, outcome, error_type = _ENDINGS[record.outcome]
    e2e_s = record.e2e_s
    line = Line(
        timestamp=timestamp,
        level=level,
        message="request",
        route=record.route,
        outcome=outcome,
        duration_ns=int(e2e_s * 1_000_000_000),
        request_id=clean(record.id),
        status=record.status,
        model=clean(record.model) or None,
        error_type=error_type,
        error=None if record.error is None else clean(record.error),
        latency_ms=int(e2e_s * 1_000_000 + 0.5) / 1_000,
        queue_ms=_ms(record.queue_s),
        ttft_ms=_ms(record.ttft_s),
        tpot_ms=_ms(record.tpot_s),
        overhead_ms=_ms(record.overhead_s),
    )
    _add_work(line, record)
    caller = record.caller
    if caller.user:
        line.user = named(caller.user)
        line.key_id = clean(caller.key_id) or None
    if record.visit is not None:
        _add_exchange(line, record.visit)
    return line


def _add_work(line: Line, record: RequestRecord) -> None:
    request, usage = record.request, record.usage
    if request is not None:
        line.stream = request.stream
        line.tenant = clean(request.tenant)
        line.source = record.timeline.source
    if usage is not None:
        made = usage.completion_tokens
        line.input_tokens = usage.prompt_tokens
        line.output_tokens = line.tokens_generated = made
        if line.latency_ms:
            line.throughput_tokens_per_sec = int(made * 10_000 / line.latency_ms + 0.5) / 10


def _add_exchange(line: Line, visit: Visit) -> None:
    line.method = clean(visit.method)
    line.path = clean(visit.path, PATH_CHARS_MAX)
    line.client = clean(visit.client) or None
    line.body_bytes = visit.body_bytes or None
    if visit.trace is not None:
        line.trace_id = visit.trace.trace_id
        line.span_id = visit.trace.span_id or None


_EVENT_NAMES: Final[Mapping[str, str]] = {
    "request_id": "http.request.id",
    "error": "error.message",
    "trace": "error.stack_trace",
    "stack_trace": "error.stack_trace",
    "logger": "log.logger",
    "pid": "process.pid",
    "user": "user.id",
}
"""What an event calls a thing, and what ECS calls it; `forebay.` goes before all others."""


def event_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return an event's own fields by the names they have in JSON."""
    return {_EVENT_NAMES.get(name, OWN_PREFIX + name): value for name, value in fields.items()}


def _ending(outcome: Outcome) -> tuple[LogLevel, EventOutcome, str | None]:
    """Return the level, which says whose fault it was, what ECS calls it, and what we do."""
    ending = OUTCOMES[outcome]
    if outcome is Outcome.OK:
        return "info", "success", None
    what: EventOutcome = "unknown" if outcome is Outcome.CANCELLED else "failure"
    if ending.blame is not Blame.US:
        return "info", what, outcome.value
    return ("warning" if ending.status == 503 else "error"), what, outcome.value  # noqa: PLR2004 - Unavailable


_ENDINGS: Final = {outcome: _ending(outcome) for outcome in Outcome}


def _ms(value_s: float | None) -> float | None:
    """Return milliseconds to the microsecond; this way costs half of what `round` does."""
    return None if value_s is None else int(value_s * 1_000_000 + 0.5) / 1_000


def clean(text: str, characters_max: int = FIELD_CHARS_MAX) -> str:
    """Bound a text and escape what could break a line or steer a terminal.

    Lone surrogates count as unprintable too, so that encoding cannot fail.
    """
    if len(text) > characters_max:
        text = text[:characters_max] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
