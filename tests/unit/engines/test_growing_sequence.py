"""How a sequence grows and ends, token by token."""

from typing import Any

import pytest

from forebay.core.request import FinishReason, Sampling
from forebay.engine.protocol import SequenceId
from forebay.engines.growing_sequence import GrowingSequence

END = frozenset({2, 9})


def begun(*made: int, **how: Any) -> GrowingSequence:
    sampling = Sampling(**{"tokens_max": 3, "seed": 1} | how)
    return GrowingSequence.begun(SequenceId(7), [5, 6], sampling, made=made)


def test_what_another_engine_made_is_part_of_the_answer_and_limits_count_what_is_left() -> None:
    sequence = begun(8, 8, tokens_min=1)
    assert (sequence.tokens, sequence.made) == ([5, 6, 8, 8], [8, 8])
    assert (sequence.end_least, sequence.end_most) == (5, 7)


def test_it_ends_at_its_length() -> None:
    sequence = begun(tokens_max=2)
    first, second = (sequence.grow(token, None, ends=END) for token in (3, 4))
    assert (first.id, first.token_ids, first.finish_reason) == (7, (3,), None)
    assert (second.token_ids, second.finish_reason) == ((4,), FinishReason.LENGTH)
    assert sequence.made == [3, 4]


def test_the_token_that_ends_it_is_counted_and_not_shown() -> None:
    output = begun().grow(9, -0.5, ends=END)
    assert (output.token_ids, output.tokens_hidden) == ((), 1)
    assert (output.finish_reason, output.logprobs) == (FinishReason.STOP, ())


def test_whoever_ignores_ends_is_shown_them_and_goes_on() -> None:
    output = begun(ignore_eos=True).grow(9, None, ends=END)
    assert (output.token_ids, output.finish_reason) == ((9,), None)


@pytest.mark.parametrize(("logprob", "told"), [(-0.5, (-0.5,)), (None, ())])
def test_odds_are_told_where_they_are_known(logprob: float | None, told: tuple[float, ...]) -> None:
    assert begun().grow(3, logprob, ends=END).logprobs == told


def test_ends_are_banned_until_it_is_long_enough() -> None:
    sequence = begun(tokens_min=1)
    assert sequence.banned(END) == [2, 9]
    sequence.grow(3, None, ends=END)
    assert not sequence.banned(END)
    assert not begun(tokens_min=1, ignore_eos=True).banned(END)
