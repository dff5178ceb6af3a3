"""Advice on retries, from the one table of outcomes."""

import json

import pytest

from forebay.core.errors import OUTCOMES, EngineError, Invalid, Outcome, Overloaded, ServingError
from forebay.gateway import problems


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_says_whether_to_retry(outcome: Outcome) -> None:
    error = ServingError("A text.")
    error.outcome = outcome
    headers = dict(problems.headers(error))
    later = OUTCOMES[outcome].retry.startswith("after")
    assert headers[b"x-should-retry"] == (b"true" if later else b"false")
    assert (b"retry-after" in headers) is later
    assert (b"retry-after-ms" in headers) is later


@pytest.mark.parametrize(
    ("seconds", "whole", "milliseconds"),
    [(None, b"1", b"1000"), (0.0, b"1", b"1"), (0.25, b"1", b"250"), (2.001, b"3", b"2001")],
)
def test_advice_is_rounded_up(seconds: float | None, whole: bytes, milliseconds: bytes) -> None:
    headers = dict(problems.headers(Overloaded("Full.", retry_after_s=seconds)))
    assert headers[b"retry-after"] == whole
    assert headers[b"retry-after-ms"] == milliseconds


def test_a_frame_is_one_event_and_the_end() -> None:
    frame = problems.frame(EngineError("Lost.\n\ndata: [DONE]"))
    event, done, rest = frame.split(b"\n\n")
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "engine_error"
    assert (done, rest) == (b"data: [DONE]", b"")


def test_a_message_is_bounded() -> None:
    body = json.loads(problems.openai_body(Invalid("x" * 5_000)))
    assert len(body["error"]["message"]) == 1_000
