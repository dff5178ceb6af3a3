"""Work that is slow on purpose, for strangers: few threads, a short queue, a share of one core.

A password's check takes tens of milliseconds and megabytes, so that whoever steals the hashes
cannot try many.  Whoever sends logins could make us do that work instead.  So before anything is
asked for a login it needs a *place*: a place in the queue, and work left in the budget.  Without
one it is refused at once, and costs nothing more.  Work that lets somebody in is given back: only
what fails uses the budget up, so that it can be small and a morning's logins still get through.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self, TypeVar

from forebay.core.clock import Clock
from forebay.core.errors import Overloaded
from forebay.policy.work_budget import WorkBudget
from forebay.serve.login_config import LoginConfig

Answer = TypeVar("Answer")

_NICE: Final = 10
"""By how much the threads give way to others of the machine (Linux).  Beside two busy processes on
two cores a hash took 0.1 s at 0, 1 s at 10, and 2 to 7 s at 19: nobody could log in."""
_BUSY: Final = "Too many logins are tried at the moment. Try again after Retry-After."


class Hashing:
    """Gives out places, and works in threads of its own."""

    def __init__(self, config: LoginConfig, now: Clock, *, nice: int = _NICE) -> None:
        """Start no thread before there is work; `nice` is how much they give way."""
        self._now = now
        self._inside_max = config.hashing_threads + config.hashing_waiting_max
        self._threads = config.hashing_threads
        self._budget = WorkBudget(
            share_max=config.hashing_share_max, burst_s=config.hashing_burst_s
        )
        # The whole mutable state beside the budget's: places that are taken; work that was done.
        self.inside = 0
        self.done = 0
        self._pool = ThreadPoolExecutor(
            config.hashing_threads,
            thread_name_prefix="forebay-hashing",
            initializer=_give_way,
            initargs=(nice,),
        )

    def place(self, *, known: bool) -> "Place":
        """Return the scope of one piece of work; raises Overloaded on entering it.

        `known`: whoever asks has been let in before, and may have what is kept for those.
        """
        return Place(self, known=known)

    def close(self) -> None:
        """Begin nothing more; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def forgive(self) -> None:
        """Count the last piece of work for nothing: it was a caller's, and callers are not many."""
        self._budget.forgive()

    def _enter(self, *, known: bool) -> float:
        if self.inside >= self._inside_max:
            queue_s = self.inside * self._budget.expected_s / self._threads
            raise Overloaded(_BUSY, retry_after_s=queue_s)
        now = self._now()
        wait_s = self._budget.wait_s(now, known=known)
        if wait_s > 0.0:
            raise Overloaded(_BUSY, retry_after_s=wait_s)
        self.inside += 1
        return self._budget.take(now)

    def _leave(self, taken_s: float, spent_s: float | None) -> None:
        self.inside -= 1
        self._budget.settle(taken_s, spent_s)

    async def _run(self, work: Callable[[], Answer], taken_s: float) -> Answer:
        spent: list[float] = []

        def timed() -> Answer:
            began = time.thread_time()
            try:
                return work()
            finally:
                spent.append(time.thread_time() - began)

        def leave(future: "asyncio.Future[Answer]") -> None:
            if not future.cancelled():
                future.exception()  # whoever asked may have given up
            self.done += 1
            self._leave(taken_s, spent[0] if spent else None)

        future = asyncio.get_running_loop().run_in_executor(self._pool, timed)
        future.add_done_callback(leave)
        # Whoever gives up waiting leaves the work under way, and its place taken until it is done.
        return await asyncio.shield(future)


class Place:
    """A place for one piece of work.  Mutable state: what was taken for it, until it is run."""

    def __init__(self, hashing: Hashing, *, known: bool) -> None:
        """Hold nothing before it is entered."""
        self._hashing = hashing
        self._known = known
        self._taken_s: float | None = None

    def __enter__(self) -> Self:
        self._taken_s = self._hashing._enter(known=self._known)  # noqa: SLF001 - two halves of one
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        taken_s, self._taken_s = self._taken_s, None
        if taken_s is not None:
            self._hashing._leave(taken_s, None)  # noqa: SLF001 - as above

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """Return what the work returns, once; it runs in a thread."""
        taken_s, self._taken_s = self._taken_s, None
        assert taken_s is not None, "a place is entered, and used once"
        return await self._hashing._run(work, taken_s)  # noqa: SLF001 - as above


def _give_way(nice: int) -> None:
    """Let the other threads of the machine go first; where that cannot be said, nothing is."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < nice:
            os.setpriority(os.PRIO_PROCESS, thread, nice)
