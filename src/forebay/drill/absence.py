"""What clients of a server notice while the store that it shares is away."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from forebay.drill.faults import Fault
from forebay.drill.findings import Gate, at_most, exactly
from forebay.drill.server import Server
from forebay.drill.stage import Stage
from forebay.drill.steady_load import Kind, SteadyLoad, Told, latency_ms, within

ADDED_MS_MAX: Final = 5.0
FAILURES_MAX: Final = 3
REJOIN_S_MAX: Final = 2.0
_PACE_S: Final = 1 / 150
"""With three kinds in turn: 250 answers of each in a stretch of five seconds."""
_STRETCHES: Final = 3
_NAP_S: Final = 0.01
_NOTICED_S_MAX: Final = 5.0


class News:
    """A store's comings and goings, as a server logs them.  Mutable state: the place read to."""

    def __init__(self, log: Path) -> None:
        """Read on from the log's end."""
        self._log = log
        self._read = log.stat().st_size

    async def until(self, event: str) -> dict[str, Any] | None:
        """Return the next line of an event, or None if it does not come."""
        began = time.monotonic()
        while time.monotonic() - began < _NOTICED_S_MAX:
            for line in self._lines():
                if line.get("message") == event:
                    return line
            await asyncio.sleep(_NAP_S)
        return None

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self._log.open("rb") as log:
            log.seek(self._read)
            for line in log:
                if not line.endswith(b"\n"):
                    return  # it is being written
                self._read += len(line)
                if b'"store.' in line:
                    yield json.loads(line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """What one fault did to one server, and the answers of its clients."""

    fault: str
    failures: int | None
    """Questions that failed until the store was left alone."""
    away_after_s: float
    rejoin_s: float | None
    """From the fault's end until the store is asked again."""
    before: list[Told]
    during: list[Told]
    """Asked and answered while the store was left alone."""
    told: list[Told]

    def added_ms(self, kind: Kind) -> float | None:
        """Return what the absence added to a kind's p99.

        Plain answers, which ask the store nothing, are held against those of before the fault.
        The other kinds are held against the plain ones of the same moments, so that a machine
        that has become slower meanwhile is not held against Redis.
        """
        during, held_against = _quiet_p99_ms(self.during, kind), (self.during, Kind.PLAIN)
        if kind is Kind.PLAIN:
            held_against = (self.before, Kind.PLAIN)
        usual = _quiet_p99_ms(*held_against)
        return None if during is None or usual is None else during - usual

    def gates(self) -> Iterator[Gate]:
        """Yield what every fault has to keep."""
        name = f"Redis {self.fault}"
        yield exactly(f"{name}: requests failed", len(failed(self.told)), 0)
        yield at_most(f"{name}: failures before it is left alone", self.failures, FAILURES_MAX)
        for kind in Kind:
            what = f"{name}: added to p99 of {kind} answers once left alone"
            yield at_most(what, self.added_ms(kind), ADDED_MS_MAX, "ms")
        yield at_most(f"{name}: asked again after its return", self.rejoin_s, REJOIN_S_MAX, "s")

    def figures(self) -> dict[str, Any]:
        """Return the raw numbers."""
        shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
        latencies = {
            kind.value: {
                name: {
                    "before_ms": latency_ms(self.before, kind, share),
                    "during_ms": latency_ms(self.during, kind, share),
                }
                for name, share in shares.items()
            }
            for kind in Kind
        }
        inside = {id(each) for each in (*self.before, *self.during)}
        outside = [each for each in self.told if id(each) not in inside]
        return {
            "requests": len(self.told),
            "during": len(self.during),
            "slowest_at_the_edges_ms": max(1_000 * each.latency_s for each in outside),
            "left_alone_after_s": self.away_after_s,
            "failures": self.failures,
            "rejoin_s": self.rejoin_s,
            "latencies": latencies,
        }


def _quiet_p99_ms(told: list[Told], kind: Kind) -> float | None:
    """Return the p99 of the quietest stretch: what is slow all the time is slow in each."""
    if not told:
        return None
    begins, ends = min(each.asked for each in told), max(each.asked for each in told)
    found = []
    for part in range(_STRETCHES):
        begin, end = (begins + (ends - begins) * at / _STRETCHES for at in (part, part + 1))
        asked = [each for each in told if begin <= each.asked <= end]
        if (p99_ms := latency_ms(asked, kind, 0.99)) is not None:
            found.append(p99_ms)
    return min(found, default=None)


async def absent(stage: Stage, server: Server, fault: Fault) -> Absence:
    """Load a server, make a fault, undo it, and return what the clients saw."""
    seconds = 5.0 if stage.quick else 15.0
    news, load = News(server.log), SteadyLoad(server.target, pace_s=_PACE_S)
    loading = asyncio.create_task(load.run(4 * seconds + 2 * _NOTICED_S_MAX))
    began = time.monotonic()
    await asyncio.sleep(seconds)
    with stage.broken(fault):
        broken = time.monotonic()
        away = await news.until("store.away")
        left_alone = time.monotonic()
        await asyncio.sleep(seconds)
        during = within(load.told, left_alone, time.monotonic())
    undone = time.monotonic()
    back = await news.until("store.back")
    rejoined = time.monotonic()
    await asyncio.sleep(seconds / 4)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    await load.ended()
    return Absence(
        fault=fault.name,
        failures=None if away is None else int(away["forebay.failures"]),
        away_after_s=left_alone - broken,
        rejoin_s=None if back is None else rejoined - undone,
        before=within(load.told, began + seconds / 4, broken),
        during=during,
        told=load.told,
    )


def failed(told: list[Told]) -> list[Told]:
    """Return those that did not get a whole, good answer."""
    return [each for each in told if not each.seen.ok]
