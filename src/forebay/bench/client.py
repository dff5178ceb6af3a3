"""A load client in a closed loop: many connections, each asking again as soon as it is answered."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Final

from forebay.bench.connection import Connection, Reply
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
        self._now = now
        self._left = requests_max
        self._until = float("inf") if seconds is None else now() + seconds

    async def run(self, calls: list[Call]) -> list[Sample]:
        """Open one connection for each call, all before the first request; return samples."""
        loop = asyncio.get_running_loop()
        host, port = self.target.host, self.target.port
        opened = [
            (await loop.create_connection(partial(Connection, self._now), host, port))[1]
            for _ in calls
        ]
        for connection, call in zip(opened, calls, strict=True):
            self._ask(connection, call, call.encoded(f"{host}:{port}"))
        closed = [connection.closed for connection in opened]
        left_s = None if self._until == float("inf") else self._until - self._now() + _CLOSING_S
        _, late = await asyncio.wait(closed, timeout=left_s)
        if late:
            for connection in opened:
                connection.abort()
            await asyncio.wait(late)
        return self.samples

    def _ask(self, connection: Connection, call: Call, request: bytes) -> None:
        """Send the next request, or close if there is to be none."""
        sent = self._now()
        if self._left <= 0 or sent >= self._until:
            connection.close()
            return
        self._left -= 1

        def told(reply: Reply) -> None:
            answer = reply.answer
            whole = answer.done and not answer.failed if call.stream else True
            ok = not reply.error and answer.status == HTTPStatus.OK and whole
            self.samples.append(_sample(reply, sent, ok=ok))
            if not reply.error:
                self._ask(connection, call, request)

        connection.ask(request, told, events_to_skip=call.events_to_skip)


def _sample(reply: Reply, sent: float, *, ok: bool) -> Sample:
    answer = reply.answer
    return Sample(
        sent=sent,
        ended=reply.ended,
        first=answer.first,
        last=answer.last,
        status=answer.status,
        events=answer.events,
        ok=ok,
        last_event=answer.last_event,
        body=answer.body,
        error=reply.error,
    )
