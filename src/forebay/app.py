"""The composition root: the one file that knows all parts and puts them together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.core.clock import MONOTONIC
from forebay.core.record import Hook
from forebay.entrance import Entrance
from forebay.fleet import ServedModel, listed, opened, versioned
from forebay.gateway.admin import Admin, AdminConfig, InvalidSettings, Reloaded
from forebay.gateway.admin_models import Fleet
from forebay.gateway.edge import Gateway
from forebay.gateway.routing import Endpoint
from forebay.observing import Observing
from forebay.serve.keeping import KeepingConfig, keeping
from forebay.serve.lanes import Lanes, Listing
from forebay.serve.ledger import Ledger
from forebay.serve.lifecycle import Lifecycle
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from forebay.serve.residency import Residency
from forebay.serve.routes import Routes
from forebay.serve.shadow import Shadows
from forebay.settings import LiveSettings, ServerConfig, Settings
from forebay.telemetry.config import aliases
from forebay.telemetry.logs import LogConfig, RequestLog
from forebay.telemetry.loop_lag import LoopLag
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.pseudonym import kept_salt
from forebay.telemetry.readings import BookReading, ModelReading, ServerReading

if TYPE_CHECKING:
    from forebay.tenancy import Tenancy


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
    entrance: Entrance
    observing: Observing
    tenancy: "Tenancy | None"
    """What only the closed mode has."""
    rereading: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One at a time reads the settings again."""

    def __post_init__(self) -> None:
        """Be what is reloaded, and what is read at each scrape."""
        self.gateway.admin.reload = self.reload
        self.metrics.watch_server(self.read)

    @property
    def settings(self) -> Settings:
        """What is in force now."""
        return self.live.current

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Keep what others ask at work for as long as the scope lasts."""
        async with (
            self.observing.working(),
            self.entrance.working(),
            self.tenancy.working() if self.tenancy else contextlib.nullcontext(),
        ):
            yield

    def reconfigure(self, settings: Settings) -> None:
        """Give each part what is live of its settings."""
        self.gateway.reconfigure(settings.gateway, settings.cache)
        self.replay.reconfigure(settings.replay, settings.cache)
        for lane in self.lanes:
            lane.admission.reconfigure(settings.admission)
        self.entrance.reconfigure(settings)
        self.gateway.admin.config = _admin_config(settings.server)
        self.lifecycle.retry_after_s = settings.server.drain_retry_s
        self.observing.reconfigure(settings)

    def read(self) -> ServerReading:
        """Return what the process says of itself at this moment."""
        counts, closed = self.replay.counts, self.tenancy
        observing = self.observing
        return ServerReading(
            ready=self.lifecycle.readiness()[0],
            http_in_progress=self.gateway.in_progress,
            slo=observing.slo,
            sent=observing.sent,
            dropped=observing.dropped,
            machine=observing.machine,
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
            rate_limited=self.entrance.limits.refusals,
            limits_alone=self.entrance.limits.limiter.alone,
            guarded=self.entrance.screening.counts,
            logins={str(k): n for k, n in closed.login.results.items()} if closed else {},
            tokens_refused={str(k): n for k, n in closed.bearers.refused.items()} if closed else {},
            books=closed.bookkeeper.stats() if closed else BookReading(),
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
    log, loop_lag = open_log(settings.log, salt=_salt(settings)), LoopLag(MONOTONIC)
    metrics = _metrics(settings, [listed(model, settings) for model in models])
    lanes = Lanes(opening=True)
    residency = opened(live, models, lanes=lanes, metrics=metrics, log=log)
    lifecycle = Lifecycle(residency.well, retry_after_s=settings.server.drain_retry_s)
    ledger, replay = Ledger(MONOTONIC), _replay(settings, lanes, log)
    tenancy = _tenancy(settings, log)
    entrance = _entrance(settings, lanes, log, tenancy=tenancy)
    for holder in (residency.holdings, replay.holdings, entrance.allowance.holdings):
        ledger.ask(holder)
    routes = Routes(settings.routes, MONOTONIC, log.event)
    versions = versioned(settings, residency, lanes=lanes, metrics=metrics, log=log)
    fleet = Fleet(lanes=lanes, residency=residency, versions=versions, routes=routes, now=MONOTONIC)
    admin = Admin(ledger, MONOTONIC, fleet=fleet, config=_admin_config(settings.server))
    shadows = Shadows(routes, lanes, ledger, now=MONOTONIC)
    observing = Observing(settings, metrics=metrics, log=log, lag=loop_lag, access=entrance.access)
    hooks = (*observing.hooks, ledger, *((routes, shadows) if routes else ()))
    pipeline = _pipeline(settings, lifecycle, replay, lanes=lanes, hooks=hooks, entrance=entrance)
    shadows.pipeline = pipeline
    gateway = Gateway(
        pipeline=pipeline,
        lanes=lanes,
        lifecycle=lifecycle,
        metrics=metrics,
        ledger=ledger,
        admin=admin,
        hooks=hooks,
        over=observing.over,
        contexts=observing.exports.contexts,
        metrics_paths=settings.metrics.paths,
        log=log.event,
        now=MONOTONIC,
        config=settings.gateway,
        cache=settings.cache,
        routes=routes,
        access=entrance.access,
        extra={**observing.routes, **_joined(tenancy, entrance, ledger)},
        extra_below=observing.routes_below,
    )
    return Service(
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
        entrance=entrance,
        observing=observing,
        tenancy=tenancy,
    )


def _metrics(settings: Settings, offers: Iterable[Listing]) -> Metrics:
    return Metrics(
        models=[name for each in offers for name in each.own_names],
        names_max=settings.metrics.names_max,
        aliases=aliases(settings.metrics),
    )


def _joined(
    tenancy: "Tenancy | None", entrance: Entrance, ledger: Ledger
) -> Mapping[str, Endpoint]:
    return {} if tenancy is None else tenancy.join(entrance.access, ledger)


def _entrance(
    settings: Settings, lanes: Lanes, log: RequestLog, *, tenancy: "Tenancy | None"
) -> Entrance:
    return Entrance(
        settings,
        lanes,
        log.event,
        credentials=tenancy.credentials if tenancy else None,
        budgets=tenancy.bookkeeper if tenancy else None,
    )


def _pipeline(  # noqa: PLR0913 - its parts
    settings: Settings,
    lifecycle: Lifecycle,
    replay: Replay,
    *,
    lanes: Lanes,
    hooks: tuple[Hook, ...],
    entrance: Entrance,
) -> Pipeline:
    return Pipeline(
        lifecycle=lifecycle,
        replay=replay,
        lanes=lanes,
        hooks=hooks,
        now=MONOTONIC,
        allowance=entrance.allowance,
        screening=entrance.screening,
        said_characters_max=settings.traces.said_characters_max,
    )


def _tenancy(settings: Settings, log: RequestLog) -> "Tenancy | None":
    """Bring up what the closed mode has, or raise StartRefused."""
    if settings.access.mode == "open":
        return None
    from forebay import tenancy  # noqa: PLC0415 - what it loads, the open mode has no use for

    try:
        return tenancy.opened(settings, log.event)
    except tenancy.TenancyRefused as refusal:
        raise StartRefused(str(refusal)) from refusal


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
    return AdminConfig(held_max=server.held_max)


def open_log(config: LogConfig, *, salt: bytes | None = None) -> RequestLog:
    """Open the log, or raise StartRefused with the fix."""
    fix = "Set log.destination to stdout, stderr, tcp://host:port, or a file that may be written."
    try:
        return RequestLog(config, salt=salt)
    except OSError as error:
        message = f"The log cannot be written to {config.destination}: {error.strerror}."
        raise StartRefused(f"{message} {fix}") from error
    except ValueError as error:
        raise StartRefused(f"{config.destination} is no address to log to. {fix}") from error


def _salt(settings: Settings) -> bytes | None:
    """Return what hides users' names in the log; the open mode knows none."""
    if settings.access.mode == "open":
        return None
    named = settings.log.salt_file
    file = Path(named).expanduser() if named else settings.replay.file().parent / "log-salt"
    try:
        return kept_salt(file)
    except OSError as error:
        message = f"The salt of the log cannot be kept in {file}: {error.strerror}."
        fix = "Set log.salt_file to a file that may be made, or that holds 32 random bytes."
        raise StartRefused(f"{message} {fix}") from error
