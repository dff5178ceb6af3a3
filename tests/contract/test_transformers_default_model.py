"""The engine transformers keeps its promises with a model that speaks."""

from collections.abc import Iterator

import pytest

from forebay.core.request import FinishReason, Message, Role
from forebay.engine.manifest import Form
from forebay.engines.transformers import TransformersStepEngine
from forebay.engines.transformers_precision import TransformersConfig
from forebay.testing.step_engine_contract import StepEngineContract
from tests.support.answers import answers, greedy
from tests.support.models import artefact_of

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def engine(default_model: str) -> Iterator[TransformersStepEngine]:
    config = TransformersConfig(device="cpu", kv_cache_bytes=512 << 20, sequences_running_max=16)
    engine = TransformersStepEngine(config, artefact_of(default_model, Form.SAFETENSORS).path)
    yield engine
    engine.close()


class TestTransformersWithTheDefaultModel(StepEngineContract):
    """Everything that the contract asks."""


def test_it_answers_a_question(engine: TransformersStepEngine) -> None:
    turn = Message(role=Role.USER, content="What is the capital of France?")
    (answer,) = answers(engine, (engine.tokenizer.chat([turn]), greedy(40, ignore_eos=False)))
    assert answer.reason is FinishReason.STOP
    detokenizer = engine.tokenizer.detokenizer()
    text = detokenizer.push(answer.token_ids) + detokenizer.flush()
    assert text == "The capital of France is Paris."
