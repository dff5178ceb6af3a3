"""The log: one line per request and one per change of state.  It never blocks.

What a line says is in `log_line`, how it looks in `log_formats`, and where it goes in `sink`.
"""

import asyncio
import logging
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from forebay.core.knob import knob
from forebay.core.record import RequestRecord
from forebay.telemetry.log_formats import Format, Json, Text, head_of
from forebay.telemetry.log_line import clean, constant_part, request_line
from forebay.telemetry.process_use import ProcessUse
from forebay.telemetry.pseudonym import Pseudonyms, a_salt
from forebay.telemetry.sink import LineSink

STOP_S_MAX: Final = 2.0
"""How long the end of the program waits for the reader of the log."""

_RECORDS_MAX: Final = 32
"""Records whose lines are written in one go.  One line by itself costs 18 us of a request's 180,
one of many 8: the processor has forgotten this code in between."""

_RECORDS_S: Final = 0.05
"""How long a record may wait for others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is logged, how, and to where."""

    format: str = knob(
        "auto",
        "How lines look: json for machines, text for people; auto is text on a terminal.",
        choices=("auto", "json", "text"),
    )
    destination: str = knob(
        "stdout",
        "Where lines go: stdout, stderr, a file to append to, or tcp://host:port, which is sent"
        " JSON lines (Logstash, rsyslog).",
    )
    environment: str = knob(
        "", "What lines say in service.environment, such as production; empty: nothing."
    )
    salt_file: str = knob(
        "",
        "File of the salt that hides users' names; made if absent. Servers with the same one"
        " write the same user.id. Empty: log-salt in this server's own folder.",
    )
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
        self,
        config: LogConfig,
        *,
        salt: bytes | None = None,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open the destination; `wall` is Unix seconds.

        `salt` hides users' names; without one they are others after each start.  Raises OSError,
        or ValueError for an address that is none.
        """
        self._requests = config.requests
        self._use = ProcessUse(now=now)
        self._sink = LineSink(config.destination, config.lines_max, beat=self._beat)
        self._wall = wall
        self._stamp = _Stamp()
        self._named = Pseudonyms(salt or a_salt())
        human = config.format == "text" or (config.format == "auto" and self._sink.terminal)
        self._format: Format = Text() if human else Json(constant_part(config.environment))
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

    @property
    def sent(self) -> int:
        """Lines that went out since the start."""
        return self._sink.sent

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
            name: clean(value) if isinstance(value, str) else value
            for name, value in fields.items()
            if value is not None
        }
        if isinstance(user := cleaned.get("user"), str):
            cleaned["user"] = self._named(user)
        self._write()
        head = head_of(self._stamp(self._wall()), level, event)
        self._sink.put(self._format.event(head, cleaned))

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
        records, put = self._records, self._sink.put
        encode, stamp, named = self._format.request, self._stamp, self._named
        while records:
            try:
                record, ended = records.popleft()
            except IndexError:  # a library's warning in another thread writes them too
                return
            put(encode(request_line(record, stamp(ended), named)))

    def _beat(self) -> None:
        """Read what the processes use, in the sink's thread."""
        if self._use.sample():
            self._format.used(self._use.use)


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
