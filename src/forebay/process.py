"""The life of the process: bind the port, answer probes, load the models, serve, and stop well.

On SIGTERM or SIGINT it is not ready at once, lets what runs finish (bounded), ends the rest with
an explicit error, and exits 0; a second signal ends the wait.  On SIGHUP and
`POST /admin/reload` the settings are read again.
"""

import asyncio
import contextlib
import functools
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import uvicorn
import uvloop

from forebay.app import Service, StartRefused, build
from forebay.core.clock import MONOTONIC
from forebay.core.errors import ServingError
from forebay.engine.registry import find
from forebay.fleet import ServedModel
from forebay.gateway.admin import InvalidSettings, Reloaded
from forebay.gateway.arrival import Arrivals
from forebay.gateway.client_address import TrustedProxies
from forebay.gateway.connection import Connection
from forebay.gateway.cors import Cors
from forebay.gateway.crowd import Crowd, CrowdConfig
from forebay.gateway.heads import Hosts
from forebay.gateway.routing import PathTaken
from forebay.gateway.terms import Terms
from forebay.gateway.tls import Certificate, CertificateRefused, Door, TlsConfig
from forebay.serve.lifecycle import State
from forebay.serve.signals import Signals
from forebay.serve.tuning import leave_generators_alone, settle_garbage
from forebay.settings import LiveSettings, ServerConfig

_CLOSING_S: Final = 5.0
"""After a drain, how long ended requests get to send their last bytes."""


def run(
    live: LiveSettings,
    models: Sequence[ServedModel],
    *,
    signals: Signals,
    announce: Callable[[Service], None],
) -> int:
    """Serve until a signal; return the exit status.

    `announce` is called once the first real token has been made.  Raises StartRefused when the
    port is taken or the engine cannot start.
    """
    settings = live.current
    for model in models:
        find(model.engine or settings.engine.name)
    server = settings.server
    unsent_s_max = 2 * settings.gateway.send_s_max  # ours comes first, and is recorded
    with bind(
        server.host, server.port, backlog=server.backlog_max, unsent_s_max=unsent_s_max
    ) as listener:
        certificate = _certificate(server)
        server = replace(server, port=listener.getsockname()[1])  # 0 took a free one
        live.begin(replace(settings, server=server))
        try:
            service = build(live, models)
        except PathTaken as error:
            raise StartRefused(f"metrics.path: {error}. Name another.") from error
        with service.log:
            try:
                return uvloop.run(
                    _live(service, listener, signals, announce=announce, certificate=certificate)
                )
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
    certificate: Certificate | None,
) -> int:
    signals.listen(asyncio.get_running_loop())
    leave_generators_alone()
    if certificate is not None:
        service.gateway.admin.reload = functools.partial(_renew, service, certificate)
    server = _Server(_uvicorn_config(service, certificate))
    async with service.working():
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        rereading = asyncio.create_task(_reread(service, signals))
        service.loop_lag.start(asyncio.get_running_loop())
        try:
            await service.replay.start()
            await _serve_until_asked(service, signals, announce)
            await _drain(service, signals)
        finally:
            rereading.cancel()
            await service.shadows.stop()
            await service.residency.stop()
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
            await service.gateway.admin.reload()


async def _renew(service: Service, certificate: Certificate) -> Reloaded:
    """Read the settings and the certificate again; one that cannot be used changes nothing."""
    done, key = await service.reload(), "server.tls_certificate"
    try:
        another = await asyncio.to_thread(certificate.renew)
    except CertificateRefused as error:
        service.log.event("settings.refused", level="error", setting=key, reason=str(error))
        return replace(done, refused={**done.refused, key: str(error)})
    if not another:
        return done
    value = f"valid until {certificate.expires:%Y-%m-%d}"
    service.log.event("settings.applied", setting=key, value=value)
    return replace(done, applied={**done.applied, key: value})


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
        await service.residency.start()
    except ServingError as error:
        raise StartRefused(f"The engine could not be started. {error.message}") from error
    service.lifecycle.move(State.READY)
    settle_garbage()
    lanes = list(service.lanes)
    service.log.event(
        "server.ready",
        model=",".join(lane.name for lane in lanes),
        engine=",".join(sorted({lane.engine.info.name for lane in lanes})),
    )


async def _drain(service: Service, signals: Signals) -> None:
    """Take nothing new, wait for what runs, end the rest with an error, stop the engine."""
    lifecycle, log, started = service.lifecycle, service.log, MONOTONIC()
    lifecycle.move(State.DRAINING)
    log.event("server.draining", present=lifecycle.present)
    service.residency.close()  # nobody new would be served by what is still being loaded
    await service.shadows.stop()  # nor does anybody wait for copies
    emptied = asyncio.create_task(lifecycle.emptied(service.settings.server.drain_s_max))
    hurried = asyncio.create_task(signals.second.wait())
    await asyncio.wait({emptied, hurried}, return_when=asyncio.FIRST_COMPLETED)
    emptied.cancel()
    hurried.cancel()
    ended_early = lifecycle.present
    await service.residency.stop()
    await lifecycle.emptied(_CLOSING_S)
    lifecycle.move(State.STOPPED)
    drained_s = round(MONOTONIC() - started, 3)
    log.event("server.stopped", drained_s=drained_s, ended_early=ended_early)


def _certificate(server: ServerConfig) -> Certificate | None:
    """Return what TLS is spoken with, or None: it is not; raises StartRefused with the fix."""
    if bool(server.tls_certificate) != bool(server.tls_key):
        raise StartRefused("TLS needs both: set server.tls_certificate and server.tls_key.")
    if not server.tls_certificate:
        return None
    config = TlsConfig(
        certificate=server.tls_certificate,
        key=server.tls_key,
        handshake_s_max=server.tls_handshake_s_max,
    )
    try:
        return Certificate(config)
    except CertificateRefused as error:
        raise StartRefused(str(error)) from error


def _uvicorn_config(service: Service, certificate: Certificate | None) -> uvicorn.Config:
    server, terms = service.settings.server, _terms(service)
    if certificate is None:
        opened: Callable[..., asyncio.Protocol] = functools.partial(Connection, terms=terms)
    else:
        opened = functools.partial(Door, terms=terms, certificate=certificate)
    return uvicorn.Config(
        service.gateway,
        http=opened,  # type: ignore[arg-type]  # it makes one
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        headers=_headers(server),
        timeout_keep_alive=int(server.keep_alive_s),
        timeout_graceful_shutdown=int(_CLOSING_S),
    )


def _headers(server: ServerConfig) -> list[tuple[str, str]]:
    """Return what every answer says, whoever asked."""
    headers = [("x-content-type-options", "nosniff")]
    if server.tls_certificate and server.hsts_s:
        headers.append(("strict-transport-security", f"max-age={server.hsts_s}"))
    return headers


def _terms(service: Service) -> Terms:
    """Return what connections are held to; the loader has seen that the texts can be read."""
    settings = service.settings
    server = settings.server
    crowd = CrowdConfig(
        connections_max=server.connections_max,
        per_address_max=server.connections_per_address_max,
        trusted=TrustedProxies.parse(server.trusted_proxies),
    )
    cors = Cors.parse(settings.gateway.cors_origins, settings.access.api_key_header)
    service.gateway.cors = cors
    return Terms(
        config=settings.gateway,
        arrivals=Arrivals(service.loop_lag),
        crowd=Crowd(crowd),
        hosts=Hosts.parse(server.hosts),
        cors=cors,
        named=tuple(service.gateway.table.below),
    )
