import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.accounts.api_key import LENGTH, PREFIX, digest, is_id, make, parse

BASE62 = set(string.digits + string.ascii_letters)
KEY = make()


def test_a_key_is_read_as_the_one_that_was_made() -> None:
    assert parse(KEY.text) == KEY.id
    assert KEY.text.startswith(f"fb_live_{KEY.id}")
    assert len(KEY.text) == LENGTH == 52
    assert set(KEY.text[len(PREFIX) :]) <= BASE62


def test_keys_differ_and_use_every_letter() -> None:
    texts = [make().text for _ in range(500)]
    assert len(set(texts)) == 500
    assert {letter for text in texts for letter in text[len(PREFIX) : -6]} == BASE62


def test_a_rotated_key_keeps_its_id_and_nothing_else() -> None:
    other = make(KEY.id)
    assert other.id == KEY.id
    assert other.text[18:] != KEY.text[18:]


@given(st.integers(0, LENGTH - 1), st.sampled_from(sorted(BASE62 | {"_", "-", " ", "é", "\0"})))
def test_a_key_with_one_letter_changed_is_none(place: int, letter: str) -> None:
    text = KEY.text[:place] + letter + KEY.text[place + 1 :]
    assert parse(text) == (KEY.id if text == KEY.text else None)


@given(st.text(max_size=80))
def test_no_text_at_all_is_an_error(text: str) -> None:
    assert parse(text) is None
    assert parse(PREFIX + text) is None


@pytest.mark.parametrize(
    "text",
    ["", PREFIX, KEY.text + "\n", " " + KEY.text, KEY.text[:-1], KEY.text.upper(), KEY.text * 2],
    ids=["nothing", "prefix", "line end", "blank", "cut", "upper case", "twice"],
)
def test_what_is_nearly_a_key_is_none(text: str) -> None:
    assert parse(text) is None


def test_letters_and_digits_of_other_scripts_are_none() -> None:
    assert parse(KEY.text[:-1] + "٣") is None
    assert not is_id("٣" * 10)


def test_what_is_kept_is_the_sha_256_of_the_whole() -> None:
    assert KEY.digest == digest(KEY.text) == hashlib.sha256(KEY.text.encode()).hexdigest()


def test_the_last_four_letters_are_of_the_proof_and_not_of_the_check() -> None:
    assert KEY.last4 == KEY.text[42:46]


def test_a_key_does_not_show_itself() -> None:
    assert KEY.text not in repr(KEY)
    assert KEY.text[18:] not in f"{KEY}"


def test_the_check_is_always_the_same_for_the_same_text() -> None:
    # Written down once: keys that were given out must be read by every later version.
    assert parse("fb_live_0123456789" + "A" * 28 + "4TdCNc") == "0123456789"
