"""Callers of a server in a drill of alerts: they ask at a fixed pace, whatever is answered."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from forebay.bench.client import Target
from forebay.drill.client import ask, chat

Wish = Callable[[int], bytes]
"""The body of the request of this number."""

_MODEL: Final = "scripted"
_UNDER_WAY_MAX: Final = 400
"""Beyond it, nobody asks anew: the callers share the machine with what they ask."""


def said(words: str, *, tokens: int = 4, model: str = _MODEL, **fields: object) -> bytes:
    """Return a body that makes the scripted engine say some words."""
    return chat(model, words, max_tokens=tokens, ignore_eos=True, **fields)


def ordinary(number: int) -> bytes:
    """Return an ordinary request, unlike every other."""
    return said(f"the words of request {number}")


def repeatable(number: int) -> bytes:
    """Return a request whose answer may serve again, unlike every other."""
    return said(f"other words {number}", temperature=0)


class Callers:
    """They ask one server.

    Mutable state: what they ask for and how often (both may be changed at any time), whether they
    stay away, the number of the next request, those under way, and the statuses that came back.
    """

    def __init__(self, target: Target, *, pace_s: float, wish: Wish, key: str = "") -> None:
        """Ask `target` every `pace_s` seconds for what `wish` says."""
        self.target = target
        self.pace_s = pace_s
        self.wish = wish
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._next = 0
        self._away = False
        self._under_way: set[asyncio.Task[None]] = set()
        self.statuses: Counter[int] = Counter()

    async def run(self) -> None:
        """Ask until cancelled; whoever fell behind does not catch up."""
        due = time.monotonic()
        try:
            while True:
                due = max(due + self.pace_s, time.monotonic() - self.pace_s)
                await asyncio.sleep(due - time.monotonic())
                if not self._away and len(self._under_way) < _UNDER_WAY_MAX:
                    self._begin()
        finally:
            for task in self._under_way:
                task.cancel()

    @contextlib.contextmanager
    def asking(self, wish: Wish | None = None, *, pace_s: float | None = None) -> Iterator[None]:
        """Let them ask for something else, or at another pace, until the body ends."""
        before = self.wish, self.pace_s
        self.wish, self.pace_s = wish or self.wish, pace_s or self.pace_s
        try:
            yield
        finally:
            self.wish, self.pace_s = before

    @contextlib.contextmanager
    def staying_away(self) -> Iterator[None]:
        """Let nobody ask until the body ends: a balancer sends nobody to one that is not ready."""
        self._away = True
        try:
            yield
        finally:
            self._away = False

    def _begin(self) -> None:
        body, self._next = self.wish(self._next), self._next + 1
        task = asyncio.create_task(self._ask(body))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask(self, body: bytes) -> None:
        seen = await ask(self.target, body, self._headers)
        self.statuses[seen.status] += 1
