"""An event loop in which waiting takes no time: its clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _Skipping(selectors.SelectSelector):
    """Does not wait for files; says how long it would have."""

    skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for somebody else"
            self.skipped_s += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """For simulations of one thread, without sockets.  The clock begins at `BEGIN_S`."""

    BEGIN_S = 1_000.0

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self.BEGIN_S + self._skipping.skipped_s


def run(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


def run_virtually(main: Coroutine[Any, Any, None]) -> None:
    """Run what returns nothing."""
    run(main)
