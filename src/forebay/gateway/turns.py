"""Requests begin a few per turn of the loop, in the order in which they came.

The loop looks for new bytes once per turn, after all that is due.  When hundreds of requests
come at once, and each is begun at once, the engine's tokens wait until all of them are through:
at the machine's limit that was 100 ms, for which places stood empty.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

_PER_TURN: Final = 16
"""At 100 to 200 us each, tokens wait for 2 or 3 ms."""


class Turns:
    """Who may begin in this turn of the loop, and who waits for one of the next."""

    def __init__(self) -> None:
        """Let the first begin at once."""
        # The whole mutable state: who waits, at most one request per connection, and how many may
        # still begin in this turn.
        self._waiting: deque[Callable[[], None]] = deque()
        self._left = _PER_TURN

    def begin(self, start: Callable[[], None]) -> None:
        """Call `start` now, or in a later turn."""
        if self._left == _PER_TURN:
            asyncio.get_running_loop().call_soon(self._next)
        if self._left:
            self._left -= 1
            start()
        else:
            self._waiting.append(start)

    def _next(self) -> None:
        """Begin a turn."""
        self._left = _PER_TURN
        if not self._waiting:
            return
        asyncio.get_running_loop().call_soon(self._next)
        while self._waiting and self._left:
            self._left -= 1
            self._waiting.popleft()()
