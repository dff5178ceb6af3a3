"""Tokens of which llama.cpp tells nothing are found by their bytes."""

import pytest

from forebay.engines.llamacpp_characters import SplitCharacters

VOCABULARY = [
    *(b"a", b" ", b"\xf0", b"\x9f", b"\x98", b"\x80", b"\xf0\x9f", b" \xf0\x9f", b"", b"\xa9"),
    *(b"\x9f\x98", b"\x98\x80", b"\x80\xf0\x9f"),
]
SMILE = "\U0001f600"  # f0 9f 98 80


@pytest.fixture
def characters() -> SplitCharacters:
    return SplitCharacters(VOCABULARY.__getitem__, len(VOCABULARY))


@pytest.mark.parametrize(
    ("text", "last", "count", "found"),
    [
        (SMILE, 5, 2, [6, 4]),
        (SMILE, 5, 3, [2, 3, 4]),
        (f" {SMILE}", 5, 2, [7, 4]),
        # Not 6, 11, 6, 4: a token that ends a character is told at once.
        (SMILE + SMILE, 5, 4, [6, 4, 12, 4]),
    ],
)
def test_the_tokens_before_the_last_are_those_that_make_the_text(
    characters: SplitCharacters, text: str, last: int, count: int, found: list[int]
) -> None:
    assert characters.between(text, last, count) == found


def test_where_the_text_does_not_fit_the_count_is_kept(characters: SplitCharacters) -> None:
    for text, last, count in ((SMILE, 5, 9), ("\ufffd", 9, 2), ("a", 8, 1), (SMILE, 0, 1)):
        found = characters.between(text, last, count)
        assert len(found) == count
        assert b"a" not in [VOCABULARY[token] for token in found]


def test_an_unknown_token_is_no_character(characters: SplitCharacters) -> None:
    (token,) = characters.unknown(1)
    with pytest.raises(UnicodeDecodeError):
        VOCABULARY[token].decode()
