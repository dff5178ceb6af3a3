"""The events of one generation, read by several, each from the first and at its own pace.

Theory of operation
-------------------
WHOLE: everything is kept, so that whoever comes can read from the first event on.  A reader that
is slow costs nothing: it is a place in the list.

PASSING: more was made than may be kept.  Nobody can join any more; what every reader has read is
dropped.  A reader may be behind by twice the bound.  If there is one reader, whoever makes the
events waits for it; among several, the slowest is cut off, for it would cost the others.

ENDED: nothing follows, but a failure may.
"""

import asyncio
import copy
from dataclasses import dataclass

from forebay.core.errors import EngineError, ServingError
from forebay.core.request import Event, Events
from forebay.serve.packing import weight


@dataclass(slots=True, kw_only=True)
class Allowance:
    """Bytes of events that all logs together may keep.  Mutable: how many they do."""

    bytes_max: int
    bytes_kept: int = 0

    @property
    def overdrawn(self) -> bool:
        """Whether more is kept than should be."""
        return self.bytes_kept > self.bytes_max


class Reader:
    """One place in a log."""

    __slots__ = ("bell", "cut", "place", "since")

    def __init__(self, since: float) -> None:
        """Begin before the first event; `since` says when."""
        self.place = 0
        self.since = since
        self.cut = False
        self.bell: asyncio.Future[None] | None = None


class FlightLog:
    """Appended to by one task, read by others of the same loop."""

    def __init__(self, allowance: Allowance, *, bytes_max: int) -> None:
        """Keep up to `bytes_max`, and no more than all logs may."""
        self._allowance = allowance
        self._bytes_max = bytes_max
        # The whole mutable state.
        self.events: list[Event] = []
        self.readers: list[Reader] = []
        self.whole = True
        self.ended = False
        self.failure: BaseException | None = None
        self._dropped = 0
        self._bytes = 0
        self._room: asyncio.Future[None] | None = None

    @property
    def bytes_kept(self) -> int:
        """About how many bytes the kept events take."""
        return self._bytes

    def enter(self, since: float) -> Reader:
        """Begin to read; only a whole log can be joined."""
        assert self.whole, "its first events are gone"
        reader = Reader(since)
        self.readers.append(reader)
        return reader

    def leave(self, reader: Reader) -> None:
        """End reading; the last one out of an ended log drops it."""
        self.readers.remove(reader)
        if not self.readers and self.ended:
            self._drop(len(self.events))
        elif not self.whole:
            self._pass_on()

    async def append(self, event: Event) -> None:
        """Add an event; waits where the only reader of a passing log is too far behind."""
        self.events.append(event)
        self._account(weight(event))
        if self.whole and (self._bytes > self._bytes_max or self._allowance.overdrawn):
            self.whole = False
        self.ring()
        if not self.whole:
            self._pass_on()
            await self._wait_for_room()

    def end(self, failure: BaseException | None) -> None:
        """Say that nothing follows but `failure`, which each reader will raise."""
        self.ended = True
        self.failure = failure
        self.ring()
        if not self.readers:
            self._drop(len(self.events))

    def ring(self) -> None:
        """Wake every reader that waits for news."""
        for reader in self.readers:
            if reader.bell is not None and not reader.bell.done():
                reader.bell.set_result(None)

    async def news(self, reader: Reader) -> None:
        """Wait until something has happened."""
        reader.bell = asyncio.get_running_loop().create_future()
        try:
            await reader.bell
        finally:
            reader.bell = None

    async def read(self, reader: Reader) -> Events:
        """Yield every event from the reader's place on; raises what the flight failed with."""
        while True:
            while reader.place < self._dropped + len(self.events):
                if reader.cut:
                    raise EngineError("The answer was read too slowly, beside faster readers.")
                event = self.events[reader.place - self._dropped]
                reader.place += 1
                if not self.whole:
                    self._pass_on()
                yield event
            if self.ended:
                if self.failure is not None:
                    raise again(self.failure)
                return
            await self.news(reader)

    def _account(self, more_bytes: int) -> None:
        self._bytes += more_bytes
        self._allowance.bytes_kept += more_bytes

    def _pass_on(self) -> None:
        """Drop what everybody has read, and whoever is too far behind."""
        while True:
            reading = [reader for reader in self.readers if not reader.cut]
            slowest = min(reading, key=lambda reader: reader.place, default=None)
            end = self._dropped + len(self.events)
            self._drop((slowest.place if slowest else end) - self._dropped)
            if slowest is None or len(reading) == 1 or self._bytes <= 2 * self._bytes_max:
                break
            slowest.cut = True
        if self._room is not None and not self._room.done() and not self._full():
            self._room.set_result(None)

    def _full(self) -> bool:
        return self._bytes > 2 * self._bytes_max

    async def _wait_for_room(self) -> None:
        while self._full():
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None

    def _drop(self, count: int) -> None:
        if count > 0:
            self._account(-sum(map(weight, self.events[:count])))
            del self.events[:count]
            self._dropped += count


def again(failure: BaseException) -> BaseException:
    """Return what to raise in one of several readers: an ending has a copy for each."""
    return copy.copy(failure) if isinstance(failure, ServingError) else failure
