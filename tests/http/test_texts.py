"""Completions over HTTP: what differs from chat."""

from typing import Any

import pytest

from forebay.core.request import (
    Delta,
    Finished,
    FinishReason,
    Route,
    Text,
    TokenIds,
    TokenLogprob,
    Usage,
)
from forebay.engine.protocol import Feature
from tests.support.gateways import a_stage, said


async def test_a_whole_answer_has_openais_shape() -> None:
    stage = a_stage(said("Hello", " world"))
    body = (await stage.text("Say hello")).json
    assert body["id"].startswith("cmpl-")
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "Hello world", "logprobs": None, "finish_reason": "stop"}
    ]
    assert body["usage"]["total_tokens"] == 7
    assert stage.record.route is Route.COMPLETIONS


@pytest.mark.parametrize(
    ("prompt", "taken"),
    [
        ("a", Text(text="a")),
        (["a"], Text(text="a")),
        ([1, 499], TokenIds(ids=(1, 499))),
        ([[0, 2]], TokenIds(ids=(0, 2))),
    ],
)
async def test_a_prompt_is_one_text_or_one_array_of_ids(prompt: Any, taken: object) -> None:
    stage = a_stage()
    assert (await stage.text(prompt)).status == 200
    assert stage.engine.asked[0].prompt == taken


async def test_sixteen_tokens_are_made_unless_more_are_asked_for() -> None:
    stage = a_stage()
    await stage.text()
    await stage.text(max_tokens=50)
    assert [request.sampling.tokens_max for request in stage.engine.asked] == [16, 50]


async def test_logprobs_0_reports_the_chosen_tokens() -> None:
    odds = (TokenLogprob("a", b"a", -1.0), TokenLogprob("b", b"b", -2.0))
    stage = a_stage([Delta("ab", 2, 0, FinishReason.STOP, odds), Finished(Usage(1, 2))])
    answer = await stage.text(logprobs=0)
    assert stage.engine.asked[0].sampling.logprobs
    assert answer.json["choices"][0]["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-1.0, -2.0],
        "top_logprobs": None,
        "text_offset": [0, 1],
    }


async def test_best_of_the_value_of_n_is_taken() -> None:
    acts = [Delta("a", choice=0), Delta("b", choice=1), Finished(Usage(1, 2))]
    answer = await a_stage(acts).text(n=2, best_of=2)
    assert [choice["text"] for choice in answer.json["choices"]] == ["a", "b"]


@pytest.mark.parametrize(
    ("prompt", "lacking", "words"),
    [("a", Feature.TEXT, "takes no plain text"), ([1], Feature.TOKEN_IDS, "takes no token ids")],
)
async def test_a_kind_of_prompt_that_the_engine_cannot_take_is_refused(
    prompt: object, lacking: Feature, words: str
) -> None:
    stage = a_stage(supports=frozenset(Feature) - {lacking})
    answer = await stage.text(prompt)
    assert answer.status == 400
    assert answer.json["error"]["param"] == "prompt"
    assert words in answer.json["error"]["message"]
