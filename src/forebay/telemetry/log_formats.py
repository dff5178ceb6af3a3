"""How a line of the log looks: a JSON object for machines, or a short one for people."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec

from forebay.telemetry.log_line import EVENTS, REQUESTS, Line, event_fields
from forebay.telemetry.process_use import Use

Head = dict[str, str]
"""What every line begins with: `@timestamp`, `log.level` and `message`."""


class Format(Protocol):
    """From what happened to a line that ends with a newline."""

    def request(self, line: Line) -> bytes:
        """Return a request's line."""

    def event(self, head: Head, fields: Mapping[str, Any]) -> bytes:
        """Return the line of a change of state."""

    def used(self, use: Use | None) -> None:
        """Take note of what the processes use from now on."""


class Json:
    """One JSON object a line, by the names of the Elastic Common Schema."""

    def __init__(self, constant: Mapping[str, str]) -> None:
        """Take what every line says."""
        self._constant = constant
        self._encode = msgspec.json.Encoder().encode
        self._tail = b""
        self.used(None)

    def request(self, line: Line) -> bytes:
        """Return a request's line: its own facts, and then those that all have in common.

        They are encoded once a second and not per line: that is 1 us of 8.
        """
        return self._encode(line)[:-1] + self._tail

    def event(self, head: Head, fields: Mapping[str, Any]) -> bytes:
        """Return the line of a change of state."""
        tail = {**self._constant, "event.dataset": EVENTS}
        return self._encode(head | event_fields(fields) | tail) + b"\n"

    def used(self, use: Use | None) -> None:
        """Take note of what the processes use from now on."""
        tail: dict[str, Any] = {}
        if use is not None:
            tail |= {"cpu_usage_percent": use.cpu_percent, "memory_mb": use.memory_mb}
        tail |= {**self._constant, "event.dataset": REQUESTS}
        self._tail = b"," + self._encode(tail)[1:] + b"\n"


_SHOWN: Final[Mapping[str, str]] = {
    "route": "route",
    "model": "model",
    "status": "status",
    "error_type": "outcome",
    "latency_ms": "latency_ms",
    "queue_ms": "queue_ms",
    "ttft_ms": "ttft_ms",
    "input_tokens": "prompt_tokens",
    "tokens_generated": "tokens",
    "source": "source",
    "tenant": "tenant",
    "user": "user",
    "request_id": "request_id",
    "error": "error",
}
"""What a person sees of a request's line, and what it is called there."""


class Text:
    """One short line: the time of day, the level if it matters, the event, what is known."""

    def request(self, line: Line) -> bytes:
        """Return a request's line."""
        found = {shown: getattr(line, name) for name, shown in _SHOWN.items()}
        return self.event(head_of(line.timestamp, line.level, line.message), found)

    def event(self, head: Head, fields: Mapping[str, Any]) -> bytes:
        """Return the line of a change of state."""
        clock, level = head["@timestamp"][11:-1], head["log.level"]
        loud = "" if level == "info" else f" {level.upper()}"
        rest = "".join(f" {k}={_quoted(v)}" for k, v in fields.items() if v is not None)
        return f"{clock}{loud} {head['message']}{rest}\n".encode()

    def used(self, use: Use | None) -> None:
        """Leave it out: a person has other means to see that."""


def head_of(timestamp: str, level: str, message: str) -> Head:
    """Return what a line begins with."""
    return {"@timestamp": timestamp, "log.level": level, "message": message}


def _quoted(value: Any) -> str:  # noqa: ANN401 - a field's value
    text = str(value)
    return f'"{text.replace(chr(34), chr(39))}"' if " " in text else text
