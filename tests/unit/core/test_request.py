"""Which wishes are the same."""

from dataclasses import replace
from typing import Any

from forebay.core.request import Request, digest
from tests.support.requests import a_request


def led(model: str, adapter: str = "", **facts: Any) -> Request:
    """Return a request that a route, if it names one, has led to a model."""
    request = a_request(model=model, **facts)
    return replace(request, sampling=replace(request.sampling, adapter=adapter))


def test_what_a_client_sent_is_the_same_to_whichever_model_its_route_led() -> None:
    old, new = led("old", via="chat"), led("new:v2", "v2@1", via="chat")
    assert digest(old, by_route=True) == digest(new, by_route=True)
    assert digest(old, by_route=True) != digest(led("old", via="other"), by_route=True)


def test_the_answers_of_two_models_of_one_route_are_two() -> None:
    assert digest(led("old", via="chat")) != digest(led("new", via="chat"))


def test_an_answer_is_the_same_by_a_route_and_without_one() -> None:
    assert digest(led("old", via="chat")) == digest(led("old"))


def test_whoever_names_a_model_means_that_one() -> None:
    assert digest(led("old"), by_route=True) != digest(led("new"), by_route=True)
    versions = led("m", "v1@1"), led("m", "v2@1")
    assert digest(versions[0], by_route=True) != digest(versions[1], by_route=True)
