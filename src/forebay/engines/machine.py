"""What this machine has, and what its cgroup leaves us of it: memory and processors."""

import math
from dataclasses import dataclass
from pathlib import Path

from forebay.engine import cgroup


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
    used, limit = cgroup.memory(root)
    return Machine(
        memory_bytes=max(0, (limit or 0) - (used or 0)),
        processors=max(1, math.ceil(cgroup.cores(root) or 1)),
        abilities=_abilities(root / "proc/cpuinfo"),
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
