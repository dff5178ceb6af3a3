"""What came in, how it ended, what is still here, and what is held for whom.

Theory of operation
-------------------
A request is *received* where its HTTP exchange begins, *ends* when its record is written, and
is *in flight* in between.  The three are counted apart, at three places of the code, so that
`received = sum of outcomes + in flight` is a check and no definition: an exchange that closes
without a record leaves the sum short for ever, a record that nobody asked for, or a second one,
makes it too large.

Exchanges are told apart by their id, and ids are the clients' to choose: several exchanges of
one id are counted together, and each close takes one record of that id with it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final

from forebay.core.clock import Clock
from forebay.core.errors import Outcome
from forebay.core.record import Holder, Holding, RequestRecord
from forebay.core.request import RequestId

READ_MAX: Final = 100_000
"""Most holdings that one reading looks at; the door and the engine are bounded far below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The running identity at one moment."""

    received: int
    outcomes: Mapping[Outcome, int]
    in_flight: int

    @property
    def imbalance(self) -> int:
        """`received - (sum of outcomes + in flight)`; anything but 0 is a defect."""
        return self.received - sum(self.outcomes.values()) - self.in_flight


@dataclass(slots=True)
class Held:
    """What is held of one kind."""

    count: int = 0
    amount: int = 0
    overdue: int = 0
    """Holdings whose expiry has passed: somebody forgot them."""
    holdings: list[Holding] = field(default_factory=list)


@dataclass(slots=True)
class _Open:
    """Exchanges of one id that have not closed, and records that came for them."""

    exchanges: int = 0
    records: int = 0


class Ledger:
    """Counts exchanges and records, and asks whoever holds something."""

    def __init__(self, now: Clock) -> None:
        """Start with nothing received and nobody to ask."""
        self._now = now
        # The whole mutable state.  `_in_flight`: opened, and neither recorded nor closed.
        self._received = 0
        self._in_flight = 0
        self._outcomes = dict.fromkeys(Outcome, 0)
        self._open: dict[RequestId, _Open] = {}
        self._holders: list[Holder] = []

    def opened(self, id: RequestId) -> None:
        """Receive a request: its exchange begins, and must end in a record."""
        self._received += 1
        entry = self._open.get(id)
        if entry is None:
            entry = self._open[id] = _Open()
        entry.exchanges += 1
        self._in_flight += 1

    def closed(self, id: RequestId) -> None:
        """Let an exchange go, whether its record was written or not."""
        entry = self._open[id]
        entry.exchanges -= 1
        if entry.records:
            entry.records -= 1
        else:
            self._in_flight -= 1
        if not entry.exchanges:
            del self._open[id]

    def __call__(self, record: RequestRecord) -> None:
        """Count a record: the ledger is a hook."""
        self._outcomes[record.outcome] += 1
        entry = self._open.get(record.id)
        if entry is not None and entry.records < entry.exchanges:
            entry.records += 1
            self._in_flight -= 1

    def ask(self, holder: Holder) -> None:
        """Read this one too when somebody wants to know what is held."""
        self._holders.append(holder)

    @property
    def imbalance(self) -> int:
        """`received - (sum of outcomes + in flight)`, cheaply."""
        return self._received - sum(self._outcomes.values()) - self._in_flight

    def balance(self) -> Balance:
        """Return the identity as it stands."""
        return Balance(
            received=self._received, outcomes=dict(self._outcomes), in_flight=self._in_flight
        )

    def holdings(self) -> Iterator[Holding]:
        """Yield whatever is held, holder by holder; bounded."""
        held: Iterable[Holding] = chain.from_iterable(holder() for holder in self._holders)
        return islice(held, READ_MAX)

    def amounts(self) -> dict[str, int]:
        """Return how much is held of each kind."""
        found: defaultdict[str, int] = defaultdict(int)
        for holding in self.holdings():
            found[holding.kind] += holding.amount
        return dict(found)

    def held(self, listed_max: int) -> dict[str, Held]:
        """Return what is held by kind; of each kind at most `listed_max`, the oldest first."""
        now = self._now()
        found: defaultdict[str, Held] = defaultdict(Held)
        for holding in self.holdings():
            kind = found[holding.kind]
            kind.count += 1
            kind.amount += holding.amount
            kind.overdue += holding.expires is not None and holding.expires < now
            kind.holdings.append(holding)
        for kind in found.values():
            kind.holdings.sort(key=lambda holding: holding.since)
            del kind.holdings[listed_max:]
        return dict(found)
