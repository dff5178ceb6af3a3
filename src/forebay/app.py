"""The composition root: the one file that knows all parts, and the life of the process.

Life: bind the port, answer probes, start the engine, serve; on SIGTERM or SIGINT be not
ready at once, let what runs finish (bounded), end the rest with an explicit error, exit 0.
A second signal ends the wait.  On SIGHUP and `POST /admin/reload` the settings are read again.
"""

import asyncio
import contextlib
import functools
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import uvicorn
import uvloop

from forebay.core.clock import MONOTONIC
from forebay.core.errors import ServingError
from forebay.core.request import SamplingAdvice
from forebay.engine.registry import find
from forebay.engine.supervisor import Supervisor, WorkerSpec
from forebay.gateway.admin import Admin, AdminConfig, InvalidSettings, Reloaded, is_loopback
from forebay.gateway.connection import Connection
from forebay.gateway.edge import Gateway
from forebay.gateway.turns import Turns
from forebay.serve.keeping import KeepingConfig, keeping
from forebay.serve.lanes import Lanes, open_lane
from forebay.serve.ledger import Ledger
from forebay.serve.lifecycle import Lifecycle, State
from forebay.serve.pipeline import Pipeline
from forebay.serve.replay import Replay
from forebay.serve.replicas import Replicas
from forebay.serve.signals import Signals
from forebay.serve.tuning import leave_generators_alone, settle_garbage
from forebay.settings import LiveSettings, ServerConfig, Settings
from forebay.telemetry.logs import LogConfig, RequestLog
from forebay.telemetry.loop_lag import LoopLag
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.readings import ServerReading

_CLOSING_S: Final = 5.0
"""After a drain, how long ended requests get to send their last bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """What to serve: its name, and the folder of its prepared artefact, if it has one."""

    name: str
    folder: Path | None = None
    advice: SamplingAdvice = field(default_factory=SamplingAdvice)


class StartRefused(Exception):
    """The server cannot start; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything that lives as long as the process."""

    live: LiveSettings
    model: ServedModel
    log: RequestLog
    loop_lag: LoopLag
    metrics: Metrics
    engine: Replicas
    lanes: Lanes
    lifecycle: Lifecycle
    ledger: Ledger
    replay: Replay
    gateway: Gateway
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
        )

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


def build(live: LiveSettings, model: ServedModel) -> Service:
    """Put the parts together; nothing runs yet."""
    settings = live.current
    log, loop_lag = open_log(settings.log), LoopLag(MONOTONIC)
    metrics = Metrics(models=(model.name,))
    spec = WorkerSpec(
        engine=settings.engine.name,
        options=settings.engine_options(settings.engine.name),
        model=model.folder,
    )
    engine = Replicas(
        [
            Supervisor(spec, settings.supervisor, now=MONOTONIC, log=log.event)
            for _ in range(settings.engine.workers)
        ],
        settings.supervisor,
        now=MONOTONIC,
        freed=functools.partial(metrics.freed, model.name),
    )
    lanes = Lanes(coming=(model.name,))
    lifecycle = Lifecycle(
        lambda: engine.well(MONOTONIC()), retry_after_s=settings.server.drain_retry_s
    )
    ledger, replay = Ledger(MONOTONIC), _replay(settings, lanes, log)
    for holder in (engine.holdings, replay.holdings):
        ledger.ask(holder)
    admin = Admin(ledger, MONOTONIC, config=_admin_config(settings.server))
    hooks = (metrics, log, ledger)
    gateway = Gateway(
        pipeline=Pipeline(
            lifecycle=lifecycle, replay=replay, lanes=lanes, hooks=hooks, now=MONOTONIC
        ),
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
    )
    service = Service(
        live=live,
        model=model,
        log=log,
        loop_lag=loop_lag,
        metrics=metrics,
        engine=engine,
        lanes=lanes,
        lifecycle=lifecycle,
        ledger=ledger,
        replay=replay,
        gateway=gateway,
    )
    admin.reload = service.reload
    metrics.watch_server(service.read)
    return service


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


def run(
    live: LiveSettings,
    model: ServedModel,
    *,
    signals: Signals,
    announce: Callable[[Service], None],
) -> int:
    """Serve until a signal; return the exit status.

    `announce` is called once the first real token has been made.  Raises StartRefused when the
    port is taken or the engine cannot start.
    """
    settings = live.current
    find(settings.engine.name)
    server = settings.server
    unsent_s_max = 2 * settings.gateway.send_s_max  # ours comes first, and is recorded
    with bind(
        server.host, server.port, backlog=server.backlog_max, unsent_s_max=unsent_s_max
    ) as listener:
        server = replace(server, port=listener.getsockname()[1])  # 0 took a free one
        live.begin(replace(settings, server=server))
        service = build(live, model)
        with service.log:
            try:
                return uvloop.run(_live(service, listener, signals, announce=announce))
            finally:
                signals.ended()


def bind(host: str, port: int, *, backlog: int, unsent_s_max: float) -> socket.socket:
    """Listen on an address, or raise StartRefused with the fix.

    A connection whose client acknowledges nothing for `unsent_s_max` is dropped, where the kernel
    can (Linux).
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        message = f"Port {port} of {host} cannot be opened: {error.strerror}."
        fix = "Stop what uses it, or choose another with --port."
        raise StartRefused(f"{message} {fix}") from error
    if sys.platform == "linux":
        # Connections inherit it: what a client that has gone silent will never take is dropped.
        unsent_ms = int(unsent_s_max * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unsent_ms)
    return listener


def open_log(config: LogConfig) -> RequestLog:
    """Open the log, or raise StartRefused with the fix."""
    try:
        return RequestLog(config)
    except OSError as error:
        message = f"The log cannot be written to {config.destination}: {error.strerror}."
        fix = "Set log.destination to stdout, stderr, or a file that may be written."
        raise StartRefused(f"{message} {fix}") from error


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: when to stop is decided here."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


async def _live(
    service: Service,
    listener: socket.socket,
    signals: Signals,
    *,
    announce: Callable[[Service], None],
) -> int:
    signals.listen(asyncio.get_running_loop())
    leave_generators_alone()
    server = _Server(_uvicorn_config(service))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    rereading = asyncio.create_task(_reread(service, signals))
    service.loop_lag.start(asyncio.get_running_loop())
    try:
        await service.replay.start()
        await _serve_until_asked(service, signals, announce)
        await _drain(service, signals)
    finally:
        rereading.cancel()
        await service.engine.stop()
        await service.replay.stop()
        service.loop_lag.stop()
        server.should_exit = True
        await serving
    return 0


async def _reread(service: Service, signals: Signals) -> None:
    """Read the settings again whenever a signal asks for it."""
    while True:
        await signals.reread.wait()
        signals.reread.clear()
        with contextlib.suppress(InvalidSettings):  # it stands in the log
            await service.reload()


async def _serve_until_asked(
    service: Service, signals: Signals, announce: Callable[[Service], None]
) -> None:
    """Start the engine and serve; return when asked to stop, also in the middle of the start."""
    starting = asyncio.create_task(_start(service))
    asked = asyncio.create_task(signals.first.wait())
    try:
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            announce(service)
            await asked
    finally:
        starting.cancel()
        asked.cancel()
        await asyncio.gather(starting, asked, return_exceptions=True)


async def _start(service: Service) -> None:
    try:
        await service.engine.start()
    except ServingError as error:
        raise StartRefused(f"The engine could not be started. {error.message}") from error
    lane = open_lane(
        service.model.name,
        service.engine,
        config=service.settings.admission,
        created=int(time.time()),
        now=MONOTONIC,
    )
    service.lanes.add(replace(lane, advice=service.model.advice))
    service.ledger.ask(lane.admission.holdings)
    service.metrics.watch(service.model.name, lane.admission, service.engine)
    service.lifecycle.move(State.READY)
    settle_garbage()
    service.log.event("server.ready", model=service.model.name, engine=lane.engine.info.name)


async def _drain(service: Service, signals: Signals) -> None:
    """Take nothing new, wait for what runs, end the rest with an error, stop the engine."""
    lifecycle, log, started = service.lifecycle, service.log, MONOTONIC()
    lifecycle.move(State.DRAINING)
    log.event("server.draining", present=lifecycle.present)
    emptied = asyncio.create_task(lifecycle.emptied(service.settings.server.drain_s_max))
    hurried = asyncio.create_task(signals.second.wait())
    await asyncio.wait({emptied, hurried}, return_when=asyncio.FIRST_COMPLETED)
    emptied.cancel()
    hurried.cancel()
    ended_early = lifecycle.present
    await service.engine.stop()
    await lifecycle.emptied(_CLOSING_S)
    lifecycle.move(State.STOPPED)
    drained_s = round(MONOTONIC() - started, 3)
    log.event("server.stopped", drained_s=drained_s, ended_early=ended_early)


def _uvicorn_config(service: Service) -> uvicorn.Config:
    server = service.settings.server
    return uvicorn.Config(
        service.gateway,
        http=functools.partial(Connection, turns=Turns()),  # type: ignore[arg-type]  # it makes one
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=int(server.keep_alive_s),
        timeout_graceful_shutdown=int(_CLOSING_S),
    )
