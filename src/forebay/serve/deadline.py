"""A deadline over the making of events: `DeadlineExceeded` when its time is up."""

import asyncio
from contextlib import aclosing
from types import TracebackType
from typing import Final, Self

from forebay.core.errors import DeadlineExceeded
from forebay.core.request import Events
from forebay.serve.strike import Strike

_OVER: Final = "The request's deadline passed before the completion was finished."


class Deadline:
    """The scope in which one task makes events until a moment; then it raises.

    It interrupts whoever makes the next event, never whoever reads it: nothing is yielded
    between `resume` and `pause`.  It costs one timer per request, not one per event.
    """

    __slots__ = ("_making", "_moment", "_rung", "_strike", "_timer")

    def __init__(self, moment: float) -> None:
        """End at `moment`, on the loop's clock."""
        self._moment = moment

    def __enter__(self) -> Self:
        self._making, self._rung = True, False
        self._strike = Strike()
        self._timer = asyncio.get_running_loop().call_at(self._moment, self._ring)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        struck = self._making and self._strike.taken_back()  # `pause` took it back otherwise
        if struck and isinstance(error, asyncio.CancelledError):
            raise DeadlineExceeded(_OVER) from None

    def pause(self) -> None:
        """Let the reader have an event: a time that is up is noticed after it."""
        self._making = False
        if self._rung:
            self._strike.taken_back()

    def resume(self) -> None:
        """Make the next event; raises DeadlineExceeded."""
        if self._rung:
            raise DeadlineExceeded(_OVER)
        self._making = True

    def _ring(self) -> None:
        self._rung = True
        if self._making:
            self._strike()


async def until(moment: float, events: Events) -> Events:
    """Pass events on, to one task, until `moment`; then close them and raise."""
    with Deadline(moment) as deadline:
        async with aclosing(events):
            async for event in events:
                deadline.pause()
                yield event
                deadline.resume()
