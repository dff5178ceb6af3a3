"""A load client: many connections, each asking again as soon as it is answered.

It speaks HTTP over a bare `asyncio.Protocol`, because it shares a machine with what it
measures: a general client costs ten times as much for each event.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final, cast

from forebay.bench.answer import Answer, BadAnswer
from forebay.core.clock import Clock

_CLOSING_S: Final = 30.0
"""How long answers that are under way at the end of a measurement may still take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server to be asked."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is sent, and what has to come back."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: bool = False
    events_to_skip: int = 0
    """Data events before the first with text."""

    def encoded(self, host: str) -> bytes:
        """Return the bytes of the request."""
        headers = {
            "host": host,
            "content-type": "application/json",
            "content-length": str(len(self.body)),
            **self.headers,
        }
        lines = [f"POST {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What became of one request; moments are seconds of the client's clock."""

    sent: float
    ended: float
    first: float | None
    last: float | None
    status: int
    events: int
    ok: bool
    """Status 200 and a whole body; for a stream, `[DONE]` and no error event."""
    last_event: bytes = b""
    body: bytes = b""
    error: str = ""

    @property
    def latency_s(self) -> float:
        """Seconds from the request's last byte to the answer's last byte."""
        return self.ended - self.sent

    @property
    def first_s(self) -> float | None:
        """Seconds until the first event with text."""
        return None if self.first is None else self.first - self.sent


class _Connection(asyncio.Protocol):
    """One connection.  Mutable state: the answer that is under way."""

    def __init__(self, load: "ClosedLoop", call: Call) -> None:
        self._load = load
        self._call = call
        self._request = call.encoded(f"{load.target.host}:{load.target.port}")
        self._answer: Answer | None = None
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's derives from neither

    def ask(self) -> None:
        """Send the next request, or close if there is to be none."""
        assert self._transport is not None
        if not self._load.take():
            self._transport.close()
            return
        self._answer = Answer.expected(events_to_skip=self._call.events_to_skip)
        self._sent = self._load.now()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        answer, now = self._answer, self._load.now()
        if answer is None:
            self._end("bytes that nobody asked for", now)
            return
        try:
            answer.feed(data, now)
        except (BadAnswer, ValueError) as error:
            self._end(str(error), now)
            return
        if answer.complete:
            self._answer = None
            whole = answer.done and not answer.failed if self._call.stream else True
            self._note(answer, now, ok=answer.status == HTTPStatus.OK and whole)
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        if self._answer is not None:
            self._end("the server closed the connection", self._load.now())
        if not self.closed.done():
            self.closed.set_result(None)

    def abort(self) -> None:
        """Give up what is under way."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, error: str, now: float) -> None:
        answer, self._answer = self._answer or Answer(), None
        self._note(answer, now, ok=False, error=error)
        self.abort()

    def _note(self, answer: Answer, now: float, *, ok: bool, error: str = "") -> None:
        self._load.samples.append(
            Sample(
                sent=self._sent,
                ended=now,
                first=answer.first,
                last=answer.last,
                status=answer.status,
                events=answer.events,
                ok=ok,
                last_event=answer.last_event,
                body=answer.body,
                error=error,
            )
        )


class ClosedLoop:
    """A number of connections that ask again until it is time to stop.

    Mutable state: the samples, and the requests that may still be sent.
    """

    def __init__(
        self,
        target: Target,
        *,
        requests_max: int,
        seconds: float | None = None,
        now: Clock = time.perf_counter,
    ) -> None:
        """Stop after so many requests, or when so many seconds have passed."""
        self.target = target
        self.samples: list[Sample] = []
        self.now = now
        self._left = requests_max
        self._until = float("inf") if seconds is None else now() + seconds

    def take(self) -> bool:
        """Return whether one more request is to be sent, and count it."""
        if self._left <= 0 or self.now() >= self._until:
            return False
        self._left -= 1
        return True

    async def run(self, calls: list[Call]) -> list[Sample]:
        """Open one connection for each call, all before the first request; return samples."""
        loop = asyncio.get_running_loop()
        host, port = self.target.host, self.target.port
        connections = [_Connection(self, call) for call in calls]
        for connection in connections:
            await loop.create_connection(partial(_given, connection), host, port)
        for connection in connections:
            connection.ask()
        closed = [connection.closed for connection in connections]
        left_s = None if self._until == float("inf") else self._until - self.now() + _CLOSING_S
        _, late = await asyncio.wait(closed, timeout=left_s)
        if late:
            for connection in connections:
                connection.abort()
            await asyncio.wait(late)
        return self.samples


def _given(connection: _Connection) -> _Connection:
    return connection
