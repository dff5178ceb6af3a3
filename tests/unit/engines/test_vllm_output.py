"""What vLLM says of a sequence after a step: its own classes, filled by hand."""

from typing import Any

import pytest

from forebay.core.request import FinishReason, JsonObject, Sampling
from forebay.engine.protocol import StepOutput
from forebay.engines.vllm_output import read_output

vllm = pytest.importorskip("vllm", reason="vllm is not installed")

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PLAIN = Sampling(tokens_max=9)
WITH_ODDS = Sampling(tokens_max=9, logprobs=True)


def told(token_ids: list[int], reason: str | None = None, odds: list[float] | None = None) -> Any:
    from vllm.logprobs import Logprob  # noqa: PLC0415 - heavy
    from vllm.outputs import CompletionOutput, RequestOutput  # noqa: PLC0415 - heavy

    # The likeliest token stands beside the chosen one where that is another.
    logprobs: Any = odds and [
        {token: Logprob(logprob=value, rank=2), 99: Logprob(logprob=-0.1, rank=1)}
        for token, value in zip(token_ids, odds, strict=True)
    ]
    made = CompletionOutput(
        index=0,
        text="",
        token_ids=token_ids,
        cumulative_logprob=None,
        logprobs=logprobs,
        finish_reason=reason,
    )
    return RequestOutput(
        request_id="41",
        prompt=None,
        prompt_token_ids=[1],
        prompt_logprobs=None,
        outputs=[made],
        finished=reason is not None,
    )


def test_new_tokens_are_passed_on() -> None:
    assert read_output(told([5, 6]), PLAIN) == StepOutput(41, [5, 6], logprobs=[])  # type: ignore[arg-type]  # a whole number is an id


def test_each_token_has_its_own_odds_and_not_the_likeliests() -> None:
    output = read_output(told([5, 6], odds=[-1.5, -2.5]), WITH_ODDS)
    assert output.logprobs == [-1.5, -2.5]


def test_an_answer_at_its_limit_shows_all_its_tokens() -> None:
    output = read_output(told([5], "length"), PLAIN)
    assert (output.token_ids, output.finish_reason) == ([5], FinishReason.LENGTH)
    assert output.tokens_hidden == 0


def test_the_token_that_ends_an_answer_is_counted_but_not_shown() -> None:
    output = read_output(told([5, 2], "stop", odds=[-1.0, -2.0]), WITH_ODDS)
    assert (output.token_ids, output.finish_reason) == ([5], FinishReason.STOP)
    assert (output.tokens_hidden, output.logprobs) == (1, [-1.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_odds_that_are_no_number_fail_the_sequence(value: float) -> None:
    output = read_output(told([5], odds=[value]), WITH_ODDS)
    assert "overflowed" in (output.failure or "")
    assert (list(output.token_ids), output.finish_reason) == ([], None)


def test_what_the_library_gives_up_fails_with_the_reason_for_the_client() -> None:
    assert "could not go on" in (read_output(told([], "error"), PLAIN).failure or "")
    grammar = Sampling(tokens_max=9, grammar=JsonObject())
    assert "grammar" in (read_output(told([], "error"), grammar).failure or "")
