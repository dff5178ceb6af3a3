"""Calls of `/generate` in OpenAI's words: what depends on the model's own advice."""

import pytest
from msgspec import Raw

from forebay.core.errors import Invalid
from forebay.core.request import SamplingAdvice
from forebay.engine.protocol import EngineInfo, Feature
from forebay.gateway.config import GatewayConfig
from forebay.gateway.native_calls import Translator, text_of
from forebay.gateway.native_schemas import GenerateCall
from forebay.gateway.schemas import ChatCall, TextCall

GREEDY = SamplingAdvice(temperature=0.0)


def translator(*features: Feature, advice: SamplingAdvice = GREEDY) -> Translator:
    supports = frozenset(features or Feature)
    info = EngineInfo(name="e", context_tokens_max=100, running_max=1, supports=supports)
    return Translator(GatewayConfig(), info, advice)


@pytest.mark.parametrize(
    ("advised", "given", "temperature"),
    [(0.0, None, 1.0), (0.6, None, 0.6), (0.0, 0.3, 0.3), (0.6, 0.3, 0.3)],
)
def test_sampling_takes_the_models_temperature_unless_that_is_greedy(
    advised: float, given: float | None, temperature: float
) -> None:
    call = GenerateCall(prompt="p", do_sample=True, temperature=given)
    advice = SamplingAdvice(temperature=advised)
    asked, ignored = translator(advice=advice).call(call, model="m", chat=True)
    assert (asked.temperature, ignored) == (temperature, [])


def test_without_a_word_on_sampling_the_models_own_default_decides() -> None:
    asked, _ = translator().call(GenerateCall(prompt="p"), model="m", chat=True)
    assert asked.temperature is None


@pytest.mark.parametrize(("chat", "kind"), [(True, ChatCall), (False, TextCall)])
def test_a_call_becomes_one_of_the_dialect_that_its_prompt_is_of(
    chat: bool, kind: type[ChatCall | TextCall]
) -> None:
    asked, _ = translator().call(GenerateCall(prompt="p"), model="m", chat=chat)
    assert isinstance(asked, kind)
    assert (asked.model, asked.max_tokens) == ("m", 100)


def test_a_model_that_takes_no_text_is_asked_for_none() -> None:
    with pytest.raises(Invalid, match="takes no text"):
        translator(Feature.EMBEDDINGS).is_chat(GenerateCall(prompt="p"))


@pytest.mark.parametrize("raw", [b"1", b"null", b'["a"]', b'{"a":1}', b"true"])
def test_what_is_no_text_is_refused_with_its_place(raw: bytes) -> None:
    with pytest.raises(Invalid, match=r"prompts\[3\]: expected a string"):
        text_of(Raw(raw), 3)
    assert text_of(Raw(b'"\\u00e9"'), 3) == "é"
