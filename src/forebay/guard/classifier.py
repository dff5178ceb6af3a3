"""A small logistic classifier over the words of a text and their neighbours.

Its weights are ours: `scripts/train_guard.py` makes `weights.json` from texts in the repository.
All of its arithmetic is on whole numbers, so that a text has the same score on every machine.
It costs a table look-up for each word and each pair of neighbours, and looks at windows, so that
a few words in a long text are not outweighed by the rest.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import accumulate
from operator import add
from typing import Final
from zlib import crc32

WINDOW_WORDS: Final = 32
STRIDE_WORDS: Final = 8
GRAM: Final = 4
"""Length of the pieces of a word that are features beside the word: endings, misspellings."""
_FIRST: Final = 31
"""What the first word's hash is multiplied by in a pair's; any odd number does."""
_WORD_MAX: Final = 24
_KNOWN_MAX: Final = 32_768
"""Words whose weight is remembered: more than a person uses, and some 6 MB at most."""


class WeightsError(Exception):
    """The file of weights is not one of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What was learned; whole numbers, of which `unit` make one of log-odds."""

    unit: int
    bias: int
    words: tuple[int, ...]
    """Of words and their pieces, by hash; a power of two of them."""
    pairs: tuple[int, ...]
    """Of pairs of neighbours."""

    def __post_init__(self) -> None:
        """Refuse tables that hashes cannot index."""
        for table in (self.words, self.pairs):
            if not table or len(table) & (len(table) - 1):
                raise WeightsError("The guard's weights are damaged: reinstall the package.")


def read_weights() -> Weights:
    """Return the weights that come with the package; raises WeightsError."""
    try:
        found = json.loads(files("forebay.guard").joinpath("weights.json").read_bytes())
        return Weights(
            unit=found["unit"],
            bias=found["bias"],
            words=tuple(found["words"]),
            pairs=tuple(found["pairs"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError("The guard's weights are missing: reinstall the package.") from error


def features(word: str) -> list[int]:
    """Return the hashes of a word: its own, then those of its pieces."""
    inner = f"<{word}>"
    grams = [inner[at : at + GRAM] for at in range(len(inner) - GRAM + 1)]
    return [crc32(piece.encode("utf-8", "replace")) for piece in (word, *grams)]


class Classifier:
    """Says how much the words of a text are like those of attacks."""

    def __init__(self, weights: Weights) -> None:
        """Take the weights."""
        self._weights = weights
        # The whole mutable state: word -> (weight, parts of pairs).  Two threads may fill it at
        # once, for what they would write is the same.
        self._known: dict[str, tuple[int, int, int]] = {}

    def probability(self, words: Sequence[str]) -> tuple[float, int]:
        """Return how likely the worst window is part of an attack, and how many there were."""
        if not words:
            return 0.0, 0
        totals = self._totals(words)
        end = len(totals) - 1
        starts = range(0, max(end - WINDOW_WORDS + STRIDE_WORDS, 1), STRIDE_WORDS)
        worst = max([totals[min(at + WINDOW_WORDS, end)] - totals[at] for at in starts])
        return logistic((worst + self._weights.bias) / self._weights.unit), len(starts)

    def _totals(self, words: Sequence[str]) -> list[int]:
        """Return the sum of the weights before each word, and after the last."""
        known = self._known
        facts = [known.get(word) or self._learn(word) for word in words]
        each, firsts, seconds = zip(*facts, strict=True)
        table = self._weights.pairs
        pairs = [table[a ^ b] for a, b in zip(firsts, seconds[1:], strict=False)]
        return list(accumulate(map(add, each, (0, *pairs)), initial=0))

    def _learn(self, word: str) -> tuple[int, int, int]:
        cut = word[:_WORD_MAX]
        hashes = features(cut)
        table, mask = self._weights.words, len(self._weights.words) - 1
        weight = sum(table[each & mask] for each in hashes)
        fact = (weight, *pair_hashes(hashes[0], len(self._weights.pairs)))
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[cut] = fact
        return fact


def pair_hashes(word: int, size: int) -> tuple[int, int]:
    """Return a word's parts of a pair's index, as its first and as its second; xor joins two."""
    return word * _FIRST & (size - 1), word & (size - 1)


def logistic(log_odds: float) -> float:
    """Return the probability of log-odds, wherever they are."""
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    return 1.0 - 1.0 / (1.0 + math.exp(log_odds))
