"""Waiting at the door: the asyncio shell around `policy/admission_queue.py`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from forebay.core.clock import Clock
from forebay.core.record import Holding
from forebay.core.request import Request
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.load import Load
from forebay.policy.ticket import Place, Ticket

__all__ = ["Admission", "AdmissionConfig"]


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

    @property
    def promises(self) -> dict[str, int]:
        """Moments promised to those who were refused, by what became of them."""
        book = self._queue.outlook.promises
        return {"made": book.made, "redeemed": book.redeemed, "missed": book.missed}

    @property
    def in_storm(self) -> bool:
        """Whether refusals are so many that most had better cost little."""
        return self._queue.storm.rages(self._now())

    def shed(self, request: Request) -> None:
        """Raise Overloaded for a request that need not be read; see `policy/storm.py`."""
        self._queue.storm.shed(request, self._now())

    def holdings(self) -> Iterator[Holding]:
        """Yield every place that is held or waited for."""
        return self._queue.holdings()

    def reconfigure(self, config: AdmissionConfig) -> None:
        """Hold those who come from now on to what is live in `config`."""
        self._queue.reconfigure(config)

    def began(self, ticket: Ticket) -> None:
        """Note that a request has its first token: the engine has read its prompt."""
        self._queue.began(ticket)

    def admit(self, request: Request) -> "_Permit":
        """Wait for a place and hold it: the body of the `async with` is the permit.

        Whoever sees the answer's end writes it into `Ticket.finished`: the door learns from it.
        Raises Overloaded at once when waiting would be in vain, or later when another has a
        better right to wait; QueueTimeout after a wait in vain; DeadlineExceeded when the
        request's own deadline came first.
        """
        return _Permit(request, self._enter, self._leave)

    async def _enter(self, request: Request) -> Ticket:
        ticket = self._queue.offer(request, self._now())
        entered = False
        try:
            if ticket.place is Place.WAITING:
                await self._wait(ticket)
            entered = True
        finally:
            if not entered:
                self._leave(ticket)
        return ticket

    def _leave(self, ticket: Ticket) -> None:
        self._queue.leave(ticket, self._now())
        self._settle()

    async def _wait(self, ticket: Ticket) -> None:
        bell = asyncio.Event()
        ticket.wake = bell.set
        self._settle()
        loop = asyncio.get_running_loop()
        alarm = loop.call_at(ticket.expires, self._settle, ticket.expires)
        try:
            await bell.wait()
        finally:
            alarm.cancel()
        if ticket.refusal is not None:
            raise ticket.refusal
        if ticket.place is not Place.RUNNING:
            raise self._queue.expired(ticket, self._now())

    def _settle(self, not_before: float = 0.0) -> None:
        # uvloop rounds timers to whole milliseconds, so an alarm can ring up to 0.5 ms early.
        # Without `not_before` it would find nothing expired, and nobody would ring again.
        for ticket in self._queue.settle(max(self._now(), not_before)):
            ticket.wake()


class _Permit:
    """A place that is held for as long as the scope lasts."""

    __slots__ = ("_enter", "_leave", "_request", "_ticket")

    def __init__(
        self,
        request: Request,
        enter: Callable[[Request], Awaitable[Ticket]],
        leave: Callable[[Ticket], None],
    ) -> None:
        self._request = request
        self._enter = enter
        self._leave = leave

    async def __aenter__(self) -> Ticket:
        self._ticket = await self._enter(self._request)
        return self._ticket

    async def __aexit__(self, *_: object) -> None:
        self._leave(self._ticket)
