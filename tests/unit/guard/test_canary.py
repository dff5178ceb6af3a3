"""Secret words, and the watch for one in a stream of pieces."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from forebay.guard.canary import Canaries, Watch


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


def test_a_tenants_word_is_its_own_and_stays() -> None:
    canaries = Canaries(b"secret")
    assert canaries.of("a") == canaries.of("a")
    assert len({canaries.of("a"), canaries.of("b"), Canaries(b"other").of("a")}) == 3
    assert len(canaries.of("a")) == 25


@given(st.text("ZAB ", max_size=40), st.lists(st.integers(0, 50), max_size=8))
def test_a_text_without_the_word_comes_through_whole(text: str, cuts: list[int]) -> None:
    word = "ZABZAA"
    watch = Watch(word)
    shown = ""
    for piece in pieces_of(text.replace(word, ""), cuts):
        more = watch.push(piece)
        if more is None:
            assert word in text.replace(word, ""), "there was a word only if taking one made one"
            return
        shown += more
        assert len(watch.held) < len(word)
        assert word.startswith(watch.held)
    assert shown + watch.held == text.replace(word, "")


@given(st.text("ZAB ", max_size=20), st.text("ZAB ", max_size=20), st.lists(st.integers(0, 50)))
def test_the_word_is_found_however_it_is_cut_and_nothing_of_it_is_shown(
    before: str, after: str, cuts: list[int]
) -> None:
    word = "ZABZAA"
    text = before + word + after
    watch = Watch(word)
    shown = ""
    for piece in pieces_of(text, cuts):
        more = watch.push(piece)
        if more is None:
            assert text.startswith(shown)
            assert len(shown) <= text.index(word)
            return
        shown += more
    raise AssertionError("the word passed unseen")
