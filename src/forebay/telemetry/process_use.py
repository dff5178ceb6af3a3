"""What this process and those below it use: processor and memory, over the last second.

A model runs in a worker process, so the gateway alone would say nothing of what an answer costs.
It reads a few files of `/proc`, and is called by a thread that is not the event loop's.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SAMPLE_S: Final = 1.0
"""How long one reading counts; the shortest time over which a share of a processor means much."""

PROCESSES_MAX: Final = 256
"""Most processes that are read; we start a worker for each replica of each model."""

_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What was used; 100 per cent is one core, and shared pages count in each process."""

    cpu_percent: float
    memory_mb: float


class ProcessUse:
    """Reads anew when a second has passed since the last reading."""

    def __init__(
        self, *, now: Callable[[], float] = time.monotonic, proc: Path | None = None
    ) -> None:
        """Take the first reading; `proc` is where the kernel tells of processes."""
        self._now = now
        self._proc = proc or Path("/proc")
        # The whole mutable state: the last reading's moment, CPU seconds by process, and result.
        self._read = now()
        self._cpu_s, _ = self._processes()
        self.use: Use | None = None
        """None: no second has passed yet, or this system has no `/proc`."""

    def sample(self) -> bool:
        """Read anew, if it is time; return whether that was done."""
        now = self._now()
        past_s = now - self._read
        if past_s < SAMPLE_S:
            return False
        before = self._cpu_s
        self._read = now
        self._cpu_s, memory_bytes = self._processes()
        if self._cpu_s:
            # One that was not there before has used all of its time since; one that has gone
            # took its last fraction of a second with it.
            used_s = sum(spent - before.get(pid, 0.0) for pid, spent in self._cpu_s.items())
            self.use = Use(
                cpu_percent=round(max(0.0, used_s) / past_s * 100, 1),
                memory_mb=round(memory_bytes / _MB, 1),
            )
        return True

    def _processes(self) -> tuple[dict[int, float], int]:
        """Return CPU seconds by process, and the bytes in memory of all."""
        spent: dict[int, float] = {}
        memory_bytes = 0
        rest = [os.getpid()]
        while rest and len(spent) < PROCESSES_MAX:
            pid = rest.pop()
            folder = self._proc / str(pid)
            try:
                # The name of a program stands in brackets and may hold blanks.
                fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                spent[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
                memory_bytes += int(fields[21]) * _PAGE_BYTES
                for task in (folder / "task").iterdir():
                    rest += map(int, (task / "children").read_bytes().split())
            except (OSError, ValueError, IndexError):  # it has gone in between, or no such system
                continue
        return spent, memory_bytes


_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
