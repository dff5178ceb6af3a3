"""An iterator of events that ends with `DeadlineExceeded` when its time is up."""

import asyncio
from contextlib import aclosing

from forebay.core.errors import DeadlineExceeded
from forebay.core.request import Events
from forebay.serve.strike import Strike


class _Alarm:
    """One timer per request, not one per event: it strikes only a reader that is waiting."""

    __slots__ = ("rung", "strike", "waiting")

    def __init__(self) -> None:
        self.rung = False
        self.waiting = False
        self.strike = Strike()

    def ring(self) -> None:
        """Interrupt the wait for the next event; otherwise be noticed before the next."""
        self.rung = True
        if self.waiting:
            self.strike()


async def until(deadline: float, events: Events) -> Events:
    """Pass events on, to one task, until the moment `deadline`; then close them and raise.

    Nothing is yielded while the alarm could strike: it interrupts whoever makes the next
    event, never whoever reads it.
    """
    alarm = _Alarm()
    timer = asyncio.get_running_loop().call_at(deadline, alarm.ring)
    try:
        async with aclosing(events):
            while not alarm.rung:
                alarm.waiting = True
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    if alarm.strike.taken_back():
                        break
                    raise
                finally:
                    alarm.waiting = False
                if alarm.rung:
                    alarm.strike.taken_back()
                yield event
    finally:
        timer.cancel()
    raise DeadlineExceeded("The request's deadline passed before the completion was finished.")
