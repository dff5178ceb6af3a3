"""What a worker prints, as events for the log: bounded, and never in the worker's way."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import Sequence
from typing import Final

from forebay.core.record import EventLog

_LINE_CHARS_MAX: Final = 2_000
_OUTPUT_BYTES: Final = 1 << 14
_OUTPUT_LINES_MAX: Final = 100
"""Lines a second that reach the log."""


async def forward(process: Process, log: EventLog) -> None:
    """Pass the worker's output on as events, line by line; its pipe never fills up."""
    assert process.stdout is not None
    now = asyncio.get_running_loop().time
    rest, allowed, until = b"", _OUTPUT_LINES_MAX, now() + 1.0
    while data := await process.stdout.read(_OUTPUT_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _OUTPUT_BYTES:
            lines, rest = [*lines, rest], b""
        if now() > until:
            allowed, until = _OUTPUT_LINES_MAX, now() + 1.0
        _log_lines(lines[:allowed], process.pid, log)
        if len(lines) > allowed:
            log("worker.output_dropped", pid=process.pid, lines=len(lines) - allowed)
        allowed = max(0, allowed - len(lines))
    _log_lines([rest], process.pid, log)


def _log_lines(lines: Sequence[bytes], pid: int, log: EventLog) -> None:
    for line in lines:
        if text := line.decode("utf-8", "replace").rstrip()[:_LINE_CHARS_MAX]:
            log("worker.output", pid=pid, line=text)
