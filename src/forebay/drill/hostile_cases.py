"""The hostile requests of a drill: a seed and a number make each of them again."""

import json
import random
from collections.abc import Iterator
from typing import Final

from forebay.drill import hostile_credentials, hostile_mutations, hostile_smuggling
from forebay.drill.hostile_case import Case, Going, Kind, request
from forebay.drill.hostile_schema import Bodies
from forebay.drill.hostile_sound import completion, sound

Headers = tuple[tuple[str, str], ...]

_SHARES: Final = {Kind.RAW: 50, Kind.SCHEMA: 30, Kind.CREDENTIAL: 14, Kind.SMUGGLED: 6}
_GOINGS: Final = {Going.WAIT: 88, Going.HALF_CLOSE: 9, Going.RESET: 3}


class Cases:
    """Makes cases; it keeps no state."""

    def __init__(self, seed: int, bodies: Bodies, *, credential: Headers = ()) -> None:
        """`credential`: headers that let a sound request in."""
        self._seed = seed
        self._bodies = bodies
        self._credential = credential

    def each(self, numbers: range) -> Iterator[Case]:
        """Yield the cases of these numbers."""
        return (self.case(number) for number in numbers)

    def case(self, number: int) -> Case:
        """Return one case."""
        draw = random.Random(f"{self._seed}/{number}")  # noqa: S311 - it has to be repeatable
        (kind,) = draw.choices(tuple(_SHARES), tuple(_SHARES.values()))
        match kind:
            case Kind.RAW:
                return self._raw(draw, number)
            case Kind.SCHEMA:
                path, body = self._bodies.draw(draw)
                sent = request(path, body, headers=self._credential)
                return Case(number=number, kind=kind, sent=sent, path=path, framed=True)
            case Kind.CREDENTIAL:
                return _impostor(draw, number)
            case _:
                _, sent = hostile_smuggling.smuggled(draw, number)
                return Case(number=number, kind=kind, sent=sent, replies_max=1)

    def _raw(self, draw: random.Random, number: int) -> Case:
        method, path, body = sound(draw)
        whole = request(path, body, method=method, headers=self._credential)
        (going,) = draw.choices(tuple(_GOINGS), tuple(_GOINGS.values()))
        sent = hostile_mutations.spoiled(draw, whole)
        return Case(number=number, kind=Kind.RAW, sent=sent, going=going)


def _impostor(draw: random.Random, number: int) -> Case:
    path, body = completion(draw)
    headers = hostile_credentials.credentials(draw)
    sent = request(path, json.dumps(body).encode(), headers=headers)
    return Case(
        number=number, kind=Kind.CREDENTIAL, sent=sent, path=path, framed=True, impostor=True
    )
