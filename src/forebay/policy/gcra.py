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
on; an ask looks at no more than one period of debt, so a rate that was made more generous helps
at once, and nobody waits for longer than a period and what he asks for.

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


@value
class Ask:
    """So many units of one account's rate."""

    name: str
    """The account, and what is counted of it."""
    crowd: str
    """With whom it is counted where it cannot be counted alone."""
    rate: Rate
    cost: int = 1
    """0: only look."""


@value
class Verdict:
    """What is said to an ask."""

    passed: bool
    """This rate lets it pass; it was taken only if all that were asked together do."""
    remaining: int
    """Whole units that may be taken now."""
    reset_s: float
    """Seconds until nothing is owed."""
    retry_s: float = 0.0
    """Seconds until the same ask passes; infinite: never."""
    name: str = ""
    """Under which it was counted."""


def price_fs(rate: Rate, cost: int) -> int:
    """Return how far units move the moment, in femtoseconds, rounded down.

    So what is taken is never too much by a part of one, nor what is given back (less than 0) too
    little: a whole amount stays whole however it is divided.
    """
    return cost * int(rate.period_s * _FS) // rate.amount


def weigh(ask: Ask, owed_fs: int, name: str = "") -> tuple[Verdict, int]:
    """Judge an ask of whoever owes so much; return the verdict and what is owed after it."""
    rate = ask.rate
    period_fs = int(rate.period_s * _FS)
    owed_fs = min(max(owed_fs, 0), period_fs)
    after_fs = owed_fs + ask.cost * period_fs // rate.amount
    passed = after_fs <= period_fs
    retry_s = 0.0
    if not passed:
        # Rounded up, and a microsecond for what clocks in floating point lose.
        late_us = (after_fs - period_fs) // _FS_PER_US + 2
        retry_s = late_us / 1_000_000 if ask.cost <= rate.amount else math.inf
        after_fs = owed_fs
    verdict = Verdict(
        passed=passed,
        remaining=(period_fs - after_fs) * rate.amount // period_fs,
        reset_s=after_fs / _FS,
        retry_s=retry_s,
        name=name,
    )
    return verdict, after_fs


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
        judged: list[tuple[Verdict, int]] = []
        passed = True
        for ask in asks:
            name = ask.name
            if name not in self._moments_fs and not self._has_room(now_fs):
                name = ask.crowd
                self._crowds_fs.setdefault(name, 0)
            found = weigh(ask, self._rows(name).get(name, 0) - now_fs, name)
            passed = passed and found[0].passed
            judged.append(found)
        if not passed:
            return tuple(
                self._untaken(ask, verdict, now_fs) if verdict.passed else verdict
                for ask, (verdict, _) in zip(asks, judged, strict=True)
            )
        for verdict, owed_fs in judged:
            if owed_fs:
                self._rows(verdict.name)[verdict.name] = now_fs + owed_fs
        return tuple(verdict for verdict, _ in judged)

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

    def _untaken(self, ask: Ask, verdict: Verdict, now_fs: int) -> Verdict:
        """Return what is said of a rate that would have let pass what another one did not."""
        look = Ask(name=ask.name, crowd=ask.crowd, rate=ask.rate, cost=0)
        owed_fs = self._rows(verdict.name).get(verdict.name, 0) - now_fs
        return weigh(look, owed_fs, verdict.name)[0]

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
