"""What a preparation says while it works, and how it says that it failed."""

import enum
from collections.abc import Callable
from dataclasses import dataclass


class Stage(enum.StrEnum):
    """The steps of a preparation, in the order in which they come."""

    WAIT = "waiting for another preparation"
    FETCH = "fetching"
    UNPACK = "unpacking"
    VERIFY = "verifying"
    DEQUANTISE = "dequantising"
    READ = "building the graph"
    COMPRESS = "compressing to int8"
    FINISH = "writing digests"


class Unit(enum.StrEnum):
    """What `Progress.done` counts."""

    BYTES = "bytes"
    TENSORS = "tensors"
    STEPS = "steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a stage has come; `total` is 0 while it is unknown."""

    stage: Stage
    done: int
    total: int
    unit: Unit


Report = Callable[[Progress], None]
"""Takes progress as it is made; must be quick."""


class PreparationError(Exception):
    """A model could not be prepared: what was found, and what to do about it."""
