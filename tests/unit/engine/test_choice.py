"""One choice: whole characters, no stop text, every token counted once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.core.request import FinishReason, Sampling
from forebay.engine.choice import Choice, ChoiceId, open_choice
from forebay.engine.protocol import SequenceId, StepOutput
from forebay.engine.stop_strings import StopTable
from forebay.engine.wire import Piece
from tests.support.step_engines import ByteTokenizer

STOP, LENGTH = FinishReason.STOP, FinishReason.LENGTH


def a_choice(
    *, stops: tuple[str, ...] = (), stream: bool = True, logprobs: bool = False, tokens_min: int = 0
) -> Choice:
    sampling = Sampling(stop=stops, logprobs=logprobs, tokens_min=tokens_min)
    table = StopTable(stops) if stops else None
    return open_choice(ChoiceId(7, 1), ByteTokenizer(), sampling, stops=table, stream=stream)


def an_output(text: bytes, reason: FinishReason | None = None, *, hidden: int = 0) -> StepOutput:
    odds = [-float(byte) for byte in text]
    return StepOutput(SequenceId(1), list(text), reason, odds, hidden)


def pieces_of(choice: Choice, *outputs: StepOutput) -> list[Piece]:
    found = []
    for output in outputs:
        piece = choice.take(output)
        if piece is not None:
            found.append(piece)
        if choice.stopped:
            break
    return found


def test_a_piece_says_whose_it_is() -> None:
    [piece] = pieces_of(a_choice(), an_output(b"a"))
    assert piece == Piece(7, "a", 1, 1, None, (), (97,))


def test_a_character_in_two_tokens_comes_with_the_second_and_counts_both() -> None:
    first, second = "é".encode()
    pieces = pieces_of(a_choice(), an_output(bytes([first])), an_output(bytes([second])))
    assert [(piece.text, piece.tokens) for piece in pieces] == [("é", 2)]


def test_half_a_character_at_the_end_is_shown_as_what_it_is() -> None:
    [piece] = pieces_of(a_choice(), an_output("é".encode()[:1], LENGTH))
    assert (piece.text, piece.tokens, piece.finish_reason) == ("\ufffd", 1, LENGTH)


def test_hidden_tokens_are_counted_with_the_last_piece() -> None:
    pieces = pieces_of(a_choice(), an_output(b"a"), an_output(b"", STOP, hidden=1))
    assert [(piece.text, piece.tokens) for piece in pieces] == [("a", 1), ("", 1)]


@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_text_is_cut_off_and_its_tokens_are_counted(*, stream: bool) -> None:
    choice = a_choice(stops=("!",), stream=stream)
    pieces = pieces_of(choice, an_output(b"ab"), an_output(b"c!d"))
    assert "".join(piece.text for piece in pieces) == "abc"
    assert sum(piece.tokens for piece in pieces) == 4
    assert pieces[-1].finish_reason is STOP
    assert choice.stopped


def test_a_stop_text_beats_the_limit_that_is_reached_with_it() -> None:
    [piece] = pieces_of(a_choice(stops=("!",)), an_output(b"a!", LENGTH))
    assert (piece.text, piece.finish_reason) == ("a", STOP)


def test_what_is_held_back_comes_out_at_the_end() -> None:
    choice = a_choice(stops=("xyz",))
    pieces = pieces_of(choice, an_output(b"axy"), an_output(b"", LENGTH))
    assert [piece.text for piece in pieces] == ["a", "xy"]
    assert sum(piece.tokens for piece in pieces) == 3


def test_stop_texts_are_not_looked_for_before_min_tokens() -> None:
    choice = a_choice(stops=("!",), tokens_min=3)
    pieces = pieces_of(choice, an_output(b"a!"), an_output(b"b!c"))
    assert "".join(piece.text for piece in pieces) == "a!b"


def test_logprobs_stand_with_the_piece_in_which_their_token_begins() -> None:
    choice = a_choice(stops=("xyz",), logprobs=True)
    outputs = [an_output(b"a"), an_output(b"x"), an_output(b"b"), an_output(b"", LENGTH)]
    pieces = pieces_of(choice, *outputs)
    said = [(piece.text, [entry.text for entry in piece.logprobs]) for piece in pieces]
    assert said == [("a", ["a"]), ("xb", ["x", "b"]), ("", [])]
    assert pieces[0].logprobs[0].logprob == -float(ord("a"))


def test_logprobs_of_a_stop_text_are_not_reported() -> None:
    choice = a_choice(stops=("xy",), logprobs=True)
    pieces = pieces_of(choice, an_output(b"axy"))
    assert [entry.text for piece in pieces for entry in piece.logprobs] == ["a"]
    assert sum(piece.tokens for piece in pieces) == 3


TEXTS = st.text(alphabet="abé日", max_size=20)


@given(TEXTS, st.booleans(), st.booleans(), st.data())
def test_text_tokens_and_logprobs_add_up_however_it_is_made(
    text: str,
    stream: bool,
    logprobs: bool,
    data: st.DataObject,
) -> None:
    said = text.encode()
    stops = data.draw(st.sampled_from([(), ("a日",), ("never",)]))
    choice = a_choice(stops=stops, stream=stream, logprobs=logprobs)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=8)))
    parts = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    outputs = [*map(an_output, parts), an_output(b"", LENGTH, hidden=1)]
    pieces = pieces_of(choice, *outputs)
    expected = text.partition("a日")[0] if "a日" in stops else text
    assert "".join(piece.text for piece in pieces) == expected
    assert [piece.finish_reason for piece in pieces[:-1]] == [None] * (len(pieces) - 1)
    if expected == text:
        assert sum(piece.tokens for piece in pieces) == len(said) + 1
    if not stream:
        assert len(pieces) == 1
    if logprobs:
        entries = [entry for piece in pieces for entry in piece.logprobs]
        assert b"".join(entry.utf8 for entry in entries) == expected.encode()
