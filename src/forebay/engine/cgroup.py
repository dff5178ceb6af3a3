"""Where the kernel tells what our control group may use: versions 1 and 2."""

from collections.abc import Iterator
from pathlib import Path


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


def cached(folder: Path) -> int:
    """Return how much of a group's memory is page cache that is given back when it is asked for."""
    known = figures(folder / "memory.stat")
    return known.get("total_inactive_file") or known.get("inactive_file") or 0


def cpu_share(folder: Path) -> tuple[int | None, int | None]:
    """Return how long a group may compute in each period, microseconds; None: as it likes."""
    try:
        quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return number(folder / "cpu.cfs_quota_us"), number(folder / "cpu.cfs_period_us")
    return (int(quota) if quota.isdigit() else None), int(period)


def sizes(meminfo: Path) -> dict[str, int]:
    """Return what /proc/meminfo says, in bytes; raises OSError where the kernel has none."""
    words = (line.split() for line in meminfo.read_text(encoding="ascii").splitlines())
    return {word[0].rstrip(":"): int(word[1]) * 1024 for word in words if word[2:] == ["kB"]}
