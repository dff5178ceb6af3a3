"""Which models are in memory, and who makes room for another.  Pure: time is an argument."""

from collections.abc import Sequence
from dataclasses import dataclass

from forebay.core.knob import knob


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidencyConfig:
    """How many models are in memory, and how long one waits for another to go."""

    loaded_max: int = knob(
        5,
        "Models in memory at once; the one used longest ago makes room for another.",
        minimum=1,
        maximum=1_024,
    )
    memory_bytes_max: int = knob(
        0,
        "Memory that all models together may take, bytes; 0: what the machine leaves free.",
        minimum=0,
        maximum=2**50,
    )
    load_wait_s_max: float = knob(
        120.0,
        "Longest that a request waits for its model to be loaded, seconds.",
        minimum=0.0,
        maximum=3_600.0,
    )
    load_waiting_max: int = knob(
        256, "Requests that may wait for models to be loaded.", minimum=0, maximum=1_000_000
    )
    unload_s_max: float = knob(
        30.0,
        "How long a model that is to go may finish its work; what is left then fails, seconds.",
        minimum=0.0,
        maximum=3_600.0,
    )
    stay_s_min: float = knob(
        10.0,
        "How long a model stays at least, so that two that are asked for in turn do not only load, "
        "seconds.",
        minimum=0.0,
        maximum=3_600.0,
    )
    versions_max: int = knob(
        64, "LoRA adapters over one model, as versions of it.", minimum=0, maximum=10_000
    )
    failed_s: float = knob(
        15.0,
        "After a model could not be loaded, how long it is not tried again; twice as long after "
        "each further failure, seconds.",
        minimum=0.0,
        maximum=3_600.0,
    )
    failed_s_max: float = knob(
        600.0, "The longest that it is left alone, seconds.", minimum=0.0, maximum=86_400.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model in memory."""

    name: str
    bytes: int
    loaded: float
    """When it was loaded, monotonic seconds."""
    used: int
    """The higher, the later it was last asked for."""
    busy: bool
    """It has requests that run or wait."""
    pinned: bool = False
    """It never makes room."""
    awaited: bool = False
    """Some who waited until it was loaded have not come to it yet: it stays for them."""


@dataclass(frozen=True, slots=True)
class Room:
    """There is room once these have gone, in this order."""

    leaving: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoRoom:
    """There is none: `wait_s` from now at the earliest, or never (None)."""

    wait_s: float | None
    obtainable_bytes: int
    """What would be free if all went that may ever go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a model that is to be loaded needs, of what there is."""

    bytes: int
    free_bytes: int
    loaded_max: int


def wait_after(failures: int, config: ResidencyConfig) -> float:
    """Return how long a model is not tried again after so many failed loads in turn, seconds.

    A load that fails may have made others leave: it must not go on doing so.
    """
    return min(config.failed_s * 2.0 ** max(failures - 1, 0), config.failed_s_max)


def make_room(
    residents: Sequence[Resident], wanted: Wanted, *, now: float, stay_s_min: float
) -> Room | NoRoom:
    """Choose who goes: idle ones before busy ones, the one used longest ago first."""
    leaving: list[str] = []
    free, count = wanted.free_bytes, len(residents)

    def fits() -> bool:
        return free >= wanted.bytes and count < wanted.loaded_max

    movable = [resident for resident in residents if not resident.pinned]
    ready = [each for each in movable if now - each.loaded >= stay_s_min and not each.awaited]
    for resident in sorted(ready, key=lambda each: (each.busy, each.used)):
        if fits():
            break
        leaving.append(resident.name)
        free, count = free + resident.bytes, count - 1
    if fits():
        return Room(tuple(leaving))
    obtainable = wanted.free_bytes + sum(each.bytes for each in movable)
    if obtainable < wanted.bytes or len(residents) - len(movable) >= wanted.loaded_max:
        return NoRoom(None, obtainable)
    staying = [each.loaded + stay_s_min - now for each in movable if each not in ready]
    return NoRoom(max(min(staying, default=0.0), 0.0), obtainable)
