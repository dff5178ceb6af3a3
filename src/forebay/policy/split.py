"""Which of several models answers a caller: by weight, and for one caller always the same.

A caller is a point in [0, 1), drawn from its name and the route's; each model has a stretch as
long as its weight.  When weights change, only callers near a border come to another model, and
they come to the one that grew.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Part:
    """A model and its weight, which is not negative."""

    model: str
    weight: float


def point(route: str, caller: str) -> float:
    """Return where a caller stands on a route, in [0, 1)."""
    drawn = hashlib.sha256(f"{route}\0{caller}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(drawn[:6], "big") / 2**48


def choose(parts: Sequence[Part], where: float) -> str:
    """Return the model whose stretch holds `where`; the weights have a sum above 0."""
    ends = list(accumulate(part.weight for part in parts))
    assert ends, "a route leads somewhere"
    assert ends[-1] > 0, "and takes somebody there"
    for part, end in zip(parts, ends, strict=True):
        if where * ends[-1] < end:
            return part.model
    return next(part.model for part in reversed(parts) if part.weight)


def parse_split(text: str) -> tuple[Part, ...]:
    """Read `a=90, b=10`; raises ValueError with what is wrong."""
    parts: list[Part] = []
    for each in filter(None, (piece.strip() for piece in text.split(","))):
        model, equals, weight = (piece.strip() for piece in each.rpartition("="))
        try:
            number = float(weight) if equals and model else -1.0
        except ValueError:
            number = -1.0
        if not 0.0 <= number < 1e9:  # noqa: PLR2004 - and no infinity, and no NaN
            raise ValueError(f"'{each[:60]}' is not MODEL=WEIGHT, as in stable=90")
        if any(part.model == model for part in parts):
            raise ValueError(f"the model {model[:60]} stands twice")
        parts.append(Part(model, number))
    if not sum(part.weight for part in parts):
        raise ValueError("no model has a weight above 0")
    return tuple(parts)
