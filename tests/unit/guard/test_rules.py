"""Every rule finds its examples, leaves its hard negatives alone, and reads a bounded span."""

import importlib
import re
from collections import Counter

import pytest

from forebay.guard.folding import Folded
from forebay.guard.phrases import SQUEEZED, SQUEEZED_ENDS
from forebay.guard.rules import Family, Rule, matching
from forebay.guard.screen import OVERLAP_CHARACTERS, RULES

EXAMPLES = [(rule, text) for rule in RULES for text in rule.examples]
HARMLESS = [(rule, text) for rule in RULES for text in rule.harmless]


def names(text: str) -> list[str]:
    return [rule.name for rule in matching(RULES, Folded.of(text))]


@pytest.mark.parametrize(("rule", "text"), EXAMPLES)
def test_a_rule_finds_its_examples(rule: Rule, text: str) -> None:
    assert rule.name in names(text)


@pytest.mark.parametrize(("rule", "text"), HARMLESS)
def test_no_rule_finds_a_hard_negative(rule: Rule, text: str) -> None:
    assert names(text) == [], f"listed as harmless by {rule.name}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_has_three_examples_and_three_hard_negatives(rule: Rule) -> None:
    assert len(rule.examples) >= 3
    assert len(rule.harmless) >= 3
    assert 0.0 < rule.strength < 1.0


def test_names_are_given_once() -> None:
    assert max(Counter(rule.name for rule in RULES).values()) == 1


def test_every_family_has_rules_but_the_two_that_need_none() -> None:
    without = set(Family) - {rule.family for rule in RULES}
    assert without == {Family.DISGUISED, Family.CLASSIFIER}


def span(pattern: re.Pattern[str]) -> int:
    """How many characters a match can have: endless where a quantifier is."""
    parser = importlib.import_module("re._parser")
    longest = parser.parse(pattern.pattern).getwidth()[1]
    assert isinstance(longest, int)
    return longest


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_pattern_spans_less_than_sections_overlap(rule: Rule) -> None:
    assert span(rule.pattern) <= OVERLAP_CHARACTERS


def test_an_endless_pattern_would_be_seen() -> None:
    assert span(re.compile(r"ignore .*rules")) > OVERLAP_CHARACTERS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_a_rule_needs_is_in_what_it_matches(rule: Rule) -> None:
    for text in rule.examples:
        known = Folded.of(text).known
        assert all(known & needed for needed in rule.needs), text


def test_a_rule_is_not_searched_where_its_words_are_missing() -> None:
    rule = next(rule for rule in RULES if rule.name == "ignore_instructions")
    assert rule.needs[0] & {"ignore"}
    assert matching([rule], Folded.of("nothing of it, in all previous instructions")) == []


@pytest.mark.parametrize("phrase", SQUEEZED)
def test_a_squeezed_phrase_ends_as_the_short_look_expects(phrase: str) -> None:
    assert phrase.endswith(SQUEEZED_ENDS)
