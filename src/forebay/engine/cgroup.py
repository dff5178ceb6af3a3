"""What the kernel lets us use: the machine's own, or less by a control group, of version 1 or 2."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_UNLIMITED_BYTES: Final = 1 << 60
"""Version 1 of control groups writes a number near 2^63 where there is no limit."""


def memory(root: Path) -> tuple[int | None, int | None]:
    """Return what is used and what may be, of whatever leaves the least; None: nobody says."""
    used, limit = _machines_memory(root / "proc/meminfo")
    for folder in groups(root, "memory"):
        for limit_file, used_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            allowed, taken = number(folder / limit_file), number(folder / used_file)
            if allowed is None or taken is None or allowed >= _UNLIMITED_BYTES:
                continue
            # Page cache counts as used, but the kernel gives it back before it kills anybody.
            taken = max(0, taken - _cached(folder))
            if limit is None or used is None or allowed - taken < limit - used:
                used, limit = taken, allowed
    return used, limit


def cores(root: Path) -> float | None:
    """Return how many processors may be used at once, or what part of one."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    found = float(len(allowed) or os.cpu_count() or 0)
    for folder in groups(root, "cpu"):
        quota, period = _cpu_share(folder)
        if quota is not None and period:
            found = min(found, quota / period)
    return found or None


def groups(root: Path, controller: str) -> Iterator[Path]:
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


def number(path: Path) -> int | None:
    """Return what a file of one number says; None where there is none, or no limit."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def figures(path: Path) -> dict[str, int]:
    """Return what a file of names and numbers says, such as `memory.stat`; {}: there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = (line.split(maxsplit=1) for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}  # noqa: PLR2004 - a name and a number


def _cached(folder: Path) -> int:
    """Return how much of a group's memory is page cache that is given back when it is asked for."""
    known = figures(folder / "memory.stat")
    return known.get("total_inactive_file") or known.get("inactive_file") or 0


def _cpu_share(folder: Path) -> tuple[int | None, int | None]:
    """Return how long a group may compute in each period, microseconds; None: as it likes."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
    return (int(quota) if quota.isdigit() else None), int(period)


def _machines_memory(meminfo: Path) -> tuple[int | None, int | None]:
    try:
        words = [line.split() for line in meminfo.read_text(encoding="ascii").splitlines()]
    except OSError:  # a kernel other than Linux
        return None, None
    sizes = {word[0].rstrip(":"): int(word[1]) * 1024 for word in words if word[2:] == ["kB"]}
    if not {"MemTotal", "MemAvailable"} <= sizes.keys():
        return None, None
    return sizes["MemTotal"] - sizes["MemAvailable"], sizes["MemTotal"]
