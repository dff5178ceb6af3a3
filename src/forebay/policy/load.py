"""How full a lane is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """How full a lane is: places taken, requests running and waiting, and the limits."""

    places_taken: int
    running: int
    waiting: int
    places_max: int
    waiting_max: int
