"""What a library would fail at in the middle of a step is refused before it is asked."""

import math
from typing import Any

import pytest

from forebay.core.request import JsonObject, JsonSchema, Sampling
from forebay.engine.protocol import EVERY_ENGINE, EngineInfo, Feature, Refused
from forebay.engines.sampling_bounds import check_prompt, check_sampling, schema_of

INFO = EngineInfo(
    name="any",
    context_tokens_max=100,
    running_max=4,
    supports=frozenset(),
    vocabulary_size=50,
)
PLAIN = Sampling(tokens_max=10, seed=1)


@pytest.mark.parametrize(
    ("prompt", "tokens_max", "param"),
    [
        ([], 10, "prompt"),
        ([50], 10, "prompt"),
        ([-1], 10, "prompt"),
        ([1] * 91, 10, "max_tokens"),
        ([1] * 100, 1, "max_tokens"),
        ([1], 0, "max_tokens"),
        ([1], -1, "max_tokens"),
        ([1], 10**9, "max_tokens"),
    ],
)
def test_a_prompt_that_does_not_fit_is_refused(
    prompt: list[int], tokens_max: int, param: str
) -> None:
    with pytest.raises(Refused) as refusal:
        check_prompt(prompt, Sampling(tokens_max=tokens_max, seed=1), INFO)
    assert refusal.value.param == param


def test_a_prompt_may_fill_the_context_but_for_what_is_to_come() -> None:
    check_prompt([49] * 90, PLAIN, INFO)


def test_no_more_tokens_can_be_demanded_than_are_allowed() -> None:
    with pytest.raises(Refused) as refusal:
        check_prompt([1], Sampling(tokens_max=10, tokens_min=11), INFO)
    assert refusal.value.param == "min_tokens"


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("temperature", {"temperature": -0.1}),
        ("temperature", {"temperature": math.nan}),
        ("temperature", {"temperature": math.inf}),
        ("temperature", {"temperature": 2.5}),
        ("top_p", {"top_p": 0.0}),
        ("top_p", {"top_p": 1.1}),
        ("top_k", {"top_k": -1}),
        ("min_p", {"min_p": 1.0}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**63}),
        ("presence_penalty", {"presence_penalty": 2.1}),
        ("frequency_penalty", {"frequency_penalty": -2.1}),
        ("ignore_eos", {"ignore_eos": True, "grammar": JsonSchema(schema="{}")}),
        ("min_tokens", {"tokens_min": 2, "grammar": JsonSchema(schema="{}")}),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_by_name(
    param: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refusal:
        check_sampling(Sampling(tokens_max=10, **fields), EVERY_ENGINE, temperature_max=2.0)
    assert refusal.value.param == param
    assert param in str(refusal.value)


@pytest.mark.parametrize(
    ("lacking", "param", "fields"),
    [
        (Feature.PRESENCE_PENALTY, "presence_penalty", {"presence_penalty": 0.1}),
        (Feature.FREQUENCY_PENALTY, "frequency_penalty", {"frequency_penalty": -0.1}),
        (Feature.LOGPROBS, "logprobs", {"logprobs": True}),
        (Feature.ADAPTERS, "model", {"adapter": "poet"}),
        (Feature.JSON_OBJECT, "response_format", {"grammar": JsonObject()}),
        (Feature.JSON_SCHEMA, "response_format", {"grammar": JsonSchema(schema="{}")}),
    ],
)
def test_what_an_engine_has_not_is_refused_and_what_it_has_is_taken(
    lacking: Feature, param: str, fields: dict[str, Any]
) -> None:
    how, everything = Sampling(tokens_max=10, **fields), frozenset(Feature)
    check_sampling(how, everything)
    with pytest.raises(Refused) as refusal:
        check_sampling(how, everything - {lacking})
    assert refusal.value.param == param


def test_a_schema_that_is_not_enforced_is_refused_with_its_place() -> None:
    wrong = JsonSchema(schema='{"type":"object","properties":{"a":3}}')
    with pytest.raises(Refused, match="response_format") as refusal:
        schema_of(wrong)
    assert refusal.value.param == "response_format.json_schema.schema.properties.a"
