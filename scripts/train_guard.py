"""Train the guard's classifier on the repository's own texts, and measure it on others.

    python -m scripts.train_guard            # weights, figures and the picture
    python -m scripts.train_guard --check    # exit 1 if training gives other weights

It is deterministic: a fixed seed, whole batches, sums in a fixed order, weights rounded to whole
numbers.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.guard.texts import Lessons, lessons
from forebay.guard.classifier import (
    STRIDE_WORDS,
    WINDOW_WORDS,
    Classifier,
    Weights,
    features,
    pair_hashes,
)
from forebay.guard.folding import Folded

WEIGHTS: Final = Path("src/forebay/guard/weights.json")
WORDS: Final = 8_192
PAIRS: Final = 16_384
UNIT: Final = 100
"""Weights are hundredths of log-odds."""
STEPS: Final = 150
RATE: Final = 0.05
DECAY: Final = 1e-3
"""Of every weight, for each step: what is seen seldom stays small."""
BENIGN_COUNT: Final = 3.0
"""How much more a false alarm counts than a miss."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Features of windows, one after another, and whose they are."""

    features: npt.NDArray[np.int64]
    owners: npt.NDArray[np.int64]
    labels: Floats


def train(found: Lessons) -> Weights:
    """Return what is learned: from whole texts, then also from the worst part of documents."""
    labelled = [
        (window, 1.0 if sample.attack else 0.0)
        for sample in found.samples
        for window in _windows(Folded.of(sample.text).words)
    ]
    first = _rounded(_fitted(_gathered(labelled)))
    judge = Classifier(first)
    for text in found.carried:
        windows = list(_windows(Folded.of(text).words))
        labelled.append((max(windows, key=lambda words: judge.probability(words)[0]), 1.0))
    return _rounded(_fitted(_gathered(labelled)))


def written(weights: Weights) -> bytes:
    """Return the file of weights."""
    facts = {
        "unit": weights.unit,
        "bias": weights.bias,
        "words": weights.words,
        "pairs": weights.pairs,
    }
    return (json.dumps(facts, separators=(",", ":")) + "\n").encode()


def _windows(words: Sequence[str]) -> Iterable[Sequence[str]]:
    for at in range(0, max(len(words) - WINDOW_WORDS + STRIDE_WORDS, 1), STRIDE_WORDS):
        yield words[at : at + WINDOW_WORDS]


def _indices(words: Sequence[str]) -> list[int]:
    """Return which weights a window's score is the sum of; pairs come after words."""
    hashes = [features(word[:24]) for word in words]
    found = [each & (WORDS - 1) for word in hashes for each in word]
    parts = [pair_hashes(word[0], PAIRS) for word in hashes]
    return found + [WORDS + (first[0] ^ second[1]) for first, second in pairwise(parts)]


def _gathered(labelled: Sequence[tuple[Sequence[str], float]]) -> Windows:
    indices = [_indices(words) for words, _ in labelled]
    return Windows(
        features=np.concatenate([np.array(each, dtype=np.int64) for each in indices]),
        owners=np.repeat(np.arange(len(indices)), [len(each) for each in indices]),
        labels=np.array([label for _, label in labelled]),
    )


def _fitted(windows: Windows) -> tuple[Floats, float]:
    """Return weights and bias of least weighted log-loss, by Adam on the whole batch."""
    count, size = len(windows.labels), WORDS + PAIRS
    weights, bias = np.zeros(size), 0.0
    mean, square = np.zeros(size + 1), np.zeros(size + 1)
    attacks = float(windows.labels.sum())
    importance = np.where(windows.labels > 0, 0.5 / attacks, 0.5 * BENIGN_COUNT / (count - attacks))
    for step in range(1, STEPS + 1):
        scores = np.bincount(windows.owners, weights[windows.features], count) + bias
        wrong = (1.0 / (1.0 + np.exp(-np.clip(scores, -30, 30))) - windows.labels) * importance
        slope = np.bincount(windows.features, wrong[windows.owners], size)
        both = np.append(slope + DECAY * weights, float(wrong.sum()))
        mean = 0.9 * mean + 0.1 * both
        square = 0.99 * square + 0.01 * both * both
        move = RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.99**step)) + 1e-6)
        weights -= move[:-1]
        bias -= float(move[-1])
    return weights, bias


def _rounded(fitted: tuple[Floats, float]) -> Weights:
    weights, bias = fitted
    whole = [int(each) for each in np.rint(weights * UNIT)]
    return Weights(
        unit=UNIT, bias=round(bias * UNIT), words=tuple(whole[:WORDS]), pairs=tuple(whole[WORDS:])
    )


def main() -> int:
    """Train; write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    arguments = parser.parse_args()
    made = written(train(lessons()))
    digest = hashlib.sha256(made).hexdigest()
    if arguments.check:
        same = WEIGHTS.read_bytes() == made
        sys.stdout.write(f"{digest} {'as in the file' if same else 'differs from the file'}\n")
        return 0 if same else 1
    WEIGHTS.write_bytes(made)
    sys.stdout.write(f"{digest} written, {len(made)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
