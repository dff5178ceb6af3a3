"""What this machine has, and what its cgroup leaves us of it: memory and processors."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    free = _available(root / "proc/meminfo")
    for folder, limit, used in _memory_groups(root):
        allowed = _number(folder / limit)
        if allowed is not None and allowed < _UNLIMITED_BYTES:
            # Page cache counts as used, but the kernel gives it back before it kills anybody.
            taken = (_number(folder / used) or 0) - _cached(folder / "memory.stat")
            free = min(free, max(0, allowed - taken))
    return Machine(
        memory_bytes=free, processors=_processors(root), abilities=_abilities(root / "proc/cpuinfo")
    )


def _available(meminfo: Path) -> int:
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


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


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield our cgroup's folder and each above it; inside a container some do not exist."""
    memberships = root / "proc/self/cgroup"
    for line in (
        memberships.read_text(encoding="utf-8").splitlines() if memberships.exists() else ()
    ):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controllers
        else:
            continue
        inner = top / path.lstrip("/")
        yield from (place for place in (inner, *inner.parents) if place.is_relative_to(top))


def _memory_groups(root: Path) -> Iterator[tuple[Path, str, str]]:
    for folder in _groups(root, "memory"):
        yield folder, "memory.max", "memory.current"
        yield folder, "memory.limit_in_bytes", "memory.usage_in_bytes"


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cached(stat: Path) -> int:
    try:
        lines = stat.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    figures = dict(line.split(maxsplit=1) for line in lines)
    return int(figures.get("total_inactive_file") or figures.get("inactive_file") or 0)


def _processors(root: Path) -> int:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    share = float(count or 1)
    for folder in _groups(root, "cpu"):
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue
        if quota.isdigit():
            share = min(share, int(quota) / int(period))
    return max(1, math.ceil(share))
