"""One request on its way through workers, and what was made of it."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

from forebay.core.request import EngineTiming, Request, TokenId
from forebay.engine.resuming import Passed
from forebay.policy.quarantine import Passenger

_BLIND_TOKENS: Final = 16
"""Tokens that a worker may have made of a whole answer after it last told how far it was."""


class Run:
    """A request, its worker, and how far it is.  It is the `Watcher` of its flights."""

    # The whole mutable state: where it is, since when, and what was made of it and when.
    __slots__ = (
        *("_cleared", "_new", "_needed", "began", "first_token", "moved", "passed", "passenger"),
        *("placed", "placed_at", "request", "scheduled", "turn"),
    )

    def __init__(self, request: Request, now: float, *, cleared: Callable[["Run"], None]) -> None:
        """Begin at `now`; `cleared` is called when a suspect has got beyond its last loss."""
        self.request = request
        self.began = now
        self.passenger = Passenger()
        self.passed = Passed(request.sampling)
        self.placed: int | None = None
        """The index of its worker."""
        self.placed_at = now
        self.turn: asyncio.Future[None] | None = None
        """Done when it is placed, or cannot be."""
        self.moved = False
        """It has had several workers."""
        self.scheduled = False
        self.first_token: float | None = None
        self._cleared = cleared
        self._new = self._needed = 0

    def kept(self, choice: int, token_ids: Sequence[TokenId]) -> None:
        """Keep tokens of which nothing is handed out yet."""
        self.passed.keep(choice, token_ids)

    def made(self, tokens: int) -> None:
        """Count tokens handed out, whether or not they are passed on yet."""
        if self.passenger.suspect:
            self._new += tokens
            if self._new >= self._needed:
                self._cleared(self)

    def move(self, *, resumable: bool) -> None:
        """Prepare for another worker, after a loss."""
        again = 0 if resumable else self.passed.forget()
        blind = not (self.moved or self.request.stream)
        self._new, self._needed = 0, again + (_BLIND_TOKENS if blind else 1)
        self.moved = True

    def rest(self) -> Request:
        """Return what is still to be made."""
        if not self.moved:
            return self.request
        # Made as a stream, so that it is known how far it is.
        return dataclasses.replace(self.request, made=self.passed.made(), stream=True)

    def timing(self, last: EngineTiming, now: float) -> EngineTiming:
        """Return the durations of a run that several workers had; `last` is of the last one."""
        if self.first_token is not None:
            first_s = self.first_token - self.began
            return EngineTiming(first_token_s=first_s, decode_s=now - self.first_token)
        if last.first_token_s is None:
            return last
        first_s = last.first_token_s + self.placed_at - self.began
        return EngineTiming(first_token_s=first_s, decode_s=last.decode_s)
