"""The receipts that are kept: the latest, whoever asked.

A hook on records and on exchanges that are over.  A receipt needs both, for its last part ends
when the last byte is written.  Records wait for their exchange, and are taken up some at a time.

Whoever was not let in cannot push out the receipts of those who were: of them a tenth as many are
kept, apart.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from forebay.core.knob import knob
from forebay.core.record import RequestRecord
from forebay.core.request import Route
from forebay.core.visit import Visit
from forebay.telemetry.receipt import Facts, Stalled, facts_of, facts_of_batch, no_stall

_WAITING_MAX: Final = 32
"""Records that are taken up in one go; see `telemetry/metrics.py`."""
_STRANGERS_RATIO: Final = 0.1
_PAGES: Final = frozenset({Route.PROBE, Route.UNMATCHED})
"""What is open to all is among these: who fails at them counts as one who was not let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptsConfig:
    """Receipts of requests that ended: `GET /v1/requests`."""

    kept_max: int = knob(
        10_000,
        "Most receipts kept in memory, about 1 kB each; the oldest go first. 0: none are made.",
        minimum=0,
        maximum=100_000,
    )


class Receipts:
    """Keeps receipts; the newest of an id is found by it."""

    def __init__(self, config: ReceiptsConfig, stalled: Stalled = no_stall) -> None:
        """Keep as many as `config` says; `stalled` knows when the event loop did not turn."""
        self._kept_max = config.kept_max
        self._strangers_max = max(1, int(config.kept_max * _STRANGERS_RATIO))
        self._stalled = stalled
        # The whole mutable state: records and batches that are to be taken up, what is kept of
        # those who were let in and of the others (the oldest first), the newest of each id, those
        # before it of ids that came twice (the oldest first), and how many there have been.
        self._waiting: deque[RequestRecord | Visit] = deque()
        self._known: deque[Facts] = deque()
        self._strangers: deque[Facts] = deque()
        self._by_id: dict[str, Facts] = {}
        self._before: dict[str, list[Facts]] = {}
        self._made = 0

    @property
    def made(self) -> int:
        """Receipts since the start."""
        self._take_up()
        return self._made

    def __len__(self) -> int:
        return len(self._known) + len(self._strangers)

    def __call__(self, record: RequestRecord) -> None:
        """Keep what is told of a request, once its exchange is over."""
        if record.route is not Route.SHADOW:  # nobody asked for it
            self._waiting.append(record)

    def over(self, visit: Visit) -> None:
        """Note that an exchange is over: what it was can be taken up."""
        if visit.items:
            self._waiting.append(visit)
        if len(self._waiting) >= _WAITING_MAX:
            self._take_up()

    def find(self, id: str) -> Iterator[Facts]:
        """Yield what is kept of an id, the newest first: clients may use one twice."""
        self._take_up()
        if id in self._by_id:
            yield self._by_id[id]
            yield from reversed(self._before.get(id, ()))

    def latest(self) -> Iterator[Facts]:
        """Return all that is kept at this moment, the newest first."""
        self._take_up()
        kept = (tuple(self._known), tuple(self._strangers))
        return heapq.merge(*map(reversed, kept), key=_ended, reverse=True)

    def _take_up(self) -> None:
        """Take up what is over; an answer that is still being written waits on."""
        for _ in range(len(self._waiting)):
            # Taken before it is read: one that cannot be would keep all others from it for ever.
            each = self._waiting.popleft()
            if isinstance(each, Visit):
                self._keep(facts_of_batch(each, self._stalled), known=True)
                continue
            visit = each.visit
            if visit is not None and visit.ended is None and not visit.of:
                self._waiting.append(each)
            else:
                let_in = visit is None or visit.let_in is not None
                known = let_in and each.route not in _PAGES
                self._keep(facts_of(each, self._stalled), known=known)

    def _keep(self, facts: Facts, *, known: bool) -> None:
        self._made += 1
        kept, most = (
            (self._known, self._kept_max) if known else (self._strangers, self._strangers_max)
        )
        kept.append(facts)
        twin = self._by_id.get(facts.id)
        self._by_id[facts.id] = facts
        if twin is not None:
            self._before.setdefault(facts.id, []).append(twin)
        if len(kept) > most:
            self._forget(kept.popleft())

    def _forget(self, facts: Facts) -> None:
        twins = self._before.get(facts.id)
        if twins is None:
            del self._by_id[facts.id]
            return
        if self._by_id[facts.id] is facts:  # the older one is kept among others
            self._by_id[facts.id] = twins.pop()
        else:
            twins.remove(facts)
        if not twins:
            del self._before[facts.id]


def _ended(facts: Facts) -> float:
    return facts.ended
