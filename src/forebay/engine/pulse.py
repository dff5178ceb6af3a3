"""What the kernel tells of a process that says nothing: is it slow, or is it stuck (Linux).

A worker in a long step on a busy machine and one in an endless loop are equally silent.  They
differ in what they were given: time without a processor is not held against a worker.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICK_S: Final = 1.0 / os.sysconf("SC_CLK_TCK")

_SHARE_MIN: Final = 0.5
"""Of any time at least so much counts: however starved, it is not waited for without end."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """One reading."""

    state: str
    """The main thread's, as in proc(5): R runs or would, S sleeps, T is stopped by a signal."""
    cpu_s: float
    """Used by all threads since the start, seconds."""

    @property
    def stopped(self) -> bool:
        """Whether a signal made it stand still."""
        return self.state == "T"


def read_vitals(pid: int, root: Path = Path("/proc")) -> Vitals | None:
    """Return what the kernel tells of a process; None where it does not."""
    try:
        fields = (root / str(pid) / "stat").read_text(encoding="latin-1").rpartition(")")[2].split()
        return Vitals(fields[0], (int(fields[11]) + int(fields[12])) * _TICK_S)
    except (OSError, IndexError, ValueError):
        return None


def resident_bytes(pid: int, root: Path = Path("/proc")) -> int:
    """Return the memory that a process has in RAM, bytes; 0 where the kernel does not tell."""
    try:
        pages = (root / str(pid) / "statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def share_of(before: Vitals | None, after: Vitals | None, passed_s: float) -> float:
    """Return which part of the time between two readings it could have used, 0.5 to 1.

    Who uses no processor and wants none is stuck, not starved: all of the time counts.
    """
    if before is None or after is None or passed_s <= 0.0:
        return 1.0
    used_s = after.cpu_s - before.cpu_s
    if used_s < _TICK_S and after.state != "R":
        return 1.0
    return min(1.0, max(_SHARE_MIN, used_s / passed_s))


class Pulse:
    """Follows one process through its silence.  Mutable state: the last reading, and its moment."""

    def __init__(self, pid: int) -> None:
        """Read nothing yet: a process that talks is not looked at."""
        self._pid = pid
        self._heard = -1
        self._looked = 0.0
        self._vitals: Vitals | None = None

    @property
    def stopped(self) -> bool:
        """Whether a signal made it stand still."""
        return self._vitals is not None and self._vitals.stopped

    def share(self, now: float, *, heard: int) -> float:
        """Return which part of the time since the last look it could use; `heard` counts news."""
        if heard != self._heard:
            self._heard, self._vitals = heard, None
            return 1.0
        before, self._vitals = self._vitals, read_vitals(self._pid)
        passed_s, self._looked = now - self._looked, now
        return share_of(before, self._vitals, passed_s)
