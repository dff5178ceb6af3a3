"""An iterator of events that ends with `DeadlineExceeded` when its time is up."""

import asyncio
from contextlib import aclosing

from forebay.core.errors import DeadlineExceeded
from forebay.core.request import Events


class _Alarm:
    """One timer per request, not one per event: it strikes only a task that is waiting."""

    __slots__ = ("rung", "sleeper", "struck")

    def __init__(self) -> None:
        self.rung = False
        self.struck = False
        self.sleeper: asyncio.Task[object] | None = None

    def ring(self) -> None:
        """Interrupt whoever waits for the next event; otherwise be noticed before the next."""
        self.rung = True
        if self.sleeper is not None:
            self.struck = True
            self.sleeper.cancel()


async def until(deadline: float, events: Events) -> Events:
    """Pass events on until the moment `deadline`; then close them and raise.

    Nothing is yielded while the alarm could strike: it interrupts whoever makes the next
    event, never whoever reads it.
    """
    alarm = _Alarm()
    timer = asyncio.get_running_loop().call_at(deadline, alarm.ring)
    try:
        async with aclosing(events):
            while not alarm.rung:
                task = asyncio.current_task()
                assert task is not None, "an async generator runs inside a task"
                alarm.sleeper = task
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    return
                except asyncio.CancelledError:
                    # Struck by us and by nobody else: `uncancel` gives back what `cancel` took.
                    if alarm.struck and task.uncancel() == 0:
                        break
                    raise
                finally:
                    alarm.sleeper = None
                if alarm.struck:
                    task.uncancel()
                yield event
    finally:
        timer.cancel()
    raise DeadlineExceeded("The request's deadline passed before the completion was finished.")
