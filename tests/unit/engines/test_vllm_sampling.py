"""How sampling is said to vLLM: with its own classes, and without a model."""

import json
from typing import Any

import pytest

from forebay.core.request import JsonObject, JsonSchema, Sampling
from forebay.engine.protocol import Refused
from forebay.engines.vllm_sampling import refusal, sampling_params

vllm = pytest.importorskip("vllm", reason="vllm is not installed")

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]

ENDS = frozenset({2, 0})


def said(made: int = 0, **facts: Any) -> Any:
    how = Sampling(**({"tokens_max": 9, "seed": 7} | facts))
    return sampling_params(how, ends=ENDS, made=made)


def test_every_wish_arrives_under_the_librarys_name() -> None:
    params = said(
        tokens_min=3,
        temperature=0.7,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        presence_penalty=-1.0,
        frequency_penalty=1.5,
        logprobs=True,
    )
    found = (params.max_tokens, params.min_tokens, params.temperature, params.top_p, params.top_k)
    assert found == (9, 3, 0.7, 0.9, 40)
    rest = (params.min_p, params.presence_penalty, params.frequency_penalty, params.seed)
    assert rest == (0.1, -1.0, 1.5, 7)
    assert params.logprobs == 0  # those of the chosen token, and of no others
    assert params.stop_token_ids == [0, 2]
    assert params.structured_outputs is None


def test_text_is_not_the_librarys_business_and_tokens_come_as_they_are_made() -> None:
    params = said()
    assert params.detokenize is False
    assert params.output_kind.name == "DELTA"
    assert (params.n, params.stop, params.logprobs) == (1, [], None)


def test_what_is_off_by_default_stays_off() -> None:
    params = said()
    assert (params.top_p, params.top_k, params.min_p, params.temperature) == (1.0, 0, 0.0, 1.0)
    assert (params.presence_penalty, params.frequency_penalty) == (0.0, 0.0)
    assert params.repetition_penalty == 1.0


@pytest.mark.parametrize("temperature", [0.0, 0.001, 0.0099])
def test_hardly_any_temperature_is_greedy(temperature: float) -> None:
    assert said(temperature=temperature, top_p=0.5).temperature == 0.0


def test_ends_that_are_ignored_end_nothing_and_are_allowed_from_the_first_token() -> None:
    params = said(ignore_eos=True, tokens_min=5)
    assert params.ignore_eos
    assert (params.stop_token_ids, params.min_tokens) == ([], 0)


def test_what_goes_on_draws_other_numbers_than_its_beginning_did() -> None:
    seeds = [said(made=count, seed=2**63 - 1).seed for count in range(50)]
    assert seeds[0] == 2**63 - 1
    assert len(set(seeds)) == 50
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_grammars_arrive_as_schemas() -> None:
    assert json.loads(said(grammar=JsonObject()).structured_outputs.json) == {"type": "object"}
    schema = JsonSchema(schema='{"type":"boolean"}')
    assert json.loads(said(grammar=schema).structured_outputs.json) == {"type": "boolean"}


def test_a_grammar_that_is_no_schema_is_refused_by_name() -> None:
    with pytest.raises(Refused) as refused:
        said(grammar=JsonSchema(schema='{"type":7}'))
    assert refused.value.param == "response_format.json_schema.schema"


def test_what_the_library_refuses_itself_is_told_within_bounds() -> None:
    with pytest.raises(Refused, match="max_tokens must be at least 1") as refused:
        said(tokens_max=0)
    assert refused.value.param == "max_tokens"
    assert len(refusal(ValueError("x" * 9_000)).message) < 400
