"""From the first start to the last answer: what each probe says, and who is still present.

Theory of operation
-------------------
STARTING -> READY -> DRAINING -> STOPPED, and only down that list.  A request is present
from the door to its record.  Draining takes nothing new and waits, bounded, for the last
one present to leave.  Liveness is the event loop's own: who can answer is alive, also while
draining.  Readiness is never dropped because of load: load is shed at the door instead.
"""

import asyncio
import enum
from collections.abc import Callable
from contextlib import AbstractContextManager

from forebay.core.errors import Draining


class State(enum.IntEnum):
    """Where the server is in its life.  It only moves down this list."""

    STARTING = 0
    READY = 1
    DRAINING = 2
    STOPPED = 3


class Lifecycle:
    """The server's state and the requests that are present in it."""

    def __init__(self, well: Callable[[], bool], *, retry_after_s: float) -> None:
        """`well` says whether every engine is able; `retry_after_s` is told while draining."""
        self._well = well
        # The whole mutable state: what is told while draining, the state, how many are present.
        self.retry_after_s = retry_after_s
        self._state = State.STARTING
        self._present = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._presence = _Presence(self._came, self._left)

    @property
    def state(self) -> State:
        """Where it is in its life."""
        return self._state

    @property
    def present(self) -> int:
        """Requests between the door and their record."""
        return self._present

    def move(self, state: State) -> None:
        """Go down the list; staying is allowed, going back is a defect."""
        assert state >= self._state, f"{self._state.name} does not go back to {state.name}"
        self._state = state

    def presence(self) -> AbstractContextManager[None]:
        """Count a request as present; raises Draining when nothing new is taken."""
        return self._presence

    def _came(self) -> None:
        if self._state >= State.DRAINING:
            raise self.farewell()
        self._present += 1
        self._empty.clear()

    def _left(self) -> None:
        self._present -= 1
        if not self._present:
            self._empty.set()

    def farewell(self) -> Draining:
        """Return what a request is told that comes too late."""
        return Draining(
            "The server is stopping. Send the request again; another replica will take it.",
            retry_after_s=self.retry_after_s,
        )

    async def emptied(self, wait_s_max: float) -> int:
        """Wait until nobody is present, at most `wait_s_max`; return how many still are."""
        try:
            async with asyncio.timeout(wait_s_max):
                await self._empty.wait()
        except TimeoutError:
            pass
        return self._present

    def started(self) -> bool:
        """Whether the first real token has been made."""
        return self._state >= State.READY

    def readiness(self) -> tuple[bool, str]:
        """Whether new requests should come here, and why not."""
        match self._state:
            case State.STARTING:
                return False, "starting: the model is being loaded"
            case State.READY:
                if self._well():
                    return True, "ready"
                return False, "recovering: the engine makes no tokens"
            case State.DRAINING | State.STOPPED:
                return False, "draining: the server is stopping"


class _Presence:
    """The scope in which a request is present; one serves them all."""

    __slots__ = ("_came", "_left")

    def __init__(self, came: Callable[[], None], left: Callable[[], None]) -> None:
        self._came = came
        self._left = left

    def __enter__(self) -> None:
        self._came()

    def __exit__(self, *_: object) -> None:
        self._left()
