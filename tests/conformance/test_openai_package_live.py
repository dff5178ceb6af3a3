"""The official `openai` package against a whole server with the `scripted` engine."""

import json
import operator
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.support.server import serving

WORDS = "one two three four five"
SPOKEN = WORDS + " "
"""What the engine makes of it: a space follows every word."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    folder = tmp_path_factory.mktemp("live")
    with (
        serving(folder, "--engine", "scripted") as server,
        OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30) as client,
    ):
        yield client


def asked(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_an_answer_has_exact_usage_and_its_finish_reason(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="scripted", messages=asked(WORDS))
    assert answer.choices[0].message.content == SPOKEN
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 5


def test_max_tokens_ends_with_length(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="scripted", messages=asked(WORDS), max_tokens=2)
    assert answer.choices[0].message.content == "one two "
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_a_stream_says_the_same_as_a_whole_answer(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="scripted", messages=asked(WORDS))
    with client.chat.completions.create(
        model="scripted",
        messages=asked(WORDS),
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == whole.choices[0].message.content
    assert whole.usage is not None
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_stop_text_ends_the_answer_and_is_not_in_it(client: OpenAI, stream: bool) -> None:
    if stream:
        chunks = client.completions.create(
            model="scripted", prompt=WORDS, stop=[" thr"], stream=True, max_tokens=50
        )
        found = [choice for chunk in chunks for choice in chunk.choices]
        text, reason = "".join(choice.text for choice in found), found[-1].finish_reason
    else:
        answer = client.completions.create(
            model="scripted", prompt=WORDS, stop=[" thr"], max_tokens=50
        )
        text, reason = answer.choices[0].text, answer.choices[0].finish_reason
    assert (text, reason) == ("one two", "stop")


def test_embeddings_are_nearer_the_more_words_they_share(client: OpenAI) -> None:
    said = ["a town in Texas", "a town in Texas", "a town in Ohio", "nothing alike"]
    answer = client.embeddings.create(model="scripted", input=said)
    assert [one.index for one in answer.data] == [0, 1, 2, 3]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0
    first, same, near, far = (one.embedding for one in answer.data)
    assert first == same
    likeness = [sum(map(operator.mul, first, other)) for other in (same, near, far)]
    assert likeness[0] == pytest.approx(1.0, abs=1e-6)
    assert likeness[0] > likeness[1] > likeness[2]
    plain = client.embeddings.create(model="scripted", input=said[0], encoding_format="float")
    assert plain.data[0].embedding == first


def test_an_input_that_does_not_fit_is_named(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.embeddings.create(model="scripted", input=["fits", "one two " * 20_000])
    assert refusal.value.param == "input[1]"
    assert "40000 tokens" in refusal.value.message


def test_a_client_that_gives_an_embedding_up_leaves_nothing_behind(client: OpenAI) -> None:
    with pytest.raises(openai.APITimeoutError):
        client.embeddings.create(model="scripted", input=["one", "two !hang"], timeout=0.5)
    ledger = str(client.base_url).removesuffix("/v1/") + "/admin/ledger"
    for _ in range(100):
        with urllib.request.urlopen(ledger, timeout=5) as page:
            books = json.load(page)
        held = [kind for kind, what in books["held"].items() if what["amount"]]
        if not books["in_flight"] and not held:
            break
        time.sleep(0.05)
    assert (books["in_flight"], held, books["imbalance"]) == (0, [], 0)


def test_each_of_two_choices_is_whole(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="scripted", messages=asked(WORDS), n=2)
    assert [choice.message.content for choice in answer.choices] == [SPOKEN, SPOKEN]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 10


def test_log_probabilities_cover_the_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="scripted", messages=asked(WORDS), logprobs=True)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    spelled = b"".join(bytes(token.bytes or []) for token in logprobs.content)
    assert spelled.decode() == SPOKEN
    assert len(logprobs.content) == 5


def test_exact_lengths_for_benchmarks(client: OpenAI) -> None:
    answer = client.completions.create(
        model="scripted",
        prompt=WORDS,
        max_tokens=64,
        extra_body={"ignore_eos": True, "min_tokens": 64},
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 64
    assert answer.choices[0].finish_reason == "length"


def test_what_the_engine_cannot_do_is_a_bad_request_error(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(
            model="scripted", messages=asked(WORDS), response_format={"type": "json_object"}
        )
    assert refusal.value.param == "response_format.type"


def test_a_prompt_longer_than_the_context_is_a_bad_request_error(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="scripted", messages=asked("word " * 60_000))


def test_an_engine_that_fails_in_mid_stream_is_an_error(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="scripted", messages=asked("one two !fail three"), stream=True
    )
    with pytest.raises(openai.APIError) as failure:
        list(stream)
    assert failure.value.code == "engine_error"
