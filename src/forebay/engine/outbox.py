"""One slot per request between the reader of frames, who puts, and the generator, who takes.

No queue and no lock: both run on one loop.  A reader that is slower than the engine costs a
bounded number of objects, because what waits is merged, choice by choice.
"""

import asyncio
from collections import deque

from forebay.core.errors import ServingError
from forebay.core.request import Delta, Event, Finished, Scheduled


class Outbox:
    """Events on their way out, in order.  `put`, `finish` and `fail` never wait."""

    __slots__ = ("_events", "_failure", "_pending_max", "_scheduled", "_waiter", "ended")

    def __init__(self, pending_deltas_max: int) -> None:
        """Merge deltas when more than so many wait."""
        self._pending_max = pending_deltas_max
        # The whole mutable state.
        self._events: deque[Event] = deque()
        self._scheduled: Scheduled | None = None
        self._failure: ServingError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False
        """Finished or failed: nothing more is put."""

    def __len__(self) -> int:
        return len(self._events)

    def schedule(self, prompt_tokens: int) -> None:
        """Note that the engine has taken the request in; told together with the first delta."""
        self._scheduled = Scheduled(prompt_tokens)

    def put(self, delta: Delta) -> None:
        """Add a delta."""
        if self._scheduled is not None:
            self._events.append(self._scheduled)
            self._scheduled = None
        self._events.append(delta)
        if len(self._events) > self._pending_max:
            self._merge()
        self._wake()

    def finish(self, finished: Finished) -> None:
        """Add the last event."""
        if self._scheduled is not None:
            self._events.append(self._scheduled)
            self._scheduled = None
        self._events.append(finished)
        self.ended = True
        self._wake()

    def fail(self, error: ServingError) -> None:
        """End with an error, raised after what waits has been taken."""
        if not self.ended:
            self._failure = error
            self.ended = True
            self._wake()

    async def take(self) -> Event:
        """Return the next event; raises the error it ended with."""
        while not self._events:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if type(event) is Delta and self._events:
            event.more = True
        return event

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _merge(self) -> None:
        """Make one delta of all that wait, for each choice.

        It happens once in `pending_deltas_max` deltas, so that a text of n pieces is not
        copied n times.
        """
        others: list[Event] = []
        by_choice: dict[int, list[Delta]] = {}
        for event in self._events:
            if isinstance(event, Delta):
                by_choice.setdefault(event.choice, []).append(event)
            else:
                others.append(event)
        self._events = deque(others)
        self._events.extend(_merged(deltas) for deltas in by_choice.values())


def _merged(deltas: list[Delta]) -> Delta:
    last = deltas[-1]
    return Delta(
        text="".join([delta.text for delta in deltas]),
        tokens=sum([delta.tokens for delta in deltas]),
        choice=last.choice,
        finish_reason=last.finish_reason,
        logprobs=tuple([entry for delta in deltas for entry in delta.logprobs]),
        token_ids=tuple([token_id for delta in deltas for token_id in delta.token_ids]),
    )
