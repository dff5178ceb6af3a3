"""Patterns that break the answer, or cost too much, are refused."""

import re

import pytest

from forebay.engine.schema_pattern import CHARACTERS_MAX, REPEATS_MAX, PatternRefused, check_pattern

GOOD = [
    "^$",
    "^abc$",
    r"^\d{3}-\d{4}$",
    r"^\w+$",
    "^[A-Z][a-z]* [A-Z][a-z]*$",
    r"^v\d+\.\d+$",
    r"^[\w.+-]+@[\w-]+\.[a-z]{2,4}$",
    r"^\+?[0-9 ()-]{5,9}$",
    "^é+$",
    r"^[\d\-\]]{2}$",
    "^a?b$",
    "^a{3}a$",
    "^a{2}[a-c]+$",
    "^[*+?.()]$",
    "^[a-]$",
]
BAD = [
    5,
    "abc",
    "^abc",
    "^",
    "^.$",
    "^a|b$",
    "^[^a]$",
    r"^\s$",
    r"^\S$",
    r"^\W$",
    r"^\bfoo\b$",
    "^(?=a)b$",
    "^(?P<n>a)$",
    r"^(a)\1$",
    '^"$',
    r"^\\$",
    "^[ -~]$",
    "^[a-Z]$",
    "^[z-a]$",
    "^[]$",
    "^[a$",
    "^(a$",
    "^a)$",
    "^()$",
    "^(a|)$",
    "^(|a)$",
    "^*a$",
    "^a{,3}$",
    "^a{3,2}$",
    "^a{0}$",
    "^a{x}$",
    "^a{2$",
    f"^a{{{REPEATS_MAX + 1}}}$",
    "^(ab)$",
    "^a|b$",
    "^a*ab$",
    "^a?ab$",
    "^a{2,3}a$",
    "^a*b?a$",
    r"^\w+\d$",
    "^a**$",
    "^a+?$",
    "^a^b$",
    "^a\n$",
    "^\\$",
    f"^{'a' * CHARACTERS_MAX}$",
]


@pytest.mark.parametrize("pattern", GOOD)
def test_a_plain_pattern_is_accepted(pattern: str) -> None:
    re.compile(pattern)
    check_pattern(pattern)


@pytest.mark.parametrize("pattern", BAD, ids=lambda value: repr(value)[:40])
def test_a_pattern_that_cannot_be_enforced_is_refused(pattern: object) -> None:
    with pytest.raises(PatternRefused):
        check_pattern(pattern)


def test_counts_are_summed() -> None:
    assert check_pattern("^a{3}[b-d]{2,40}e+$") == 43
