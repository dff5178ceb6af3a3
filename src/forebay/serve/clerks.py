"""Threads that ask what blocks, such as a database: few, and with a bounded queue before them."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from forebay.accounts.config import AccountsAway
from forebay.core.errors import Overloaded

Answer = TypeVar("Answer")

_BUSY: Final = "The accounts are asked too much at once. Try again after Retry-After."
_AWAY: Final = "The accounts cannot be asked at the moment. Try again after Retry-After."
_RETRY_S: Final = 1.0


class Clerks:
    """Asks in threads, off the event loop."""

    def __init__(self, *, threads: int, asked_max: int) -> None:
        """Let `threads` of them work, on at most `asked_max` questions, those waiting included."""
        self._asked_max = asked_max
        # The whole mutable state: questions that are not answered, and the threads.
        self._asked = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="forebay-clerk")

    def ask(self, work: Callable[[], Answer]) -> "asyncio.Future[Answer]":
        """Return the answer to come; whoever gives up waiting frees a place only when it is done.

        Raises Overloaded at once where too much is asked.
        """
        if self._asked >= self._asked_max:
            raise Overloaded(_BUSY, retry_after_s=_RETRY_S)
        self._asked += 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        future.add_done_callback(self._answered)
        return asyncio.shield(future)  # the work goes on without whoever gave up

    async def answer(self, work: Callable[[], Answer]) -> Answer:
        """Return the answer; raises Overloaded also where the accounts are away."""
        try:
            return await self.ask(work)
        except AccountsAway:
            raise accounts_away() from None

    def _answered(self, _: "asyncio.Future[Answer]") -> None:
        self._asked -= 1

    def close(self) -> None:
        """Begin nothing more; what runs ends by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def accounts_away() -> Overloaded:
    """Return what callers are told while the accounts cannot be asked."""
    return Overloaded(_AWAY, retry_after_s=_RETRY_S)
