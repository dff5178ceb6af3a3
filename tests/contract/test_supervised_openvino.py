"""OpenVINO behind a supervisor keeps the promises of an engine, with the default model."""

import dataclasses
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from forebay.core.clock import MONOTONIC
from forebay.engine.protocol import Engine
from forebay.engine.registry import find
from forebay.engine.supervisor import Supervisor, SupervisorConfig, WorkerSpec
from forebay.testing.engine_contract import EngineContract
from tests.support.events import EventList
from tests.support.models import artefact_of

pytestmark = pytest.mark.model


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def supervised(default_model: str) -> AsyncIterator[Engine]:
    options = dataclasses.asdict(find("openvino").config()) | {"kv_cache_bytes": 256 << 20}
    folder = artefact_of(default_model).path
    spec = WorkerSpec(engine="openvino", options=options, model=folder)
    supervisor = Supervisor(spec, SupervisorConfig(), now=MONOTONIC, log=EventList())
    await supervisor.start()
    yield supervisor
    await supervisor.stop()


@pytest.mark.asyncio(loop_scope="module")
class TestSupervisedOpenVino(EngineContract):
    @pytest.fixture
    def engine(self, supervised: Engine) -> Engine:
        return supervised
