"""The scripted engine keeps the promises of both shapes: by itself, and behind a supervisor."""

from collections.abc import AsyncIterator

import pytest

from forebay.core.clock import MONOTONIC
from forebay.engine.protocol import Engine, StepEngine
from forebay.engine.supervisor import Supervisor, SupervisorConfig, WorkerSpec
from forebay.engines.scripted import ScriptedConfig, ScriptedEngine
from forebay.testing.engine_contract import EngineContract
from forebay.testing.step_engine_contract import StepEngineContract
from tests.support.events import EventList


class TestScriptedStepEngine(StepEngineContract):
    @pytest.fixture(params=[0.0, 0.001], ids=["at once", "paced"])
    def engine(self, request: pytest.FixtureRequest) -> StepEngine:
        return ScriptedEngine(ScriptedConfig(decode_s=request.param, running_max=20))


class TestSupervisedScripted(EngineContract):
    @pytest.fixture
    async def engine(self) -> AsyncIterator[Engine]:
        spec = WorkerSpec(engine="scripted", options={}, model=None)
        supervisor = Supervisor(spec, SupervisorConfig(), now=MONOTONIC, log=EventList())
        await supervisor.start()
        yield supervisor
        await supervisor.stop()
