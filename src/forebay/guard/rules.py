"""What injected instructions usually say: patterns, each with its family and its strength.

A pattern (those are in `phrases.py`) is searched only where the words that it needs occur, and
repeats nothing but single sets of characters, a bounded number of times; so all of them together
take time of the text's length, whatever the text.  They are matched against words with one space
between them; those that need the signs between words, against the lines as they are.
"""

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from forebay.guard.folding import Folded, fold


class Family(enum.StrEnum):
    """What a rule finds: the reason that a client, the log and the metric are told."""

    OVERRIDE = "override"
    """Instructions that were given before are called off."""
    EXTRACTION = "extraction"
    """The hidden instructions are asked for."""
    PERSONA = "persona"
    """The model is to be somebody without rules."""
    MARKUP = "markup"
    """A turn of the conversation is forged, or a control token written out."""
    EXFILTRATION = "exfiltration"
    """What was read is to be sent somewhere."""
    ADDRESSED = "addressed"
    """A document speaks to the model that reads it."""
    DISGUISED = "disguised"
    """Text is hidden, encoded or misspelt so that a reader would miss it."""
    CLASSIFIER = "classifier"
    """No rule matches; the choice of words is that of attacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One pattern, compiled."""

    name: str
    family: Family
    strength: float
    """How far it alone goes towards certainty, 0 to 1; measured on the training texts."""
    needs: tuple[frozenset[str], ...]
    """Sets of words: every match contains a word of each; none: it is always searched."""
    pattern: re.Pattern[str]
    beyond_ascii: bool = False
    """It cannot match a text of ASCII alone."""
    lines: bool = False
    """It is matched against lines and not against words."""
    examples: tuple[str, ...] = field(default=(), repr=False)
    harmless: tuple[str, ...] = field(default=(), repr=False)
    """Hard negatives: it does not match these."""


def matching(rules: Iterable[Rule], text: Folded) -> list[Rule]:
    """Return the rules that match a text."""
    wide = not text.flat.isascii()
    return [
        rule
        for rule in rules
        if (wide or not rule.beyond_ascii)
        and not any(map(text.known.isdisjoint, rule.needs))
        and rule.pattern.search(text.lines if rule.lines else text.flat)
    ]


def rule(  # noqa: PLR0913, PLR0917 - a row of the table
    name: str,
    family: Family,
    strength: float,
    needs: str,
    pattern: str,
    *,
    beyond_ascii: bool = False,
    lines: bool = False,
    examples: tuple[str, ...],
    harmless: tuple[str, ...],
) -> Rule:
    """Make a rule of a pattern and of words as they are written."""
    return Rule(
        name=name,
        family=family,
        strength=strength,
        needs=tuple(frozenset(each.split()) for each in fold(needs).split("/") if each),
        pattern=re.compile(fold(pattern)),
        beyond_ascii=beyond_ascii,
        lines=lines,
        examples=examples,
        harmless=harmless,
    )
