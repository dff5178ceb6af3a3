"""Error budgets: events over windows, how fast a budget goes, and what is left of it.

Each window is a ring of slots of a sixtieth of its length, so that what it holds does not grow
with the load.  The newest slot is being filled: a window covers 59 to 60 sixtieths of its length.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from forebay.policy.slo import Goal, Spec

BAD_LEAST: Final = 5
"""Bad events that there must be in the long window before anybody is told: by a goal of 99.9 % one
failure among thirty requests would be a page."""
_SLOTS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """How many events were good, and how many bad."""

    good: int = 0
    bad: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.good + self.bad

    def burn(self, goal: Goal) -> float:
        """How many times as fast as it may the budget goes; 0 where nothing happened."""
        return self.bad / self.total / goal.budget if self.total else 0.0


class Window:
    """Events of the last `span_s` seconds."""

    def __init__(self, span_s: float) -> None:
        """Begin empty."""
        # The whole mutable state: counts per slot, and the number of the newest slot since 0.
        self._slot_s: Final = span_s / _SLOTS
        self._good = [0] * _SLOTS
        self._bad = [0] * _SLOTS
        self._newest: int | None = None

    def add(self, now: float, events: Events) -> None:
        """Count events at `now`; one that comes late is counted in the newest slot."""
        self._move(now)
        assert self._newest is not None
        slot = self._newest % _SLOTS
        self._good[slot] += events.good
        self._bad[slot] += events.bad

    def events(self, now: float) -> Events:
        """Return what the window holds at `now`."""
        self._move(now)
        return Events(good=sum(self._good), bad=sum(self._bad))

    def _move(self, now: float) -> None:
        number = int(now / self._slot_s)
        if number == self._newest:
            return
        if self._newest is None:
            self._newest = number
        # A clock that stands still or goes back moves nothing.
        for passed in range(self._newest + 1, min(number, self._newest + _SLOTS) + 1):
            self._good[passed % _SLOTS] = self._bad[passed % _SLOTS] = 0
        self._newest = max(number, self._newest)


class Budget:
    """What is known of one objective: events since the beginning, and over each window."""

    def __init__(self, goal: Goal, spec: Spec) -> None:
        """Begin with nothing spent."""
        self.goal: Final = goal
        self._spec: Final = spec
        self.total = Events()
        self._windows: Final = {span_s: Window(span_s) for span_s in spec.windows_s}

    def add(self, now: float, events: Events) -> None:
        """Count events."""
        self.total = Events(good=self.total.good + events.good, bad=self.total.bad + events.bad)
        for window in self._windows.values():
            window.add(now, events)

    def over(self, now: float) -> dict[int, Events]:
        """Return the events of each window, by its length in seconds."""
        return {span_s: window.events(now) for span_s, window in self._windows.items()}

    def left(self, now: float) -> float:
        """Return the share of the budget that is left; below 0: more was spent than there was."""
        return 1.0 - self._windows[self._spec.window_s].events(now).burn(self.goal)

    def burning(self, now: float) -> Iterator[str]:
        """Yield the alerts on burn rates whose conditions hold."""
        events = self.over(now)
        for burn in self._spec.burns:
            long, short = events[burn.long_s], events[burn.short_s]
            fast = min(long.burn(self.goal), short.burn(self.goal)) > burn.rate
            if fast and long.bad >= BAD_LEAST:
                yield burn.alert
