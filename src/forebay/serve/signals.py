"""What the process is told from outside: to stop, to hurry, to read its settings again."""

import asyncio
import os
import signal
import sys
from types import FrameType
from typing import Final

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_TERMINAL: Final = "/dev/tty"


class Signals:
    """Signals as events.

    SIGTERM and SIGINT: the first asks to stop, the second to hurry.  SIGHUP asks for the settings
    to be read again; but where it says that the terminal is gone, from which the server was
    started, it asks to stop, unless the server was told to outlive that (`nohup`).
    """

    def __init__(self) -> None:
        """Hear nothing yet."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.reread = asyncio.Event()
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._at_terminal = _has_terminal() and not ignored

    def expect(self) -> None:
        """End the program with status 0 on SIGTERM, from now until `listen`: nothing runs yet."""
        signal.signal(signal.SIGTERM, _leave)
        signal.signal(signal.SIGHUP, self._early)

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Turn what comes from now on into events."""
        for number in _STOPPING:
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    def ended(self) -> None:
        """End the process at once if it is told so again: all is done, and it is about to."""
        for number in _STOPPING:
            signal.signal(number, _end)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _stop(self) -> None:
        (self.second if self.first.is_set() else self.first).set()

    def _hang_up(self) -> None:
        if self._at_terminal and not _has_terminal():
            self._stop()
        else:
            self.reread.set()

    def _early(self, _number: int, _frame: FrameType | None) -> None:
        if self._at_terminal and not _has_terminal():
            sys.exit(0)
        self.reread.set()


def _leave(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _has_terminal() -> bool:
    """Whether this process belongs to a terminal that is still there."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
