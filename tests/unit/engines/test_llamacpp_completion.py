"""How sampling is said to llama.cpp's server, and how its lines are read: no library needed."""

import json
from typing import Any

import pytest

from forebay.core.request import JsonObject, JsonSchema, Sampling
from forebay.engines.llamacpp_completion import (
    Asked,
    Told,
    fold_seed,
    read_line,
    spaced_schema_of,
    wish,
)

ENDS = (0, 2)


def body(sampling: Sampling, **facts: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "prompt": [5, 6, 5],
        "made": [],
        "tokens_max": 9,
        "endless": False,
        "schema": None,
    }
    asked = Asked(**(known | facts))
    found: dict[str, Any] = json.loads(wish(asked, sampling, ends=ENDS, prefix_cache=True))
    return found


def test_a_prompt_goes_on_with_what_was_made_before() -> None:
    found = body(Sampling(), made=[7, 8], tokens_max=4)
    assert found["prompt"] == [5, 6, 5, 7, 8]
    assert found["n_predict"] == 4


def test_every_wish_is_said() -> None:
    how = Sampling(temperature=0.7, top_p=0.9, top_k=40, min_p=0.05, seed=11, frequency_penalty=0.5)
    found = body(how)
    assert (found["temperature"], found["top_p"], found["top_k"]) == (0.7, 0.9, 40)
    assert (found["min_p"], found["seed"], found["frequency_penalty"]) == (0.05, 11, 0.5)
    assert found["samplers"] == ["penalties", "temperature", "top_k", "top_p", "min_p"]


def test_what_was_not_wished_is_off_and_not_the_librarys_default() -> None:
    found = body(Sampling())
    assert (found["temperature"], found["top_p"], found["top_k"], found["min_p"]) == (1, 1, 0, 0)
    assert (found["typical_p"], found["repeat_penalty"], found["dry_multiplier"]) == (1, 1, 0)
    assert (found["xtc_probability"], found["mirostat"], found["presence_penalty"]) == (0, 0, 0)


@pytest.mark.parametrize("temperature", [0.0, 1e-5])
def test_greedy_leaves_nothing_to_chance(temperature: float) -> None:
    found = body(Sampling(temperature=temperature, top_p=0.5, top_k=7, min_p=0.2))
    assert found["temperature"] == 0.0
    assert found["samplers"] == ["penalties", "temperature"]


def test_the_frequency_penalty_takes_the_prompts_tokens_out_of_the_librarys_count() -> None:
    found = body(Sampling(frequency_penalty=0.5), made=[5])
    assert found["logit_bias"] == [[5, 1.0], [6, 0.5]]
    assert found["repeat_last_n"] == 3 + 1 + 9


def test_an_answer_that_may_not_end_is_kept_from_every_end() -> None:
    found = body(Sampling(), endless=True)
    assert found["ignore_eos"] is True
    assert found["logit_bias"] == [[0, False], [2, False]]
    assert body(Sampling())["logit_bias"] == []


def test_seeds_stay_apart_in_32_bits_and_are_never_the_one_that_means_any() -> None:
    seeds = [0, 1, 2**32 - 1, 2**32, 2**62 + 5, 2**63 - 1]
    folded = [fold_seed(seed, 0) for seed in seeds]
    assert all(0 <= seed < 2**32 - 1 for seed in folded)
    assert fold_seed(5, 0) != fold_seed(6, 0)
    assert fold_seed(5, 0) != fold_seed(5, 12)


def test_a_schema_bounds_the_space_between_values() -> None:
    (schema,) = [spaced_schema_of(JsonSchema(schema='{"type":"boolean"}'))]
    assert schema is not None
    compiled = json.loads(schema)
    assert compiled["type"] == "boolean"
    assert compiled["x-guidance"] == {"whitespace_pattern": "( |\\n {0,16})?"}
    assert body(Sampling(), schema=schema)["json_schema"] == compiled
    assert spaced_schema_of(None) is None
    assert json.loads(spaced_schema_of(JsonObject()) or "")["type"] == "object"


def test_a_line_tells_tokens_and_how_many_there_are() -> None:
    line = b'{"choices":[],"__verbose":{"content":" a","tokens":[7],"tokens_predicted":3}}'
    assert read_line(line) == Told(token_ids=(7,), made=3, text=" a")


def test_the_last_line_tells_why() -> None:
    line = b'{"choices":[],"__verbose":{"stop_type":"eos","tokens_predicted":8},"timings":{}}'
    assert read_line(line) == Told(made=8, stop_type="eos")


def test_how_far_a_prompt_was_read_tells_nothing_of_tokens() -> None:
    line = (
        b'{"__verbose":{"tokens":[0],"tokens_predicted":0,"prompt_progress":'
        b'{"total":37,"cache":0,"processed":0,"time_ms":0}}}'
    )
    assert read_line(line) == Told()


@pytest.mark.parametrize("line", [b"", b"[DONE]", b'{"__verbose":{"tokens":"x"}}'])
def test_a_line_that_is_not_understood_is_a_failure(line: bytes) -> None:
    assert read_line(line).failure == "a line that is not understood"


def test_an_error_is_told_without_what_a_client_wrote() -> None:
    line = b'{"error":{"code":400,"message":"secret prompt","type":"invalid_request_error"}}'
    assert read_line(line).failure == "400 invalid_request_error"
