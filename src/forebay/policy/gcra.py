"""Rates that hold: who may take how much now, and when the rest comes free (GCRA).

Theory of operation
-------------------
All that is kept of an account is one moment, its *theoretical arrival time*: when it will owe
nothing if it takes no more.  Each unit taken moves that moment on by `period / amount`; what is
asked for passes as long as the moment stays within one period from now.  So `amount` units may
come at once, any `period` after that brings as many again, and nothing needs to be counted down
by a timer.  A refusal knows to the microsecond when the same ask passes, unless others take it.

Units that were taken and not used are given back: the moment moves back, never before now, so an
account never has more than `amount` to take at once.  What is used beyond what was taken moves it
on.  Whoever asks is forgiven what he owes beyond one period, so a rate that was made more generous
helps at once, and nobody waits for longer than a period.

Moments are whole femtoseconds: sums of a third of a second come out even, and 10^12 per second
is the fastest rate that can be written.

The table is bounded.  Whoever owes nothing is as good as unknown and is forgotten first.  While
the table is full of those who owe, the newcomers of one kind are counted together on one moment:
a debtor is never forgotten for a flood of strangers, the flood as a whole gets what one account
gets, and the table grows by no more than one row for each kind.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from forebay.core.caller import Rate
from forebay.core.value import value

_FS: Final = 10**15
"""Femtoseconds in a second."""
_FS_PER_US: Final = 10**9
_LOOKS_MAX: Final = 64
"""Rows that one newcomer looks at for one that owes nothing: about 10 us."""


class Ask:
    """So many units of one account's rate."""

    __slots__ = ("cost", "crowd", "name", "period_fs", "price_fs", "rate")

    def __init__(self, *, name: str, crowd: str, rate: Rate, cost: int = 1) -> None:
        """Name the account, and with whom it is counted where it cannot be counted alone.

        A cost of 0 only looks.
        """
        self.name = name
        self.crowd = crowd
        self.rate = rate
        self.cost = cost
        self.period_fs = int(rate.period_s * _FS)
        self.price_fs = cost * self.period_fs // rate.amount

    def of(self, cost: int) -> "Ask":
        """Return an ask of other units of the same rate."""
        return Ask(name=self.name, crowd=self.crowd, rate=self.rate, cost=cost)


@value
class Verdict:
    """What is said to an ask."""

    passed: bool
    """This rate lets it pass; it was taken only if all that were asked together do."""
    ask: Ask
    owed_fs: int
    """What is owed after it, if it was taken, and otherwise now: at most a period."""
    name: str
    """Under which it was counted."""

    @property
    def remaining(self) -> int:
        """Whole units that may be taken now."""
        period_fs = self.ask.period_fs
        return (period_fs - self.owed_fs) * self.ask.rate.amount // period_fs

    @property
    def reset_s(self) -> float:
        """Seconds until nothing is owed."""
        return self.owed_fs / _FS

    @property
    def retry_s(self) -> float:
        """Seconds until the same ask passes; infinite: never."""
        ask = self.ask
        if self.passed:
            return 0.0
        if ask.cost > ask.rate.amount:
            return math.inf
        # Rounded up, and a microsecond for what clocks in floating point lose.
        late_fs = self.owed_fs + ask.price_fs - ask.period_fs
        return (late_fs // _FS_PER_US + 2) / 1_000_000


def price_fs(rate: Rate, cost: int) -> int:
    """Return how far units move the moment, in femtoseconds, rounded down.

    So what is taken is never too much by a part of one, nor what is given back (less than 0) too
    little: a whole amount stays whole however it is divided.
    """
    return cost * int(rate.period_s * _FS) // rate.amount


def weigh(ask: Ask, owed_fs: int, name: str) -> Verdict:
    """Judge an ask of whoever owes so much."""
    period_fs = ask.period_fs
    if owed_fs < 0:
        owed_fs = 0
    elif owed_fs > period_fs:
        owed_fs = period_fs
    after_fs = owed_fs + ask.price_fs
    if after_fs <= period_fs:
        return Verdict(passed=True, ask=ask, owed_fs=after_fs, name=name)
    return Verdict(passed=False, ask=ask, owed_fs=owed_fs, name=name)


class Gcra:
    """A bounded table of accounts, each with the moment at which it owes nothing."""

    def __init__(self, *, accounts_max: int) -> None:
        """Count at most so many accounts apart."""
        assert accounts_max >= 1
        self._accounts_max = accounts_max
        # The whole mutable state: name -> its moment, of accounts (those looked at longest ago
        # come first) and of crowds, of which there are as many as kinds.
        self._moments_fs: OrderedDict[str, int] = OrderedDict()
        self._crowds_fs: dict[str, int] = {}

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._moments_fs) + len(self._crowds_fs)

    def resize(self, accounts_max: int) -> None:
        """Count so many apart from now on; nobody who owes is forgotten for it."""
        self._accounts_max = accounts_max

    def take(self, now: float, asks: Sequence[Ask]) -> tuple[Verdict, ...]:
        """Take all that is asked for, or nothing; return a verdict on each."""
        now_fs = int(now * _FS)
        moments_fs = self._moments_fs
        verdicts: list[Verdict] = []
        passed = True
        for ask in asks:
            name = ask.name
            moment_fs = moments_fs.get(name)
            if moment_fs is None:
                name, moment_fs = self._newcomer(ask, now_fs)
            owed_fs = moment_fs - now_fs
            if owed_fs > ask.period_fs:
                owed_fs = ask.period_fs
                self._rows(name)[name] = now_fs + owed_fs
            verdict = weigh(ask, owed_fs, name)
            passed = passed and verdict.passed
            verdicts.append(verdict)
        if not passed:
            return tuple(
                self._untaken(verdict, now_fs) if verdict.passed else verdict
                for verdict in verdicts
            )
        for verdict in verdicts:
            if verdict.ask.cost:
                rows = self._crowds_fs if verdict.name in self._crowds_fs else moments_fs
                rows[verdict.name] = now_fs + verdict.owed_fs
        return tuple(verdicts)

    def give_back(self, now: float, name: str, units: tuple[Rate, int]) -> None:
        """Move an account's moment back by units of a rate; fewer than 0: on."""
        rate, cost = units
        now_fs = int(now * _FS)
        rows = self._rows(name)
        if name not in rows and not self._has_room(now_fs):
            return  # it owed nothing, and cannot be counted alone
        moment_fs = max(rows.get(name, 0), now_fs) + price_fs(rate, -cost)
        if moment_fs > now_fs:
            rows[name] = moment_fs
        else:
            rows.pop(name, None)

    def _newcomer(self, ask: Ask, now_fs: int) -> tuple[str, int]:
        """Return under which name one is counted that has no row, and that name's moment."""
        if self._has_room(now_fs):
            return ask.name, 0
        return ask.crowd, self._crowds_fs.setdefault(ask.crowd, 0)

    def _untaken(self, verdict: Verdict, now_fs: int) -> Verdict:
        """Return what is said of a rate that would have let pass what another one did not."""
        owed_fs = self._rows(verdict.name).get(verdict.name, 0) - now_fs
        return weigh(verdict.ask.of(0), owed_fs, verdict.name)

    def _rows(self, name: str) -> dict[str, int]:
        return self._crowds_fs if name in self._crowds_fs else self._moments_fs

    def _has_room(self, now_fs: int) -> bool:
        """Whether a newcomer can be counted alone; forget a few that owe nothing."""
        moments_fs = self._moments_fs
        for _ in range(min(_LOOKS_MAX, len(moments_fs))):
            name, moment_fs = next(iter(moments_fs.items()))
            if moment_fs <= now_fs:
                del moments_fs[name]
            elif len(moments_fs) < self._accounts_max:
                break
            else:
                moments_fs.move_to_end(name)
        return len(moments_fs) < self._accounts_max
