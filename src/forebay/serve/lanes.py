"""One lane per served model: its door, its limit, its engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forebay.core.clock import Clock
from forebay.core.errors import UnknownModel
from forebay.engine.protocol import Engine
from forebay.policy.admission_queue import AdmissionQueue
from forebay.serve.admission import Admission, AdmissionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A served model and the way to it."""

    name: str
    created: int
    """When it began to be served, Unix seconds."""
    engine: Engine
    admission: Admission


def open_lane(
    name: str, engine: Engine, *, config: AdmissionConfig, created: int, now: Clock
) -> Lane:
    """Put a door before a started engine."""
    queue = AdmissionQueue(
        places_max=config.running_max or engine.info.running_max,
        waiting_max=config.waiting_max,
        wait_s_max=config.wait_s_max,
    )
    return Lane(name=name, created=created, engine=engine, admission=Admission(queue, now))


class Lanes:
    """The served models by name."""

    def __init__(self, lanes: Sequence[Lane] = ()) -> None:
        """Serve these; more may be added while others are in use."""
        self._lanes = {lane.name: lane for lane in lanes}

    def __iter__(self) -> Iterator[Lane]:
        """Yield each lane, in the order in which it was added."""
        return iter(tuple(self._lanes.values()))

    def add(self, lane: Lane) -> None:
        """Serve one more."""
        assert lane.name not in self._lanes, f"{lane.name} is served already"
        self._lanes[lane.name] = lane

    def find(self, model: str) -> Lane:
        """Return the lane of a model, or raise UnknownModel with the names there are."""
        try:
            return self._lanes[model]
        except KeyError:
            known = ", ".join(sorted(self._lanes)) or "none yet"
            message = f"No model of that name is served here. Served: {known}."
            raise UnknownModel(message, param="model") from None
