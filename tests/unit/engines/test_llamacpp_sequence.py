"""What llama.cpp's lines mean for a sequence: no library needed."""

from typing import Any

import pytest

from forebay.core.request import FinishReason, Sampling
from forebay.engine.protocol import SequenceId, StepOutput
from forebay.engines.llamacpp_characters import SplitCharacters
from forebay.engines.llamacpp_completion import Told
from forebay.engines.llamacpp_sequence import Generation, Marks

WORDS = [b"", b"", b"", b"a", b"b", b"\xc3", b"\xa9"]
MARKS = Marks(
    ends=frozenset({0}),
    silent=frozenset({0, 1, 2}),
    characters=SplitCharacters(WORDS.__getitem__, len(WORDS)),
)


def a_sequence(**facts: Any) -> Generation:
    known: dict[str, Any] = {
        "id": SequenceId(1),
        "prompt": [3],
        "sampling": Sampling(),
        "schema": None,
        "made": [],
        "tokens_max": 10,
        "tokens_min": 0,
    }
    return Generation(**(known | facts))


def heard(sequence: Generation, *lines: Told) -> list[StepOutput]:
    outputs = [sequence.hear(line, MARKS) for line in lines]
    return [output for output in outputs if output is not None]


def word(token: int, made: int, text: str | None = None) -> Told:
    shown = WORDS[token].decode() if text is None else text
    return Told(token_ids=(token,), made=made, text=shown)


def test_each_line_is_a_token() -> None:
    sequence = a_sequence()
    outputs = heard(sequence, word(3, 1), word(4, 2), Told(made=2, stop_type="limit"))
    assert [list(output.token_ids) for output in outputs] == [[3], [4], []]
    assert outputs[-1].finish_reason is FinishReason.LENGTH
    assert sequence.made == [3, 4]


def test_a_token_that_ends_the_answer_is_counted_and_not_shown() -> None:
    first, last = heard(a_sequence(), word(3, 1), word(0, 2))
    assert (first.finish_reason, last.finish_reason) == (None, FinishReason.STOP)
    assert (list(last.token_ids), last.tokens_hidden) == ([], 1)


def test_a_silent_token_is_hidden_if_the_library_ends_with_it_and_shown_if_not() -> None:
    (ended,) = heard(a_sequence(), word(1, 1), Told(made=1, stop_type="eos"))
    assert (list(ended.token_ids), ended.tokens_hidden) == ([], 1)
    (shown,) = heard(a_sequence(), word(1, 1), word(3, 2))
    assert (list(shown.token_ids), shown.tokens_hidden) == ([1, 3], 0)
    (cut,) = heard(a_sequence(), word(1, 1), Told(made=1, stop_type="limit"))
    assert (list(cut.token_ids), cut.tokens_hidden) == ([1], 0)


def test_tokens_within_a_character_come_with_the_one_that_completes_it() -> None:
    (output,) = heard(a_sequence(), word(6, 2, text="é"))
    assert list(output.token_ids) == [5, 6]


def test_tokens_that_are_never_told_are_counted_at_the_limit() -> None:
    first, last = heard(a_sequence(), word(3, 1), Told(made=2, stop_type="limit"))
    assert len(first.token_ids) + len(last.token_ids) == 2


def test_an_end_that_was_never_told_is_hidden() -> None:
    (output,) = heard(a_sequence(), Told(made=2, stop_type="eos"))
    assert (len(output.token_ids), output.tokens_hidden) == (1, 1)


@pytest.mark.parametrize("tokens_min", [2, 3])
def test_from_its_least_length_on_it_is_asked_for_with_an_end(tokens_min: int) -> None:
    sequence = a_sequence(tokens_min=tokens_min)
    assert sequence.go_on().endless
    heard(sequence, *[word(3, number + 1) for number in range(tokens_min - 1)])
    assert not sequence.may_end_now
    heard(sequence, word(4, tokens_min))
    assert sequence.may_end_now
    asked = sequence.go_on()
    assert (asked.endless, asked.tokens_max) == (False, 10 - tokens_min)
    assert not sequence.may_end_now
    (output,) = heard(sequence, word(6, 2, text="é"))
    assert list(output.token_ids) == [5, 6]


def test_what_ignores_ends_is_never_asked_anew() -> None:
    sequence = a_sequence(sampling=Sampling(ignore_eos=True), tokens_min=1)
    assert sequence.go_on().endless
    heard(sequence, word(3, 1))
    assert not sequence.may_end_now


def test_the_rest_of_an_answer_counts_what_is_there() -> None:
    sequence = a_sequence(made=[3, 4], tokens_max=5)
    asked = sequence.go_on()
    assert (list(asked.made), asked.tokens_max, sequence.tokens_reserved) == ([3, 4], 3, 6)
