"""The log: one line per request and one per change of state.  It never blocks.

Lines are JSON objects with the Elastic Common Schema's core names, or one-liners for a
terminal.  No prompt, completion or secret is in them.  What a client sent (an id, a model's
name) is bounded, and its unprintable characters are escaped, so that it can neither start a
line of its own nor steer a terminal.
"""

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import msgspec

from forebay.core.errors import OUTCOMES, Blame, Outcome
from forebay.core.knob import knob
from forebay.core.record import RequestRecord
from forebay.telemetry.sink import LineSink

FIELD_CHARS_MAX: Final = 8_192
"""Longest text in one field; a stack trace is the longest that is useful."""

STOP_S_MAX: Final = 2.0
"""How long the end of the program waits for the reader of the log."""

_RECORDS_MAX: Final = 32
"""Records whose lines are written in one go.  One line by itself costs 18 us of a request's 180,
one of many 8: the processor has forgotten this code in between."""

_RECORDS_S: Final = 0.05
"""How long a record may wait for others."""

LogLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is logged, how, and to where."""

    format: str = knob(
        "auto",
        "How lines look: json for machines, text for people; auto is text on a terminal.",
        choices=("auto", "json", "text"),
    )
    destination: str = knob("stdout", "Where lines go: stdout, stderr, or a file to append to.")
    requests: bool = knob(default=True, help="Write a line for each request.", live=True)
    lines_max: int = knob(
        10_000,
        "Most lines held for a slow reader; more are dropped and counted.",
        minimum=100,
        maximum=1_000_000,
    )


class RequestLog:
    """A hook that writes a line per record; its `event` is the EventLog of everybody else."""

    def __init__(
        self, config: LogConfig, *, wall: Callable[[], float] = time.time, service: str = "forebay"
    ) -> None:
        """Open the destination; `wall` is Unix seconds.  Raises OSError."""
        self._requests = config.requests
        self._sink = LineSink(config.destination, config.lines_max)
        self._wall = wall
        self._stamp = _Stamp()
        self._service = service
        human = config.format == "text" or (config.format == "auto" and self._sink.terminal)
        self._encode = _text if human else _json
        self._handler = _Handler(self)
        # The mutable state beside the sink's: records without a line yet, each with the moment
        # of its end, and the loop whose timer will see to them.
        self._records: deque[tuple[RequestRecord, float]] = deque()
        self._timed_by: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        """Bring what libraries warn of into this log too."""
        logging.getLogger().addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self._handler)
        self.stop()

    def reconfigure(self, config: LogConfig) -> None:
        """Write requests' lines, or no longer."""
        self._requests = config.requests

    @property
    def dropped(self) -> int:
        """Lines lost since the start."""
        return self._sink.dropped

    def __call__(self, record: RequestRecord) -> None:
        """Write a request's line, soon: with those of others, and before any event."""
        if not self._requests:
            return
        self._records.append((record, self._wall()))
        if len(self._records) >= _RECORDS_MAX:
            self._write()
        else:
            self._write_later()

    def event(self, event: str, /, **fields: str | float | bool | None) -> None:
        """Write a change of state; a field named `level` is the line's level."""
        level = str(fields.pop("level", "info"))
        cleaned = {
            name: _clean(value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        self._put(event, level, cleaned)

    def stop(self) -> None:
        """Write what is left, and say how many lines were lost."""
        self._write()
        if self.dropped:
            self.event("log.lines_dropped", level="warning", lines=self.dropped)
        self._sink.stop(STOP_S_MAX)

    def _write_later(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # nobody serves: a test, or the end of the program
            self._write()
            return
        if self._timed_by is not loop:  # the timer of a loop that has ended never comes
            loop.call_later(_RECORDS_S, self._write)
            self._timed_by = loop

    def _write(self) -> None:
        self._timed_by = None
        records, encode, put = self._records, self._encode, self._sink.put
        while records:
            try:
                record, ended = records.popleft()
            except IndexError:  # a library's warning in another thread writes them too
                return
            put(encode(_line(record, self._stamp(ended), self._service)))

    def _put(self, message: str, level: str, fields: dict[str, Any]) -> None:
        self._write()
        head = {"@timestamp": self._stamp(self._wall()), "log.level": level, "message": message}
        head["service.name"] = self._service
        self._sink.put(self._encode(head | fields))


class _Stamp:
    """ISO 8601 in UTC with milliseconds; the seconds are formatted once each."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, now: float) -> str:
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((now - second) * 1000):03d}Z"


class _Handler(logging.Handler):
    """The standard library's records as events."""

    def __init__(self, log: RequestLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a library's record; it is the library's own words."""
        trace = record.exc_info and "".join(traceback.format_exception(*record.exc_info))
        self._log.event(
            "library.logged",
            level="error" if record.levelno >= logging.ERROR else "warning",
            logger=record.name,
            text=record.getMessage(),
            stack_trace=trace or None,
        )


def _level(outcome: Outcome) -> LogLevel:
    ending = OUTCOMES[outcome]
    if ending.blame is not Blame.US:
        return "info"
    return "warning" if ending.status == 503 else "error"  # noqa: PLR2004 - Unavailable


_LEVELS: Final = {outcome: _level(outcome) for outcome in Outcome}


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request's line; what is None is left out.  To fill and encode it is cheaper than a dict."""

    timestamp: str = msgspec.field(name="@timestamp")
    level: str = msgspec.field(name="log.level")
    message: str
    service: str = msgspec.field(name="service.name")
    request_id: str
    route: str
    model: str
    outcome: str
    status: int
    latency_ms: float
    stream: bool | None = None
    tenant: str | None = None
    user: str | None = None
    key_id: str | None = None
    source: str | None = None
    queue_ms: float | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    overhead_ms: float | None = None
    prompt_tokens: int | None = None
    tokens_generated: int | None = None
    throughput_tokens_per_sec: float | None = None
    error: str | None = None


def _line(record: RequestRecord, timestamp: str, service: str) -> _Line:
    request, usage = record.request, record.usage
    latency_ms = _ms(record.e2e_s)
    line = _Line(
        timestamp=timestamp,
        level=_LEVELS[record.outcome],
        message="request",
        service=service,
        request_id=_clean(record.id),
        route=record.route,
        model=_clean(record.model),
        outcome=record.outcome,
        status=record.status,
        latency_ms=latency_ms,
        queue_ms=_measured_ms(record.queue_s),
        ttft_ms=_measured_ms(record.ttft_s),
        tpot_ms=_measured_ms(record.tpot_s),
        overhead_ms=_measured_ms(record.overhead_s),
        error=None if record.error is None else _clean(record.error),
    )
    if request is not None:
        line.stream = request.stream
        line.tenant = _clean(request.tenant)
        line.source = record.timeline.source
    if record.caller.user:
        line.user = _clean(record.caller.user)
        line.key_id = _clean(record.caller.key_id) or None
    if usage is not None:
        line.prompt_tokens = usage.prompt_tokens
        line.tokens_generated = usage.completion_tokens
        if latency_ms:
            line.throughput_tokens_per_sec = round(usage.completion_tokens * 1000 / latency_ms, 1)
    return line


def _ms(value_s: float) -> float:
    return round(value_s * 1000, 3)


def _measured_ms(value_s: float | None) -> float | None:
    return None if value_s is None else _ms(value_s)


def _clean(text: str) -> str:
    """Bound a text and escape what could break a line or steer a terminal.

    Lone surrogates count as unprintable too, so that encoding cannot fail.
    """
    if len(text) > FIELD_CHARS_MAX:
        text = text[:FIELD_CHARS_MAX] + "…"
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


_json_lines: Final = msgspec.json.Encoder()


def _json(fields: dict[str, Any] | _Line) -> bytes:
    return _json_lines.encode(fields) + b"\n"


_SHOWN_FIRST: Final = ("@timestamp", "log.level", "message", "service.name")


def _text(line: dict[str, Any] | _Line) -> bytes:
    fields: dict[str, Any] = msgspec.to_builtins(line)
    clock = fields["@timestamp"][11:-1]
    level = "" if fields["log.level"] == "info" else f" {fields['log.level'].upper()}"
    rest = " ".join(
        f"{name}={_quoted(value)}"
        for name, value in fields.items()
        if name not in _SHOWN_FIRST and value is not None
    )
    return f"{clock}{level} {fields['message']} {rest}\n".encode()


def _quoted(value: Any) -> str:  # noqa: ANN401 - a field's value
    text = str(value)
    return f'"{text.replace(chr(34), chr(39))}"' if " " in text else text
