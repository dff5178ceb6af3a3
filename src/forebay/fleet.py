"""The models of this server: from what is to be served to lanes, engines and versions."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from forebay.core.clock import MONOTONIC
from forebay.core.errors import Invalid
from forebay.core.request import SamplingAdvice
from forebay.engine.manifest import read_manifest
from forebay.engine.protocol import LaneEngine
from forebay.engine.registry import RemoteKind, find
from forebay.engine.supervisor import Supervisor, WorkerSpec
from forebay.engines.machine import read_machine
from forebay.models.adapters import open_adapter
from forebay.models.stages import PreparationError
from forebay.serve.lanes import Lane, Lanes, Listing
from forebay.serve.model import Model
from forebay.serve.replicas import Replicas
from forebay.serve.residency import Residency
from forebay.serve.versions import Versions, adapter_name
from forebay.settings import LiveSettings, ModelConfig, Settings
from forebay.telemetry.logs import RequestLog
from forebay.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What to serve: a name, and the folder of the prepared artefact, if its engine loads one."""

    name: str
    engine: str = ""
    """The name of its engine; empty: `engine.name`."""
    folder: Path | None = None
    advice: SamplingAdvice = field(default_factory=SamplingAdvice)
    aliases: tuple[str, ...] = ()
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """Version -> the folder of the LoRA adapter that makes it."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Settings of its engine for this model alone."""
    description: str = ""
    workers: int = 0
    """Worker processes; 0: `engine.workers`."""
    bytes_needed: int = 0
    """Memory that loading it takes at least; 0: not known."""
    preload: bool = True
    pinned: bool = False


def opened(
    live: LiveSettings,
    models: Sequence[ServedModel],
    *,
    lanes: Lanes,
    metrics: Metrics,
    log: RequestLog,
) -> Residency:
    """Put every model on offer; nothing is loaded yet."""
    settings = live.current
    residency = Residency(
        lanes,
        settings.residency,
        admission=lambda: live.current.admission,
        free_bytes=lambda: read_machine().memory_bytes,
        now=MONOTONIC,
        log=log.event,
        watcher=_Scraped(metrics),
    )
    for model in models:
        make = functools.partial(_engine, settings, model, metrics=metrics, log=log)
        residency.offer(_offered(model, listed(model, settings), make))
    return residency


def versioned(
    settings: Settings,
    residency: Residency,
    *,
    lanes: Lanes,
    metrics: Metrics,
    log: RequestLog,
) -> Versions:
    """Return what puts versions of these models on offer."""
    return Versions(
        residency,
        lanes,
        take_in=functools.partial(_take_in, settings.model),
        log=log.event,
        known=metrics.know,
        versions_max=settings.residency.versions_max,
    )


def listed(model: ServedModel, settings: Settings) -> Listing:
    """Return what is said of a model on offer."""
    return Listing(
        name=model.name,
        created=int(time.time()),
        aliases=model.aliases,
        versions={
            version: adapter_name(version, folder) for version, folder in model.adapters.items()
        },
        description=model.description,
        engine=model.engine or settings.engine.name,
    )


def _offered(
    model: ServedModel, listing: Listing, make: Callable[[Mapping[str, Path]], LaneEngine]
) -> Model:
    return Model(
        listing=listing,
        make=make,
        folder=model.folder,
        adapters={listing.versions[each]: folder for each, folder in model.adapters.items()},
        advice=model.advice,
        bytes_needed=model.bytes_needed,
        preload=model.preload,
        pinned=model.pinned,
        remote=isinstance(find(listing.engine), RemoteKind),
    )


def _engine(
    settings: Settings,
    model: ServedModel,
    adapters: Mapping[str, Path],
    *,
    metrics: Metrics,
    log: RequestLog,
) -> LaneEngine:
    """Make the engine of one model; it is not started."""
    name = model.engine or settings.engine.name
    kind = find(name)
    if isinstance(kind, RemoteKind):
        config = settings.engine_config(name, model.options)
        return kind.connect(config, now=MONOTONIC, log=log.event)
    spec = WorkerSpec(
        engine=name,
        options=settings.engine_options(name, model.options),
        model=model.folder,
        adapters=adapters,
    )
    return Replicas(
        [
            Supervisor(spec, settings.supervisor, now=MONOTONIC, log=log.event)
            for _ in range(model.workers or settings.engine.workers)
        ],
        settings.supervisor,
        now=MONOTONIC,
        freed=functools.partial(metrics.freed, model.name),
    )


def _take_in(config: ModelConfig, base: Path, source: str) -> Path:
    """Return the checked folder of an adapter over a prepared model; raises Invalid."""
    try:
        return open_adapter(source, read_manifest(base), cache=config.folder()).path
    except PreparationError as error:
        raise Invalid(f"source: {error}", param="source") from error


@dataclass(frozen=True, slots=True)
class _Scraped:
    """Lets metrics read the lanes that are open."""

    metrics: Metrics

    def loaded(self, lane: Lane, load_s: float) -> None:
        """Read this lane at each scrape."""
        self.metrics.loaded(lane.name, load_s)
        self.metrics.watch(lane.name, lane.admission, lane.engine)

    def unloaded(self, lane: Lane) -> None:
        """Read it no more."""
        self.metrics.unwatch(lane.name)
