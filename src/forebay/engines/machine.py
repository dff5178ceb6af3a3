"""What this machine has, and what its cgroup leaves us of it: memory and processors."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forebay.engine import cgroup

_UNLIMITED_BYTES = 1 << 60  # version 1 writes a number near 2^63 where there is no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a process may still take."""

    memory_bytes: int
    """Free memory: the machine's, or what the cgroup's limit leaves, whichever is less."""
    processors: int
    """Processors that it may run on at once."""
    abilities: frozenset[str] = frozenset()
    """What a processor's instructions can do, in the kernel's words: `avx512_bf16`."""


def read_machine(root: Path = Path("/")) -> Machine:
    """Read the kernel's figures; `root` is where /proc and /sys are found."""
    free = cgroup.sizes(root / "proc/meminfo").get("MemAvailable", 0)
    for folder, limit, used in _memory_groups(root):
        allowed = cgroup.number(folder / limit)
        if allowed is not None and allowed < _UNLIMITED_BYTES:
            # Page cache counts as used, but the kernel gives it back before it kills anybody.
            taken = (cgroup.number(folder / used) or 0) - cgroup.cached(folder)
            free = min(free, max(0, allowed - taken))
    return Machine(
        memory_bytes=free, processors=_processors(root), abilities=_abilities(root / "proc/cpuinfo")
    )


def _abilities(cpuinfo: Path) -> frozenset[str]:
    try:
        text = cpuinfo.read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, words = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(words.split())
    return frozenset()


def _memory_groups(root: Path) -> Iterator[tuple[Path, str, str]]:
    for folder in cgroup.groups(root, "memory"):
        yield folder, "memory.max", "memory.current"
        yield folder, "memory.limit_in_bytes", "memory.usage_in_bytes"


def _processors(root: Path) -> int:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = float(count or 1)
    for folder in cgroup.groups(root, "cpu"):
        quota, period = cgroup.cpu_share(folder)
        if quota is not None and period:
            share = min(share, quota / period)
    return max(1, math.ceil(share))
