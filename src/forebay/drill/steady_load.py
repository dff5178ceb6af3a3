"""A steady load of three kinds, whose every answer's latency and origin is kept."""

import asyncio
import enum
import secrets
import time
from dataclasses import dataclass
from typing import Final

from forebay.bench.client import Target
from forebay.bench.stats import percentile
from forebay.drill.client import Seen, ask, chat

_CLOSING_S: Final = 30.0


class Kind(enum.StrEnum):
    """What a request asks of the store."""

    PLAIN = "plain"
    """Nothing."""
    KEYED = "keyed"
    """A claim, and an answer that is kept before it is shown."""
    REPEATABLE = "repeatable"
    """A look for an answer that was made before, and one that is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One request and its answer."""

    kind: Kind
    wish: tuple[bytes, dict[str, str]]
    asked: float
    seen: Seen

    @property
    def latency_s(self) -> float:
        """Seconds from asking to the answer's end."""
        return self.seen.ended - self.asked


class SteadyLoad:
    """Asks at a fixed pace, whatever becomes of the answers.

    Mutable state: the number of the next request, those under way, and what was told.
    """

    def __init__(self, target: Target, *, pace_s: float, model: str = "scripted") -> None:
        """Ask `target` every `pace_s` seconds, each kind in turn."""
        self._target = target
        self._pace_s = pace_s
        self._model = model
        self._next = 0
        self._under_way: set[asyncio.Task[None]] = set()
        self.told: list[Told] = []

    async def run(self, seconds: float) -> None:
        """Ask for so long; answers may come later."""
        began, number = time.monotonic(), 0
        while (due := began + number * self._pace_s) < began + seconds:
            await asyncio.sleep(due - time.monotonic())
            task = asyncio.create_task(self._ask())
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1

    async def ended(self) -> None:
        """Wait for what is under way."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_CLOSING_S)

    async def _ask(self) -> None:
        number, self._next = self._next, self._next + 1
        kind = tuple(Kind)[number % len(Kind)]
        asked = time.monotonic()
        wish = _wish(self._model, kind, number)
        seen = await ask(self._target, *wish)
        self.told.append(Told(kind=kind, wish=wish, asked=asked, seen=seen))


def _wish(model: str, kind: Kind, number: int) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a request that is nobody else's."""
    name = f"{number}-{secrets.token_hex(4)}"
    fields = {"seed": number} if kind is Kind.REPEATABLE else {}
    body = chat(model, f"the words of {name}", max_tokens=8, **fields)
    return body, {"idempotency-key": name} if kind is Kind.KEYED else {}


def within(told: list[Told], begins: float, ends: float) -> list[Told]:
    """Return what was asked and answered between two moments."""
    return [each for each in told if each.asked >= begins and each.seen.ended <= ends]


def latency_ms(told: list[Told], kind: Kind, share: float) -> float | None:
    """Return a percentile of a kind's latencies in milliseconds; None where there are none."""
    found = [each.latency_s for each in told if each.kind is kind and each.seen.ok]
    return 1_000 * percentile(found, share) if found else None
