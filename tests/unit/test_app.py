"""The composition root: what stops a start, and how it listens."""

import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forebay import app, fleet, process
from forebay.core.caller import Level, Rate
from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError, Invalid, ServingError
from forebay.fleet import ServedModel
from forebay.serve.cache import CacheConfig
from forebay.serve.lanes import open_lane
from forebay.settings import EngineConfig, LiveSettings, Settings
from forebay.settings.sections import FIXED_SECTIONS, settings_of
from forebay.telemetry.logs import LogConfig
from tests.support.engines import PuppetEngine
from tests.support.gateways import ActingEngine


class FailingEngine(PuppetEngine):
    """Starts as far as its first token, which it is refused."""

    def __init__(self, error: ServingError) -> None:
        super().__init__()
        self.error = error

    async def start(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [EngineError("No memory."), Invalid("messages: the template does not accept it.")],
    ids=["engine lost", "first token refused"],
)
async def test_whatever_keeps_the_first_token_from_being_made_refuses_the_start(
    error: ServingError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(
        engine=EngineConfig(name="scripted"),
        log=LogConfig(destination=str(tmp_path / "log")),
    )
    monkeypatch.setattr(fleet, "_engine", lambda *_, **__: FailingEngine(error))
    service = app.build(LiveSettings(settings), [ServedModel(name="m")])
    with service.log, pytest.raises(app.StartRefused, match=error.message):
        await process._start(service)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such option")
def test_the_kernel_drops_a_silent_client_after_the_time_that_is_asked_for() -> None:
    with process.bind("127.0.0.1", 0, backlog=8, unsent_s_max=2.5) as listener:
        option = socket.TCP_USER_TIMEOUT
        assert listener.getsockopt(socket.IPPROTO_TCP, option) == 2_500


def test_a_port_that_is_taken_refuses_the_start_with_the_fix() -> None:
    with (
        process.bind("127.0.0.1", 0, backlog=8, unsent_s_max=1.0) as listener,
        pytest.raises(app.StartRefused, match="choose another with --port"),
    ):
        process.bind("127.0.0.1", listener.getsockname()[1], backlog=8, unsent_s_max=1.0)


LIVE: dict[str, Callable[[app.Service], object]] = {
    "access": lambda service: service.entrance.access.config,
    "admission": lambda service: next(iter(service.lanes)).admission._queue._config,
    "cache": lambda service: service.gateway.cache,
    "gateway": lambda service: service.gateway.config,
    "guard": lambda service: service.entrance.screening._config,
    "replay": lambda service: service.replay._config,
}
"""Where the configuration of a section lies that has live settings, beside these three."""


async def test_every_live_setting_reaches_the_part_that_works_by_it(tmp_path: Path) -> None:
    log = LogConfig(destination=str(tmp_path / "log"))
    settings = Settings(engine=EngineConfig(name="scripted"), log=log)
    service = app.build(LiveSettings(settings), [ServedModel(name="m")])
    with service.log:
        lane = open_lane(
            "m", ActingEngine([], frozenset()), config=settings.admission, created=0, now=MONOTONIC
        )
        service.lanes.add(lane)
        live = {
            each.key.partition(".")[0] for each in settings_of(FIXED_SECTIONS) if each.knob.live
        }
        assert live == {*LIVE, "limits", "log", "metrics", "server", "traces"}
        changed = replace(
            settings,
            server=replace(settings.server, drain_retry_s=9.0),
            log=replace(log, requests=False),
            access=replace(settings.access, cached_s=9.0),
            admission=replace(settings.admission, waiting_max=7),
            cache=replace(settings.cache, enabled=False),
            guard=replace(settings.guard, mode="flag"),
            limits=replace(settings.limits, requests="7/minute"),
            gateway=replace(settings.gateway, n_max=1),
            replay=replace(settings.replay, linger_s=1.0),
            metrics=replace(settings.metrics, exemplars=False),
        )
        service.reconfigure(changed)
        for section, read in LIVE.items():
            assert read(service) == getattr(changed, section), section
        rate = service.entrance.limits._defaults.requests[Level.USER]
        assert rate == Rate(amount=7, period_s=60.0)
        assert service.lifecycle.retry_after_s == 9.0
        assert service.log._requests is False
        assert service.metrics.exemplars is False


def test_what_the_gateway_reads_again_is_what_it_was_built_with(tmp_path: Path) -> None:
    settings = Settings(
        engine=EngineConfig(name="scripted"),
        log=LogConfig(destination=str(tmp_path / "log")),
        cache=CacheConfig(enabled=False),
    )
    service = app.build(LiveSettings(settings), [ServedModel(name="m")])
    with service.log:
        assert service.gateway.cache == settings.cache
