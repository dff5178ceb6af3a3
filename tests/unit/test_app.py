"""The composition root: what stops a start, and how it listens."""

import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from forebay import app
from forebay.core.errors import EngineError, Invalid, ServingError
from forebay.serve.replicas import Replicas
from forebay.settings import EngineConfig, LiveSettings, Settings
from forebay.telemetry.logs import LogConfig


class FailingSupervisor:
    """Starts as far as its first token, which it is refused."""

    def __init__(self, error: ServingError) -> None:
        self.error = error

    async def start(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [EngineError("No memory."), Invalid("messages: the template does not accept it.")],
    ids=["engine lost", "first token refused"],
)
async def test_whatever_keeps_the_first_token_from_being_made_refuses_the_start(
    error: ServingError, tmp_path: Path
) -> None:
    settings = Settings(
        engine=EngineConfig(name="scripted"),
        log=LogConfig(destination=str(tmp_path / "log")),
    )
    service = app.build(LiveSettings(settings), app.ServedModel(name="m"))
    with service.log:
        failing = replace(service, engine=cast("Replicas", FailingSupervisor(error)))
        with pytest.raises(app.StartRefused, match=error.message):
            await app._start(failing)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no such option")
def test_the_kernel_drops_a_silent_client_after_the_time_that_is_asked_for() -> None:
    with app.bind("127.0.0.1", 0, backlog=8, unsent_s_max=2.5) as listener:
        option = socket.TCP_USER_TIMEOUT
        assert listener.getsockopt(socket.IPPROTO_TCP, option) == 2_500


def test_a_port_that_is_taken_refuses_the_start_with_the_fix() -> None:
    with (
        app.bind("127.0.0.1", 0, backlog=8, unsent_s_max=1.0) as listener,
        pytest.raises(app.StartRefused, match="choose another with --port"),
    ):
        app.bind("127.0.0.1", listener.getsockname()[1], backlog=8, unsent_s_max=1.0)
