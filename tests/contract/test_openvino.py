"""OpenVINO keeps the promises of a step engine, with the default model."""

import pytest

from forebay.core.request import Message, Role, Sampling
from forebay.engine.protocol import SequenceId, StepEngine, StepOutput
from forebay.engines.openvino import KIND, OpenVinoConfig
from forebay.testing.step_engine_contract import StepEngineContract
from tests.support.models import artefact_of

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def engine(default_model: str) -> StepEngine:
    config = OpenVinoConfig(kv_cache_bytes=256 << 20, sequences_running_max=32)
    return KIND.make(config, artefact_of(default_model).path)


class TestOpenVino(StepEngineContract):
    """Everything that the contract asks."""
