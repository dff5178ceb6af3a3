"""Processes under measurement: what they and their descendants use."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What processes have used: seconds of CPU, bytes of memory."""

    cpu_s: float
    rss_bytes: int


def usage_of(pids: Sequence[int]) -> Usage:
    """Return what these processes have used since they began."""
    cpu_ticks, rss_pages = 0, 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        cpu_ticks += int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
        rss_pages += int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return Usage(
        cpu_s=cpu_ticks / _TICKS_A_SECOND, rss_bytes=rss_pages * os.sysconf("SC_PAGE_SIZE")
    )


def descendants(pid: int) -> list[int]:
    """Return the ids of the processes below one."""
    found, rest = [], [pid]
    while rest:
        for task in Path(f"/proc/{rest.pop()}/task").glob("*/children"):
            below = [int(word) for word in task.read_text(encoding="utf-8").split()]
            found += below
            rest += below
    return found


def machine_cpu_s() -> float:
    """Return the seconds of CPU that the whole machine has spent, or was denied by its host."""
    with Path("/proc/stat").open(encoding="ascii") as stat:
        user, nice, system, _, _, irq, soft_irq, steal, *_ = map(int, stat.readline().split()[1:])
    return (user + nice + system + irq + soft_irq + steal) / _TICKS_A_SECOND


def free_port() -> int:
    """Return a port of this machine that was free a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
