"""Counts what objectives make of requests: what `/metrics` and `/admin/slo` both tell.

Records are judged many at a time, as metrics do it (`telemetry/metrics.py`): alone each costs
several times as much.  Used from one thread, the event loop's.
"""

from collections import deque
from typing import Final

from forebay.core.clock import Clock
from forebay.core.record import RequestRecord
from forebay.policy.slo import Judge, Result, Spec
from forebay.policy.slo_budget import Budget, Events

_RECORDS_MAX: Final = 64
"""Records that are judged in one go; they hold their requests until then."""
_WAIT_S_MAX: Final = 1.0
"""How long the oldest waits for others: a fifth of the shortest window's slot."""


class Objectives:
    """A hook on records; knows its own process's life and nothing before it."""

    def __init__(self, spec: Spec, now: Clock) -> None:
        """Begin with every budget whole."""
        # The whole mutable state: records that are to be judged, and the budgets.
        self._records: deque[RequestRecord] = deque()
        self._budgets: Final = tuple(Budget(goal, spec) for goal in spec.goals)
        self._judge: Final = Judge(spec)
        self._now: Final = now
        self.spec: Final = spec
        self.since: Final = now()
        """When it began to count, monotonic seconds."""

    def __call__(self, record: RequestRecord) -> None:
        """Take a record, to be judged soon."""
        records = self._records
        records.append(record)
        ended, first = record.timeline.ended, records[0].timeline.ended
        assert ended is not None
        assert first is not None
        if len(records) >= _RECORDS_MAX or ended - first >= _WAIT_S_MAX:
            self._count(ended)

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Events since the beginning, by objective and result."""
        found = {}
        for budget in self.budgets():
            found[budget.goal.name, str(Result.GOOD)] = budget.total.good
            found[budget.goal.name, str(Result.BAD)] = budget.total.bad
        return found

    def budgets(self) -> tuple[Budget, ...]:
        """Return every objective's budget, with all that has happened in it."""
        self._count(self._now())
        return self._budgets

    def _count(self, now: float) -> None:
        records = self._records
        if not records:
            return
        good, bad = [0] * len(self._budgets), [0] * len(self._budgets)
        while records:
            # Taken before it is judged: one that cannot be would keep all others from it for ever.
            for number, well in self._judge.events(records.popleft()):
                if well:
                    good[number] += 1
                else:
                    bad[number] += 1
        for budget, good_ones, bad_ones in zip(self._budgets, good, bad, strict=True):
            if good_ones or bad_ones:
                budget.add(now, Events(good=good_ones, bad=bad_ones))
