import statistics
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay.accounts.passwords import (
    LENGTH_MAX,
    LENGTH_MIN,
    Passwords,
    generated_password,
    weakness,
)
from tests.support.accounts import quick

QUICK = quick("-")
GOOD = "violet-harbour-91-kettle"
PASSWORDS = Passwords(QUICK)


def test_a_password_fits_what_was_kept_of_it_and_nothing_else() -> None:
    kept = PASSWORDS.hashed(GOOD)
    assert PASSWORDS.fits(kept, GOOD)
    assert not PASSWORDS.fits(kept, GOOD.upper())
    assert not PASSWORDS.fits(kept, "")
    assert GOOD not in kept


def test_equal_passwords_are_kept_differently() -> None:
    assert PASSWORDS.hashed(GOOD) != PASSWORDS.hashed(GOOD)


@pytest.mark.parametrize("kept", [None, ""])
def test_nobodys_password_fits_nothing(kept: str | None) -> None:
    assert not PASSWORDS.fits(kept, GOOD)
    assert not PASSWORDS.fits(kept, "")


@pytest.mark.parametrize("kept", ["rubbish", "$argon2id$", "$2b$12$abc", "$argon2id$v=19$m=1$x$y"])
def test_what_is_no_hash_fits_nothing(kept: str) -> None:
    assert not PASSWORDS.fits(kept, GOOD)


def test_what_is_longer_than_a_password_is_not_cut_until_it_fits() -> None:
    longest = "ab-CD-09" * (LENGTH_MAX // 8)
    kept = PASSWORDS.hashed(longest)
    assert PASSWORDS.fits(kept, longest)
    assert not PASSWORDS.fits(kept, longest + "x" * 1_000_000)


@pytest.mark.parametrize(
    "password", ["日本語のとても長いパスワード", "nul\0nul\0nul\0", "\ud800" * 12]
)
def test_any_text_is_a_password(password: str) -> None:
    assert PASSWORDS.fits(PASSWORDS.hashed(password), password)


def test_an_unknown_user_costs_what_a_known_one_does() -> None:
    kept = PASSWORDS.hashed(GOOD)

    def seconds(of: str | None) -> float:
        began = time.perf_counter()
        PASSWORDS.fits(of, "another-password")
        return time.perf_counter() - began

    pairs = [(seconds(kept), seconds(None)) for _ in range(15)]
    known, unknown = (statistics.median(column) for column in zip(*pairs, strict=True))
    assert 0.5 < unknown / known < 2.0


def test_old_parameters_are_recognised() -> None:
    kept = PASSWORDS.hashed(GOOD)
    stronger = Passwords(replace(QUICK, password_passes_min=2))
    assert not PASSWORDS.outdated(kept)
    assert stronger.outdated(kept)
    assert stronger.fits(kept, GOOD)


def test_the_parameters_are_owasps_unless_they_are_set() -> None:
    assert "$m=19456,t=2,p=1$" in Passwords(type(QUICK)(url="-")).hashed(GOOD)


def test_a_generated_password_is_strong_and_never_the_same() -> None:
    generated = {generated_password() for _ in range(100)}
    assert len(generated) == 100
    assert all(weakness(each, "admin") is None for each in generated)
    assert all(len(each) == 24 for each in generated)


STRONG = f"""
{GOOD} | my own horse, and a battery of tea! | Tr0ub4dor&3-and-more | zwölf Zeichen und mehr |
xk9-Lm2-pQ7-vB4 | my administrator likes tea
"""
KNOWN = """
admin123 changeme password x short-1 password1234 Password1234! P@ssw0rd1234 p4$$w0rd!!!!!
@dmin12345678 administrator Administrator2026! letmein123456 changeme!!!!!! ChangeMe2026
qwertyuiop123 123456789012 098765432109 abcdefghijkl qwertyuiopqwerty aaaaaaaaaaaa abababababab
forebay-forebay Welcome12345 secret-secret summer2026!!! alice1234567 ALICE-alice-alice
alicealicealice correct-horse-battery-staple
"""


@pytest.mark.parametrize("password", [each.strip() for each in STRONG.split("|")])
def test_a_password_that_nobody_tries_is_let_in(password: str) -> None:
    assert weakness(password, "alice") is None


@pytest.mark.parametrize("password", ["", "a" * 11, "a" * 257, *KNOWN.split()])
def test_a_password_that_is_tried_first_is_told_so(password: str) -> None:
    said = weakness(password, "alice")
    assert said is not None
    assert said.endswith(".")
    assert "use" in said
    assert not any(part in said for part in (password, password[::-1]) if len(part) > 8)


@given(st.text(max_size=300), st.text(max_size=50))
def test_weakness_is_told_of_any_text(password: str, name: str) -> None:
    said = weakness(password, name)
    assert said is not None or LENGTH_MIN <= len(password) <= LENGTH_MAX
