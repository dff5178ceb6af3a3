"""How suspect a text is: its readings, under every rule, and the classifier's opinion of each.

A long text is screened section by section, so that whoever works through it can stop, and lets
others run, between two of them.  Sections overlap, so that no phrase is lost at a border.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Final

from forebay.guard.classifier import Classifier, read_weights
from forebay.guard.disguises import Reading, readings
from forebay.guard.folding import Folded, hidden_text, turns_direction
from forebay.guard.phrases import SAID, SQUEEZED, SQUEEZED_ENDS
from forebay.guard.phrases_written import WRITTEN
from forebay.guard.rules import Family, Rule, matching

RULES: Final = (*SAID, *WRITTEN)
"""All rules.  The families `disguised` and `classifier` have none of their own."""
SECTION_CHARACTERS: Final = 4_096
OVERLAP_CHARACTERS: Final = 512
"""More than any pattern spans."""
_READINGS_TIMES_MAX: Final = 4
"""All readings of a section together are at most so many times as long as it."""
_DISGUISED_STRENGTH: Final = 0.6
"""An instruction that was found under a disguise: that somebody hid it counts too."""
_HIDDEN_STRENGTH: Final = 0.7
"""Any text in invisible characters: there is no honest use."""
_SQUEEZED_STRENGTH: Final = 0.85
"""A phrase that shows only without spaces: as strong as the rule that it would match."""
_TURNED_STRENGTH: Final = 0.3
"""Text that is shown in another order than it is read; two scripts in a line may need it."""
_PLAIN_FAMILIES: Final = frozenset({Family.OVERRIDE, Family.EXTRACTION})
_SUSPECTED_MIN: Final = 0.5
"""From here the classifier's opinion is a reason of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found in a text; never the text."""

    score: float = 0.0
    """0 to 1: how suspect it is."""
    rules: tuple[str, ...] = ()
    """Names of the rules that match, sorted."""
    families: tuple[Family, ...] = ()
    """Why, the strongest first."""
    classifier: float = 0.0
    """The classifier's part, 0 to 1."""
    windows: int = 0
    """How many windows it looked at."""

    def __or__(self, other: "Verdict") -> "Verdict":
        """Return what two parts of a prompt come to: the worse of them, by all their reasons."""
        worse, lesser = (self, other) if self.score >= other.score else (other, self)
        families = (*worse.families, *(f for f in lesser.families if f not in worse.families))
        return Verdict(
            score=worse.score,
            rules=tuple(sorted({*self.rules, *other.rules})),
            families=families,
            classifier=max(self.classifier, other.classifier),
            windows=self.windows + other.windows,
        )


CLEAN: Final = Verdict()


class Screen:
    """Judges texts."""

    def __init__(self, classifier: Classifier | None = None) -> None:
        """Judge by the package's own weights, or by a classifier that is being measured."""
        self._classifier = classifier or Classifier(read_weights())

    def verdict(self, text: str) -> Verdict:
        """Judge a text in one go: for a few thousand characters."""
        return reduce(Verdict.__or__, self.sections(text), CLEAN)

    def sections(self, text: str) -> Iterator[Verdict]:
        """Judge a text of any length, section by section."""
        step = SECTION_CHARACTERS - OVERLAP_CHARACTERS
        for start in range(0, max(len(text) - OVERLAP_CHARACTERS, 1), step):
            yield self._section(text[start : start + SECTION_CHARACTERS])

    def _section(self, text: str) -> Verdict:
        folded = Folded.of(text)
        found = _Found(matching(RULES, folded), _hides(text))
        found.opinion, windows = self._classifier.probability(folded.words)
        room = _READINGS_TIMES_MAX * SECTION_CHARACTERS
        for reading in readings(text, folded):
            room -= len(reading.text)
            if room < 0:
                break
            self._read(reading, found)
        if _squeezed(folded.words, found):
            found.disguised = max(found.disguised, _SQUEEZED_STRENGTH)
        return found.verdict(windows)

    def _read(self, reading: Reading, found: "_Found") -> None:
        folded = Folded.of(reading.text)
        new = [rule for rule in matching(RULES, folded) if rule not in found.rules]
        if new:
            found.disguised = max(found.disguised, _DISGUISED_STRENGTH)
            found.rules += new
        found.opinion = max(found.opinion, self._classifier.probability(folded.words)[0])


@dataclass(slots=True)
class _Found:
    """What was found of one section so far."""

    rules: list[Rule]
    disguised: float
    opinion: float = 0.0

    def verdict(self, windows: int) -> Verdict:
        """Put independent reasons together: each takes its part of what doubt is left."""
        reasons: dict[Family, float] = {}
        for rule in self.rules:
            reasons[rule.family] = max(reasons.get(rule.family, 0.0), rule.strength)
        if self.disguised:
            reasons[Family.DISGUISED] = self.disguised
        if self.opinion >= _SUSPECTED_MIN:
            reasons[Family.CLASSIFIER] = self.opinion
        doubt = math.prod(1.0 - rule.strength for rule in self.rules)
        return Verdict(
            score=1.0 - doubt * (1.0 - self.disguised) * (1.0 - self.opinion),
            rules=tuple(sorted(rule.name for rule in self.rules)),
            families=tuple(sorted(reasons, key=lambda family: -reasons[family])),
            classifier=self.opinion,
            windows=windows,
        )


def _hides(text: str) -> float:
    """Return how suspect the invisible characters of a text are by themselves."""
    if hidden_text(text):
        return _HIDDEN_STRENGTH
    return _TURNED_STRENGTH if turns_direction(text) else 0.0


def _squeezed(words: list[str], found: _Found) -> bool:
    """Whether a phrase shows only when no space is counted: words were cut or joined."""
    if any(rule.family in _PLAIN_FAMILIES for rule in found.rules):
        return False
    joined = "".join(words)
    if not any(end in joined for end in SQUEEZED_ENDS):
        return False
    return any(phrase in joined for phrase in SQUEEZED)
