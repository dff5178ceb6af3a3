"""Cancelling a task from a timer or a callback, and taking the cancellation back.

`asyncio.timeout` does this too; it costs ten times as much, and each request needs it thrice.
"""

import asyncio
from typing import Any


class Strike:
    """Cancels the task that made it, at most once.

    Mutable state: whether it has struck.  Whoever may be struck catches CancelledError and
    asks `taken_back`: if somebody else wants the task to end too, theirs stands.
    """

    __slots__ = ("_task", "struck")

    def __init__(self) -> None:
        """Aim at the running task."""
        task = asyncio.current_task()
        assert task is not None, "there is no task to cancel"
        self._task: asyncio.Task[Any] = task
        self.struck = False

    def __call__(self) -> None:
        """Cancel the task."""
        if not self.struck:
            self.struck = True
            self._task.cancel()

    def taken_back(self) -> bool:
        """Undo the cancellation; return whether it was the only one."""
        return self.struck and self._task.uncancel() == 0
