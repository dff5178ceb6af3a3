"""Stop texts: the answer does not depend on how it arrives, and nothing of them leaks."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.engine.stop_strings import StopFilter, StopTable

TEXTS = st.text(alphabet="ab", max_size=40)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=6), min_size=1, max_size=5)


def run(stops: Sequence[str], pieces: Sequence[str]) -> tuple[list[str], bool]:
    """Return what is let through, piece by piece, and whether a stop text was met."""
    filtering, said = StopFilter(StopTable(stops)), []
    for piece in pieces:
        said.append(filtering.push(piece))
        if filtering.stopped:
            return said, True
    return [*said, filtering.flush()], False


def expected(stops: Sequence[str], text: str) -> tuple[str, bool]:
    """The slow way: the stop text complete first wins; of those, the longest."""
    for end in range(1, len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)], True
    return text, False


@given(STOPS, TEXTS, st.data())
def test_the_answer_is_that_of_the_slow_way_however_it_is_cut(
    stops: list[str], text: str, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    said, stopped = run(stops, pieces)
    assert ("".join(said), stopped) == expected(stops, text)


@given(STOPS, TEXTS)
def test_what_is_let_through_never_ends_in_the_beginning_of_a_stop_text(
    stops: list[str], text: str
) -> None:
    filtering = StopFilter(StopTable(stops))
    said = ""
    for character in text:
        said += filtering.push(character)
        if filtering.stopped:
            return
        beginnings = {stop[:n] for stop in stops for n in range(1, len(stop))}
        whole = said + "·" * filtering.held
        assert len(whole) <= len(text)
        pending = text[len(said) : len(said) + filtering.held]
        assert pending == "" or any(pending.endswith(beginning) for beginning in beginnings)


def test_a_beginning_is_held_back_and_let_go_when_it_goes_on_otherwise() -> None:
    said, stopped = run(["STOP"], ["a ST", "O", "RM"])
    assert (said, stopped) == (["a ", "", "STORM", ""], False)


def test_a_beginning_at_the_end_is_part_of_the_answer() -> None:
    assert run(["STOP"], ["a STO"]) == (["a ", "STO"], False)


def test_a_stop_text_across_pieces_is_found() -> None:
    assert run(["STOP"], ["go S", "TO", "P now"]) == (["go ", "", ""], True)


def test_the_text_complete_first_wins() -> None:
    assert run(["abcd", "bc"], ["xabcd"]) == (["xa"], True)


def test_of_texts_complete_at_once_the_longest_wins() -> None:
    assert run(["cd", "bcd"], ["abcd"]) == (["a"], True)


def test_a_stop_text_inside_a_beginning_of_another_is_found() -> None:
    assert run(["aab", "a"], ["xa"]) == (["x"], True)


def test_characters_beyond_ascii_are_one_character_each() -> None:
    assert run(["日本"], ["今日", "本日"]) == (["今", ""], True)


@pytest.mark.parametrize("stops", [["x" * 500], [f"{n:03}" for n in range(64)]])
def test_a_long_text_costs_no_more_with_many_or_long_stop_texts(stops: list[str]) -> None:
    table = StopTable(stops)
    assert len(table.after) <= 1 + sum(map(len, stops))
    filtering = StopFilter(table)
    said = "".join(filtering.push("xyz ") for _ in range(1_000))
    assert said + filtering.flush() == "xyz " * 1_000


def test_an_empty_stop_text_is_a_defect() -> None:
    with pytest.raises(AssertionError):
        StopTable(["a", ""])
