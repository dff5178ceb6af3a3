"""One request on its way through workers, and what was passed on of it."""

import asyncio
import dataclasses

from forebay.core.clock import Clock
from forebay.core.request import Delta, EngineTiming, Request
from forebay.engine.resuming import Passed
from forebay.policy.quarantine import Passenger


class Run:
    """One request on its way.  Mutable state: where it is, and what was passed on of it."""

    __slots__ = (
        *("began", "first_token", "passed", "passenger", "placed", "placed_at"),
        *("moved", "request", "scheduled", "turn"),
    )

    def __init__(self, request: Request, now: float) -> None:
        self.request = request
        self.began = now
        self.passenger = Passenger()
        self.passed = Passed(request.sampling.choices)
        self.placed: int | None = None
        """The index of its worker."""
        self.placed_at = now
        self.turn: asyncio.Future[None] | None = None
        """Done when it is placed, or cannot be."""
        self.moved = False
        """It has had several workers."""
        self.scheduled = False
        self.first_token: float | None = None

    def note(self, delta: Delta, now: Clock) -> None:
        """Keep what is needed to go on after this delta."""
        self.passed.note(delta)
        if self.first_token is None:
            self.first_token = now()

    def rest(self) -> Request:
        """Return what is still to be made."""
        made = self.passed.made()
        if not made and not self.passenger.suspect:
            return self.request
        # Made as a stream, so that its first token is seen, and the next loss costs less.
        return dataclasses.replace(self.request, made=made, stream=True)

    def timing(self, last: EngineTiming, now: float) -> EngineTiming:
        """Return the durations of a run that several workers had; `last` is of the last one."""
        if self.first_token is not None:
            first_s = self.first_token - self.began
            return EngineTiming(first_token_s=first_s, decode_s=now - self.first_token)
        if last.first_token_s is None:
            return last
        first_s = last.first_token_s + self.placed_at - self.began
        return EngineTiming(first_token_s=first_s, decode_s=last.decode_s)
