"""Waiting at the door: the asyncio shell around `policy/admission_queue.py`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from forebay.core.clock import Clock
from forebay.core.errors import DeadlineExceeded, QueueTimeout
from forebay.core.knob import knob
from forebay.core.request import Request
from forebay.policy.admission_queue import AdmissionQueue, Load, Place, Ticket


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionConfig:
    """How much is let in, and how much may wait."""

    running_max: int = knob(
        0,
        "Sequences that run at once per model; 0 takes the engine's own batch size.",
        minimum=0,
        maximum=100_000,
    )
    waiting_max: int = knob(
        256,
        "Requests that may wait for a place per model; one more is refused with 503.",
        minimum=0,
        maximum=100_000,
    )
    wait_s_max: float = knob(
        30.0,
        "Longest wait for a place, in seconds; a request that waited longer ends with 503.",
        minimum=0.01,
        maximum=3600.0,
    )


class Admission:
    """The door of one lane."""

    def __init__(self, queue: AdmissionQueue, now: Clock) -> None:
        """Wait for places of `queue` on the clock `now`."""
        self._queue = queue
        self._now = now

    @property
    def load(self) -> Load:
        """How full the lane is now."""
        return self._queue.load

    @asynccontextmanager
    async def admit(self, request: Request) -> AsyncIterator[Ticket]:
        """Wait for a place and hold it: the body of the `async with` is the permit.

        Raises Overloaded at once when the queue is full, QueueTimeout after a wait in vain,
        DeadlineExceeded when the request's own deadline came first.
        """
        bell = asyncio.Event()
        ticket = self._queue.offer(request, self._now(), wake=bell.set)
        alarm: asyncio.TimerHandle | None = None
        try:
            self._settle()
            if ticket.place is Place.WAITING:
                loop = asyncio.get_running_loop()
                alarm = loop.call_at(ticket.expires, self._settle, ticket.expires)
            await bell.wait()
            if ticket.place is not Place.RUNNING:
                raise self._expired(request)
            yield ticket
        finally:
            if alarm is not None:
                alarm.cancel()
            self._queue.leave(ticket, self._now())
            self._settle()

    def _expired(self, request: Request) -> QueueTimeout | DeadlineExceeded:
        if request.deadline <= self._now():
            return DeadlineExceeded("The request's deadline passed while it waited for a place.")
        return QueueTimeout(
            "No place came free in time. Try again after the time in Retry-After.",
            retry_after_s=self._queue.retry_after_s(),
        )

    def _settle(self, not_before: float = 0.0) -> None:
        # uvloop rounds timers to whole milliseconds, so an alarm can ring up to 0.5 ms early.
        # Without `not_before` it would find nothing expired, and nobody would ring again.
        for ticket in self._queue.settle(max(self._now(), not_before)):
            ticket.wake()
