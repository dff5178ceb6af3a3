"""Measure the guard on texts it has never seen: figures as JSON, the curve as a picture.

python -m benchmarks.guard.measure
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks.guard.texts import Sample, held_out
from forebay.guard.classifier import Classifier, Weights
from forebay.guard.config import GuardConfig
from forebay.guard.screen import Screen

RESULTS: Final = Path("benchmarks/results/guard.json")
PICTURE: Final = Path("docs/guard-roc.svg")
WAYS: Final = ("rules", "classifier", "both")
FALSE_POSITIVES: Final = 0.05
"""For a smaller rate there are too few harmless texts: one of them would be a third of it."""
_NOTHING: Final = Weights(unit=1, bias=-1_000, words=(0,), pairs=(0,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A text's scores, by each way."""

    sample: Sample
    scores: Mapping[str, float]


def scored(samples: Sequence[Sample]) -> list[Scored]:
    """Judge every text by rules alone, the classifier alone, and both."""
    rules, both = Screen(Classifier(_NOTHING)), Screen()
    return [_scored(sample, rules, both) for sample in samples]


def roc(found: Sequence[Scored], way: str) -> list[tuple[float, float, float]]:
    """Return (false-positive rate, recall, limit) from the strictest limit to none."""
    attacks = sum(each.sample.attack for each in found)
    benign = len(found) - attacks
    ranked = sorted(found, key=lambda each: -each.scores[way])
    points, hits, alarms = [(0.0, 0.0, 1.0)], 0, 0
    for at, each in enumerate(ranked):
        hits += each.sample.attack
        alarms += not each.sample.attack
        here = each.scores[way]
        if at + 1 == len(ranked) or ranked[at + 1].scores[way] < here:
            points.append((alarms / benign, hits / attacks, here))
    return points


def area(points: Sequence[tuple[float, float, float]]) -> float:
    """Return the area under a curve: the chance that an attack scores above a harmless text."""
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))


def report(found: Sequence[Scored], limit: float) -> dict[str, Any]:
    """Return all figures."""
    curves = {way: roc(found, way) for way in WAYS}
    at = {
        way: max((point for point in curve if point[0] <= FALSE_POSITIVES), key=lambda p: p[1])
        for way, curve in curves.items()
    }
    return {
        "limit": limit,
        "attacks": sum(each.sample.attack for each in found),
        "harmless": sum(not each.sample.attack for each in found),
        "area": {way: round(area(curve), 4) for way, curve in curves.items()},
        "at_false_positives": {
            way: {"rate": round(p[0], 4), "recall": round(p[1], 4), "limit": round(p[2], 4)}
            for way, p in at.items()
        },
        "families": _families(found, {way: p[2] for way, p in at.items()}, limit),
        "roc": {way: [[round(x, 4), round(y, 4)] for x, y, _ in c] for way, c in curves.items()},
    }


def picture(figures: Mapping[str, Any]) -> str:
    """Return the curves as SVG, to scale: recall over the false-positive rate, to 20 %."""
    wide, high, left, top, most = 480, 320, 60, 20, 0.2
    colours = {"rules": "#b07d2b", "classifier": "#4c78a8", "both": "#2a7f3f"}
    parts = [
        f"""<svg xmlns="http://www.w3.org/2000/svg"
 viewBox="0 0 {left + wide + 30} {top + high + 60}" font-family="sans-serif" font-size="13">""",
        "<title>Recall of the input guard over its false-positive rate</title>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for tenth in range(0, 11, 2):
        y = top + high * (1 - tenth / 10)
        parts.append(f'<path d="M{left} {y:g}h{wide}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:g}" text-anchor="end">{tenth / 10:g}</text>')
    for percent in range(0, 21, 5):
        x = left + wide * percent / 20
        parts.append(f'<path d="M{x:g} {top}v{high}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{x:g}" y="{top + high + 18}" text-anchor="middle">{percent} %</text>'
        )
    for at, (way, colour) in enumerate(colours.items()):
        inside = [(x, y) for x, y in figures["roc"][way] if x <= most]
        inside.append((most, inside[-1][1]))
        steps = [f"M{left} {top + high}"]
        for x, y in inside:
            steps.append(f"H{left + wide * x / most:.1f}V{top + high * (1 - y):.1f}")
        parts.append(f'<path d="{"".join(steps)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        name = f"{way}: area {figures['area'][way]:.3f}"
        parts.append(
            f'<text x="{left + wide - 190}" y="{top + high - 60 + 20 * at}" fill="{colour}">'
            f"{name}</text>"
        )
    parts.append(
        f'<text x="{left + wide / 2:g}" y="{top + high + 42}" text-anchor="middle">'
        "harmless texts that are suspected</text>"
    )
    parts.append(
        f'<text x="16" y="{top + high / 2:g}" text-anchor="middle" '
        f'transform="rotate(-90 16 {top + high / 2:g})">attacks that are found</text></svg>'
    )
    return "\n".join(parts) + "\n"


def _scored(sample: Sample, rules: Screen, both: Screen) -> Scored:
    verdict = both.verdict(sample.text)
    scores = {
        "rules": rules.verdict(sample.text).score,
        "classifier": verdict.classifier,
        "both": verdict.score,
    }
    return Scored(sample=sample, scores=scores)


def _families(
    found: Sequence[Scored], limits: Mapping[str, float], default: float
) -> dict[str, dict[str, Any]]:
    families: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(each.sample.family for each in found):
        for attack in (True, False):
            of = [e for e in found if e.sample.family == name and e.sample.attack is attack]
            if not of:
                continue
            suspected = {way: _share(of, way, limits[way]) for way in WAYS}
            kind = "attacks" if attack else "harmless"
            families[f"{kind}: {name}"] = {
                "texts": len(of),
                **suspected,
                "both_at_default": _share(of, "both", default),
            }
    return families


def _share(found: Sequence[Scored], way: str, limit: float) -> float:
    return round(sum(each.scores[way] >= limit for each in found) / len(found), 3)


def main() -> int:
    """Measure, and write figures and picture; or only say them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--more", action="append", default=[], help="harmless texts, one a line")
    arguments = parser.parse_args()
    if arguments.more:
        return _say_more(arguments.more)
    figures = report(scored(held_out()), GuardConfig().score_min)
    RESULTS.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    PICTURE.write_text(picture(figures))
    _say(figures)
    return 0


def _say(figures: Mapping[str, Any]) -> None:
    for name in ("area", "at_false_positives"):
        sys.stdout.write(f"{name}: {json.dumps(figures[name])}\n")
    for name, row in figures["families"].items():
        cells = " ".join(f"{key}={value}" for key, value in row.items())
        sys.stdout.write(f"{name:42s} {cells}\n")


def _say_more(paths: Sequence[str]) -> int:
    """Say how many harmless texts of somebody else's files are suspected."""
    limit = GuardConfig().score_min
    for path in paths:
        lines = Path(path).read_text("utf-8").splitlines()
        samples = [Sample(text=json.loads(line), family=path, attack=False) for line in lines]
        suspected = [each for each in scored(samples) if each.scores["both"] >= limit]
        sys.stdout.write(f"{path}: {len(suspected)} of {len(samples)} suspected\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
