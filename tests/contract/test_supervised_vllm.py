"""vLLM behind a supervisor keeps the promises of an engine, with the default model."""

import dataclasses
from collections.abc import AsyncIterator
from importlib.util import find_spec

import pytest
import pytest_asyncio

from forebay.core.clock import MONOTONIC
from forebay.engine.manifest import Form
from forebay.engine.protocol import Engine
from forebay.engine.registry import find
from forebay.engine.supervisor import Supervisor, SupervisorConfig, WorkerSpec
from forebay.testing.engine_contract import EngineContract
from tests.support.events import EventList
from tests.support.models import artefact_of

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def supervised() -> AsyncIterator[Engine]:
    options = dataclasses.asdict(find("vllm").config()) | {"kv_cache_bytes": 256 << 20}
    folder = artefact_of("smollm2-135m-instruct", Form.SAFETENSORS).path
    spec = WorkerSpec(engine="vllm", options=options, model=folder)
    supervisor = Supervisor(spec, SupervisorConfig(), now=MONOTONIC, log=EventList())
    await supervisor.start()
    yield supervisor
    await supervisor.stop()


@pytest.mark.asyncio(loop_scope="module")
class TestSupervisedVllm(EngineContract):
    @pytest.fixture
    def engine(self, supervised: Engine) -> Engine:
        return supervised
