"""One lane per served model: its door, its limit, its engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import Overloaded, UnknownModel
from forebay.core.request import SamplingAdvice
from forebay.engine.protocol import Engine
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.limit import AimdLimit, FixedLimit, Limit
from forebay.serve.admission import Admission, AdmissionConfig

_LOADING_RETRY_S: Final = 2.0
"""Told while a model loads; the default one takes about as long (benchmarks/README.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A served model and the way to it."""

    name: str
    created: int
    """When it began to be served, Unix seconds."""
    engine: Engine
    admission: Admission
    advice: SamplingAdvice = field(default_factory=SamplingAdvice)
    """Sampling where a client names none."""


def open_lane(
    name: str, engine: Engine, *, config: AdmissionConfig, created: int, now: Clock
) -> Lane:
    """Put a door before a started engine."""
    queue = AdmissionQueue(config, _limit_of(config, engine.info.running_max), engine.info.costs)
    return Lane(name=name, created=created, engine=engine, admission=Admission(queue, now))


def _limit_of(config: AdmissionConfig, batch_max: int) -> Limit:
    if config.limit == "fixed":
        return FixedLimit(config.running_max or batch_max)
    return AimdLimit(
        min(config.running_max or batch_max, batch_max),
        first_token_s=config.limit_first_token_s,
        tpot_s=config.limit_tpot_s,
    )


class Lanes:
    """The served models by name."""

    def __init__(self, lanes: Sequence[Lane] = (), *, coming: Sequence[str] = ()) -> None:
        """Serve these; `coming` names models whose lanes are added once they are loaded."""
        # The whole mutable state.
        self._lanes = {lane.name: lane for lane in lanes}
        self._coming = set(coming)

    def __iter__(self) -> Iterator[Lane]:
        """Yield each lane, in the order in which it was added."""
        return iter(tuple(self._lanes.values()))

    def add(self, lane: Lane) -> None:
        """Serve one more."""
        assert lane.name not in self._lanes, f"{lane.name} is served already"
        self._lanes[lane.name] = lane
        self._coming.discard(lane.name)

    def is_pressed(self) -> bool:
        """Whether requests wait for a place."""
        return any(lane.admission.load.waiting for lane in self._lanes.values())

    def find(self, model: str) -> Lane:
        """Return the lane of a model.

        Raises UnknownModel with the names there are, or Overloaded while it is being loaded.
        """
        lane = self._lanes.get(model)
        if lane is not None:
            return lane
        if model in self._coming:
            message = "The model is still being loaded. Try again after the time in Retry-After."
            raise Overloaded(message, retry_after_s=_LOADING_RETRY_S)
        known = ", ".join(sorted({*self._lanes, *self._coming}))
        message = f"No model of that name is served here. Served: {known}."
        raise UnknownModel(message, param="model")
