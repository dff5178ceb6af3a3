"""Faults: each breaks one thing, and knows how that is undone."""

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass


def _nothing() -> None:
    """Undo nothing: the server has to heal this itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something to break, and its undoing."""

    name: str
    inject: Callable[[], None]
    undo: Callable[[], None] = _nothing


def killed(pid: int, name: str = "worker killed (SIGKILL)") -> Fault:
    """Return the sudden death of a process."""
    return Fault(name=name, inject=lambda: _signal(pid, signal.SIGKILL))


def stopped(pid: int, name: str = "worker stopped (SIGSTOP)") -> Fault:
    """Return a process that stands still; undone, it goes on, if it still exists."""
    return Fault(
        name=name,
        inject=lambda: _signal(pid, signal.SIGSTOP),
        undo=lambda: _signal(pid, signal.SIGCONT),
    )


def _signal(pid: int, which: signal.Signals) -> None:
    # It may be gone already, by the server's own hand.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, which)
