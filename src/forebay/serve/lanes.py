"""One lane per served model: its door, its limit, its engine; and the names that lead there."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import Overloaded, UnknownModel
from forebay.core.request import SamplingAdvice
from forebay.engine.protocol import LaneEngine
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.limit import AimdLimit, FixedLimit, Limit
from forebay.serve.admission import Admission, AdmissionConfig

_LOADING_RETRY_S: Final = 2.0
"""Told while a model loads; the default one takes about as long (benchmarks/README.md)."""
_NAMES_SHOWN_MAX: Final = 20
"""Names that an error lists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A served model, or a version of one, and the way to it."""

    name: str
    created: int
    """When it began to be served, Unix seconds."""
    engine: LaneEngine
    admission: Admission
    advice: SamplingAdvice = field(default_factory=SamplingAdvice)
    """Sampling where a client names none."""
    model: str = ""
    """The model that this is a version of; its own name where it is none."""
    adapter: str = ""
    """The LoRA adapter that makes the version."""
    content: str = ""
    """What tells its weights from others that were, or will be, served under its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A model on offer, whether or not it is in memory."""

    name: str
    created: int = 0
    """Since when, Unix seconds."""
    aliases: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    """Version -> what its engine calls the adapter over it; `name:version` is a model too."""
    description: str = ""
    engine: str = ""
    """The name of its engine."""

    @property
    def own_names(self) -> tuple[str, ...]:
        """What it and its versions are called in records and metrics."""
        return self._names(self.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Whatever it and its versions may be asked for as."""
        return tuple(name for called in (self.name, *self.aliases) for name in self._names(called))

    def own_name(self, asked: str) -> str:
        """Return what it, or the version that is asked for, is called in records and metrics."""
        version = asked.partition(":")[2]
        return f"{self.name}:{version}" if version else self.name

    def _names(self, called: str) -> tuple[str, ...]:
        return (called, *(f"{called}:{version}" for version in self.versions))


class Asleep(Overloaded):
    """The model is on offer and not in memory: `Lanes.wake` loads it."""

    def __init__(self, model: str) -> None:
        """Name the model; whoever cannot wait tells the client to come back."""
        message = f"The model {model} is being loaded. Try again after the time in Retry-After."
        super().__init__(message, retry_after_s=_LOADING_RETRY_S)
        self.model = model


def open_lane(
    name: str, engine: LaneEngine, *, config: AdmissionConfig, created: int, now: Clock
) -> Lane:
    """Put a door before a started engine."""
    queue = AdmissionQueue(config, _limit_of(config, engine.info.running_max), engine.info.costs)
    admission = Admission(queue, now)
    return Lane(name=name, model=name, created=created, engine=engine, admission=admission)


def _limit_of(config: AdmissionConfig, batch_max: int) -> Limit:
    if config.limit == "fixed":
        return FixedLimit(config.running_max or batch_max)
    return AimdLimit(
        min(config.running_max or batch_max, batch_max),
        first_token_s=config.limit_first_token_s,
        tpot_s=config.limit_tpot_s,
    )


Wake = Callable[[str, float], Awaitable[None]]
"""(model, deadline) -> returns once it is in memory; raises ServingError."""


class Lanes:
    """The models on offer, and the lanes of those that are in memory."""

    def __init__(
        self, lanes: Sequence[Lane] = (), *, listings: Sequence[Listing] = (), opening: bool = False
    ) -> None:
        """Serve these; `opening`: what is not in memory yet is coming, and is not waited for."""
        # The whole mutable state: what is on offer, by name; the model that each name means; the
        # lanes of what is in memory, by model and by every name; how often and when each was
        # asked for; who wakes a model.
        self._listings: dict[str, Listing] = {}
        self._models: dict[str, str] = {}
        self._lanes: dict[str, Lane] = {}
        self._by_name: dict[str, Lane] = {}
        self._asked = 0
        self._used: dict[str, int] = {}
        self.hits: Counter[str] = Counter()
        self.misses: Counter[str] = Counter()
        self.opening = opening
        self.wake: Wake = _nobody_wakes
        for listing in listings:
            self.offer(listing)
        for lane in lanes:
            self.add(lane)

    def __iter__(self) -> Iterator[Lane]:
        """Yield the lane of each model in memory, in the order in which they were loaded."""
        return iter(tuple(self._lanes.values()))

    @property
    def listings(self) -> tuple[Listing, ...]:
        """Every model on offer, in order."""
        return tuple(self._listings.values())

    def offer(self, listing: Listing) -> None:
        """Put a model on offer, or change what is said of it."""
        self._listings[listing.name] = listing
        self._models = {name: each.name for each in self.listings for name in each.names}
        lane = self._lanes.get(listing.name)
        if lane is not None:
            self._forget_names(listing.name)
            self._lay_out(lane, listing)

    def add(self, lane: Lane) -> None:
        """Serve a model that is in memory now, under each of its names."""
        assert lane.name not in self._lanes, f"{lane.name} is served already"
        self._lanes[lane.name] = lane
        listing = self._listings.get(lane.name)
        if listing is None:
            self.offer(Listing(name=lane.name, created=lane.created))
        else:
            self._lay_out(lane, listing)

    def remove(self, model: str) -> Lane:
        """Let nobody in any more: the model leaves memory, and stays on offer."""
        self._forget_names(model)
        return self._lanes.pop(model)

    def is_pressed(self) -> bool:
        """Whether requests wait for a place."""
        return any(lane.admission.load.waiting for lane in self._lanes.values())

    def used(self, model: str) -> int:
        """Return when a model was last asked for: the higher, the later."""
        return self._used.get(model, 0)

    def get(self, name: str) -> Lane | None:
        """Return the lane of a model in memory, by any name of it; this counts as no use of it."""
        return self._by_name.get(name)

    async def awake(self, name: str, deadline: float) -> Lane:
        """Return the lane of a model that is on offer, loading it first; raises ServingError."""
        if (lane := self._by_name.get(name)) is not None:
            return lane
        while (lane := self._by_name.get(name)) is None:
            missing = self._missing(name)
            if not isinstance(missing, Asleep):
                raise missing
            await self.wake(missing.model, deadline)
        self._use(lane.model)  # else whatever was just waited for would be the first to go
        return lane

    def find(self, name: str) -> Lane:
        """Return the lane of a model, by its name, an alias of it, or as `name:version`.

        Raises UnknownModel with the names there are; Asleep where it is to be loaded first, or
        Overloaded while the server opens.
        """
        lane = self._by_name.get(name)
        if lane is None:
            missing = self._missing(name)
            if isinstance(missing, Asleep):
                self.misses[missing.model] += 1
            raise missing
        self._use(lane.model)
        self.hits[lane.model] += 1
        return lane

    def offers(self, name: str) -> bool:
        """Whether a model is on offer under this name, in memory or not."""
        return name in self._models

    def listing(self, name: str) -> Listing:
        """Return what is on offer under any name of it; raises UnknownModel."""
        model = self._models.get(name)
        if model is None:
            raise self._missing(name)
        return self._listings[model]

    def _missing(self, name: str) -> UnknownModel | Overloaded:
        model = self._models.get(name)
        if model is None:
            shown = ", ".join(sorted(self._models)[:_NAMES_SHOWN_MAX])
            more = ", ..." if len(self._models) > _NAMES_SHOWN_MAX else "."
            message = f"No model of that name is served here. Served: {shown}{more}"
            return UnknownModel(message, param="model")
        if self.opening:
            message = "The model is still being loaded. Try again after the time in Retry-After."
            return Overloaded(message, retry_after_s=_LOADING_RETRY_S)
        return Asleep(model)

    def _use(self, model: str) -> None:
        self._asked += 1
        self._used[model] = self._asked

    def _lay_out(self, lane: Lane, listing: Listing) -> None:
        for called in (listing.name, *listing.aliases):
            self._by_name[called] = lane
            for version, adapter in listing.versions.items():
                name = f"{lane.name}:{version}"
                self._by_name[f"{called}:{version}"] = replace(lane, name=name, adapter=adapter)

    def _forget_names(self, model: str) -> None:
        for name in [name for name, lane in self._by_name.items() if lane.model == model]:
            del self._by_name[name]


async def _nobody_wakes(model: str, _: float) -> None:
    raise Asleep(model)
