"""What keeps the rates of accounts; a limiter in memory."""

from typing import Protocol

from forebay.core.clock import Clock
from forebay.core.value import value
from forebay.policy.gcra import Ask, Gcra, Verdict
from forebay.serve.limits_config import LimitsConfig


@value
class Taken:
    """What was asked of a limiter, and what it said."""

    asks: tuple[Ask, ...]
    verdicts: tuple[Verdict, ...]
    near: bool = False
    """By this process alone, because the shared limiter is away."""

    @property
    def passed(self) -> bool:
        """Whether all of it was taken; otherwise nothing was."""
        return all(verdict.passed for verdict in self.verdicts)


class Limiter(Protocol):
    """Keeps rates.

    1. `take` takes all that is asked for or nothing, and says of each ask how it stands.
    2. It never fails, and answers soon: where it cannot ask, it judges by what it knows itself.
    3. A caller who is cancelled while it waits has taken nothing.
    4. `give_back` neither fails nor waits; what it cannot give back comes free with time.
    """

    @property
    def alone(self) -> bool:
        """Whether this process judges for itself what several should judge together."""

    async def open(self) -> None:
        """Get ready."""

    async def close(self) -> None:
        """Let go of everything."""

    async def take(self, asks: tuple[Ask, ...]) -> Taken:
        """Take all or nothing."""

    def give_back(self, taken: Taken, costs: tuple[int, ...]) -> None:
        """Give back so many units of each ask; fewer than 0: take them, whatever it leads to."""

    def reconfigure(self, config: LimitsConfig) -> None:
        """Go by `config` from now on."""


class MemoryLimiter:
    """Keeps rates in this process."""

    def __init__(self, config: LimitsConfig, now: Clock) -> None:
        """Count `config.accounts_max` apart."""
        self._now = now
        self.table = Gcra(accounts_max=config.accounts_max)

    @property
    def alone(self) -> bool:
        """Never: there is nobody else."""
        return False

    async def open(self) -> None:
        """Nothing is needed."""

    async def close(self) -> None:
        """Nothing is held."""

    async def take(self, asks: tuple[Ask, ...]) -> Taken:
        """Take all or nothing."""
        return Taken(asks=asks, verdicts=self.table.take(self._now(), asks))

    def give_back(self, taken: Taken, costs: tuple[int, ...]) -> None:
        """Give back so many units of each ask."""
        now = self._now()
        for ask, verdict, cost in zip(taken.asks, taken.verdicts, costs, strict=True):
            if cost:
                self.table.give_back(now, verdict.name, (ask.rate, cost))

    def reconfigure(self, config: LimitsConfig) -> None:
        """Go by `config` from now on."""
        self.table.resize(config.accounts_max)
