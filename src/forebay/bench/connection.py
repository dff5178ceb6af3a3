"""One HTTP/1.1 connection of a load tool: a request out, its answer in, and whoever asked is told.

It is a bare `asyncio.Protocol`, because it shares a machine with what it measures: a general
client costs ten times as much for each event.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from forebay.bench.answer import Answer, BadAnswer
from forebay.core.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one request, and when it ended."""

    connection: "Connection"
    answer: Answer
    ended: float
    error: str = ""
    """What went wrong on the way; nothing where an answer is whole."""


Told = Callable[[Reply], None]


class Connection(asyncio.Protocol):
    """One connection.  Mutable state: the answer that is under way, and who waits for it."""

    def __init__(self, now: Clock) -> None:
        """Stamp what comes on the clock `now`."""
        self._now = now
        self._answer: Answer | None = None
        self._told: Told | None = None
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    @property
    def open(self) -> bool:
        """Whether it can be asked."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from neither

    def ask(self, request: bytes, told: Told, *, events_to_skip: int = 0) -> None:
        """Send a request; `told` is called once, when the answer is whole or will not be."""
        assert self._transport is not None
        assert self._answer is None, "one request at a time"
        self._answer = Answer.expected(events_to_skip=events_to_skip)
        self._told = told
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        answer, now = self._answer, self._now()
        if answer is None:
            self.abort()  # bytes that nobody asked for
            return
        try:
            answer.feed(data, now)
        except (BadAnswer, ValueError) as error:
            self._end(now, str(error))
            self.abort()
            return
        if answer.complete:
            self._end(now, "")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Say that no more comes."""
        self._end(self._now(), "the server closed the connection")
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        """Say goodbye."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Give up what is under way."""
        if self._transport is not None:
            self._transport.abort()
        self._end(self._now(), "given up")

    def _end(self, now: float, error: str) -> None:
        answer, told = self._answer, self._told
        self._answer = self._told = None
        if answer is not None and told is not None:
            told(Reply(connection=self, answer=answer, ended=now, error=error))
