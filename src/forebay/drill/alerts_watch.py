"""What Prometheus says of every alert, written down as it changes."""

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from forebay.drill.prometheus import Prometheus, State

_PACE_S: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An alert came into a state; `at` is of the monotonic clock."""

    at: float
    alert: str
    state: State


class Watch:
    """Asks again and again.  Mutable state: what changed, and how every alert is now."""

    def __init__(self, prometheus: Prometheus) -> None:
        """Know of no alert yet."""
        self._prometheus = prometheus
        self.changes: list[Change] = []
        self.now: dict[str, State] = {}
        """The alerts that are listed."""

    async def run(self) -> None:
        """Watch until cancelled; while Prometheus does not answer, nothing has changed."""
        while True:
            listed = await asyncio.to_thread(self._prometheus.listed)
            if listed is not None:
                found: dict[str, State] = {}
                for each in listed:
                    # An alert is one of many series: it fires as soon as one of them does.
                    if found.get(each.name) is not State.FIRING:
                        found[each.name] = each.state
                self._take(found)
            await asyncio.sleep(_PACE_S)

    def _take(self, found: dict[str, State]) -> None:
        at = time.monotonic()
        for alert in self.now.keys() - found.keys():
            self.changes.append(Change(at=at, alert=alert, state=State.CLEARED))
        for alert, state in found.items():
            if self.now.get(alert) is not state:
                self.changes.append(Change(at=at, alert=alert, state=state))
        self.now = found

    def first(self, alert: str, state: State, *, after: float) -> float | None:
        """Return when an alert first came into a state since a moment."""
        return next(
            (
                change.at
                for change in self.changes
                if change.alert == alert and change.state is state and change.at >= after
            ),
            None,
        )

    def last(self, alert: str, state: State, *, after: float) -> float | None:
        """Return when an alert last came into a state since a moment."""
        found = [c.at for c in self.changes if c.alert == alert and c.state is state]
        return max((at for at in found if at >= after), default=None)

    def fired(self, *, since: float = 0.0, until: float = float("inf")) -> frozenset[str]:
        """Return what began to fire between two moments."""
        return frozenset(
            change.alert
            for change in self.changes
            if change.state is State.FIRING and since <= change.at <= until
        )
