"""The composition root: the one file that knows all parts and puts them together."""

import asyncio
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
from forebay.gateway.admin import Admin, AdminConfig, InvalidSettings, Reloaded, is_loopback
from forebay.gateway.admin_models import Fleet
from forebay.gateway.edge import Gateway
from forebay.models.adapters import open_adapter
from forebay.models.stages import PreparationError
from forebay.serve.keeping import KeepingConfig, keeping
from forebay.serve.lanes import Lane, Lanes, Listing
from forebay.serve.ledger import Ledger
from forebay.serve.lifecycle import Lifecycle
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from forebay.serve.replicas import Replicas
from forebay.serve.residency import Model, Residency
from forebay.serve.routes import Routes
from forebay.serve.shadow import Shadows
from forebay.serve.versions import Versions, adapter_name
from forebay.settings import LiveSettings, ModelConfig, ServerConfig, Settings
from forebay.telemetry.logs import LogConfig, RequestLog
from forebay.telemetry.loop_lag import LoopLag
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.readings import ModelReading, ServerReading


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


class StartRefused(Exception):
    """The server cannot start; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that lives as long as the process."""

    live: LiveSettings
    models: tuple[ServedModel, ...]
    log: RequestLog
    loop_lag: LoopLag
    metrics: Metrics
    lanes: Lanes
    residency: Residency
    lifecycle: Lifecycle
    ledger: Ledger
    replay: Replay
    gateway: Gateway
    routes: Routes
    shadows: Shadows
    rereading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One at a time reads the settings again."""

    @property
    def settings(self) -> Settings:
        """What is in force now."""
        return self.live.current

    def reconfigure(self, settings: Settings) -> None:
        """Give each part what is live of its settings."""
        self.gateway.reconfigure(settings.gateway, settings.cache)
        self.replay.reconfigure(settings.replay, settings.cache)
        for lane in self.lanes:
            lane.admission.reconfigure(settings.admission)
        self.gateway.admin.config = _admin_config(settings.server)
        self.lifecycle.retry_after_s = settings.server.drain_retry_s
        self.log.reconfigure(settings.log)

    def read(self) -> ServerReading:
        """Return what the process says of itself at this moment."""
        counts = self.replay.counts
        return ServerReading(
            loop_lag_s=self.loop_lag.take(),
            log_lines_dropped=self.log.dropped,
            imbalance=self.ledger.imbalance,
            held=self.ledger.amounts(),
            flights=counts.flights,
            cache={
                "hit": counts.cache_hits,
                "miss": counts.cache_misses,
                "bypass": counts.cache_bypasses,
            },
            store_degraded=self.replay.degraded,
            models=self._models(),
            shares={
                (route.name, model): share
                for route in self.routes
                for model, share in route.reading().shares.items()
            },
            shadows_dropped=self.shadows.dropped,
        )

    def _models(self) -> dict[str, ModelReading]:
        lanes = self.lanes
        return {
            name: ModelReading(
                loaded=reading.resident,
                memory_bytes=reading.memory_bytes,
                load_s=reading.load_s,
                hits=lanes.hits[name],
                misses=lanes.misses[name],
                failures=reading.failures,
            )
            for name, reading in self.residency.readings.items()
        }

    async def reload(self) -> Reloaded:
        """Read the settings again and apply what can be; raises InvalidSettings."""
        async with self.rereading:
            try:
                found = await asyncio.to_thread(self.live.read)
            except InvalidSettings as error:
                self.log.event("settings.invalid", level="error", error=error.message)
                raise
            done = self.live.take(found, self.reconfigure)
        for key, value in done.applied.items():
            self.log.event("settings.applied", setting=key, value=value)
        for key, reason in done.refused.items():
            self.log.event("settings.refused", level="warning", setting=key, reason=reason)
        return done


def build(live: LiveSettings, models: Sequence[ServedModel]) -> Service:
    """Put the parts together; nothing runs yet."""
    settings = live.current
    log, loop_lag = open_log(settings.log), LoopLag(MONOTONIC)
    listings = [_listing(model, settings) for model in models]
    metrics = Metrics(models=[name for each in listings for name in each.own_names])
    lanes = Lanes(opening=True)
    residency = Residency(
        lanes,
        settings.residency,
        admission=lambda: live.current.admission,
        free_bytes=lambda: read_machine().memory_bytes,
        now=MONOTONIC,
        log=log.event,
        watcher=_Scraped(metrics),
    )
    for model, listing in zip(models, listings, strict=True):
        make = functools.partial(_engine, settings, model, metrics=metrics, log=log)
        residency.offer(_offered(model, listing, make))
    lifecycle = Lifecycle(residency.well, retry_after_s=settings.server.drain_retry_s)
    ledger, replay = Ledger(MONOTONIC), _replay(settings, lanes, log)
    for holder in (residency.holdings, replay.holdings):
        ledger.ask(holder)
    routes = Routes(settings.routes, MONOTONIC, log.event)
    versions = Versions(
        residency,
        lanes,
        take_in=functools.partial(_take_in, settings.model),
        log=log.event,
        known=metrics.know,
        versions_max=settings.residency.versions_max,
    )
    fleet = Fleet(lanes=lanes, residency=residency, versions=versions, routes=routes, now=MONOTONIC)
    admin = Admin(ledger, MONOTONIC, fleet=fleet, config=_admin_config(settings.server))
    shadows = Shadows(routes, lanes, ledger, now=MONOTONIC)
    hooks = (metrics, log, ledger, routes, shadows) if routes else (metrics, log, ledger)
    pipeline = Pipeline(lifecycle=lifecycle, replay=replay, lanes=lanes, hooks=hooks, now=MONOTONIC)
    shadows.pipeline = pipeline
    gateway = Gateway(
        pipeline=pipeline,
        lanes=lanes,
        lifecycle=lifecycle,
        metrics=metrics,
        ledger=ledger,
        admin=admin,
        hooks=hooks,
        log=log.event,
        now=MONOTONIC,
        config=settings.gateway,
        cache=settings.cache,
        routes=routes,
    )
    service = Service(
        live=live,
        models=tuple(models),
        log=log,
        loop_lag=loop_lag,
        metrics=metrics,
        lanes=lanes,
        residency=residency,
        lifecycle=lifecycle,
        ledger=ledger,
        replay=replay,
        gateway=gateway,
        routes=routes,
        shadows=shadows,
    )
    admin.reload = service.reload
    metrics.watch_server(service.read)
    return service


def _listing(model: ServedModel, settings: Settings) -> Listing:
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

    def loaded(self, lane: Lane) -> None:
        """Read this lane at each scrape."""
        self.metrics.watch(lane.name, lane.admission, lane.engine)

    def unloaded(self, lane: Lane) -> None:
        """Read it no more."""
        self.metrics.unwatch(lane.name)


def _replay(settings: Settings, lanes: Lanes, log: RequestLog) -> Replay:
    config = KeepingConfig(store=settings.store, replay=settings.replay, cache=settings.cache)
    kept = keeping(config, MONOTONIC, log.event)
    return Replay(
        settings.replay,
        store=kept.store,
        cache=kept.cache,
        now=MONOTONIC,
        is_pressed=lanes.is_pressed,
    )


def _admin_config(server: ServerConfig) -> AdminConfig:
    return AdminConfig(
        local=is_loopback(server.host), token=server.admin_token, held_max=server.held_max
    )


def open_log(config: LogConfig) -> RequestLog:
    """Open the log, or raise StartRefused with the fix."""
    try:
        return RequestLog(config)
    except OSError as error:
        message = f"The log cannot be written to {config.destination}: {error.strerror}."
        fix = "Set log.destination to stdout, stderr, or a file that may be written."
        raise StartRefused(f"{message} {fix}") from error
