"""All who wait at a lane's door: one line for each class of work, and the turns they take.

Interactive goes before batch, but after `batch_overtaken_max` interactive tickets that went before
waiting batch ones, one of those has its turn.  Whose turn it is within a class is the business of
`waiting_line.py`.  Neither class can fill the queue against the other: interactive displaces
batch beyond a tenth of it, batch displaces interactive up to there.
"""

import math
from collections.abc import Iterator

from forebay.core.request import Priority, Request
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.fair_share import FairShare, parse_weights
from forebay.policy.standing import Standing
from forebay.policy.ticket import Ticket
from forebay.policy.waiting_line import WaitingLine


class Waiting:
    """The waiting tickets of both classes."""

    def __init__(self, config: AdmissionConfig) -> None:
        """Let nobody wait yet; raises ValueError for tenant weights that cannot be read."""
        self._config = config
        weights = parse_weights(config.tenant_weights)
        # The whole mutable state: who waits in each class, and how many in both; since when
        # somebody does; how often batch was overtaken; and when somebody expires next.
        self.interactive, self.batch = (
            WaitingLine(
                FairShare(weights, tenants_max=config.tenants_max, credit=config.credit_tokens)
            )
            for _ in Priority
        )
        self._count = 0
        self._standing = Standing(config.standing_s)
        self._overtaken = 0
        self._expires_next = math.inf

    def reconfigure(self, config: AdmissionConfig) -> None:
        """Go by what is live in `config` from now on; who waits, waits on."""
        self._config = config

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        """Yield who waits, class by class."""
        yield from self.interactive
        yield from self.batch

    def line(self, request: Request) -> WaitingLine:
        """Return the line of a request's class."""
        return self.interactive if request.priority is Priority.INTERACTIVE else self.batch

    def stands(self, now: float) -> bool:
        """Whether the queue has not been empty for so long that it only delays."""
        return self._standing.at(now)

    def add(self, ticket: Ticket, now: float) -> None:
        """Let a ticket wait."""
        self.line(ticket.request).add(ticket)
        self._count += 1
        self._standing.filled(now)
        self._expires_next = min(self._expires_next, ticket.expires)

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out that waits."""
        self.line(ticket.request).remove(ticket)
        self._count -= 1
        if not self._count:
            self._standing.emptied()
        if not self.batch:
            self._overtaken = 0

    def take_turn(self, ticket: Ticket) -> None:
        """Take a ticket out whose turn has come."""
        interactive = self.line(ticket.request) is self.interactive
        self._overtaken = self._overtaken + 1 if interactive else 0
        self.remove(ticket)

    def in_turn(self) -> Iterator[WaitingLine]:
        """Yield the lines in which somebody waits, first the one whose turn it is."""
        lines = self.interactive, self.batch
        if self._overtaken >= self._config.batch_overtaken_max:
            lines = self.batch, self.interactive
        return (line for line in lines if line)

    def may_be_late(self, now: float) -> bool:
        """Whether it is time to look for those who have waited too long."""
        return now >= self._expires_next

    def take_late(self, now: float) -> list[Ticket]:
        """Take out those who have waited too long, and return them."""
        late = [ticket for ticket in self if ticket.expires <= now]
        for ticket in late:
            self.remove(ticket)
        self._expires_next = min((ticket.expires for ticket in self), default=math.inf)
        return late

    def places_before(self, ticket: Ticket, cost: float, now: float) -> float:
        """Return the places that those will take who wait and would go before a ticket.

        Each costs `cost`; somebody must wait.
        """
        interactive, batch = self.interactive, self.batch
        ahead = self.line(ticket.request).ahead_of(ticket, cost)
        overtaken_max = self._config.batch_overtaken_max
        if ticket.request.priority is Priority.INTERACTIVE:
            ahead += min(len(batch), ahead / overtaken_max)
        elif interactive and self.stands(now):
            # There will always be somebody interactive: it goes forward by its turns alone.
            ahead += (ahead + 1) * overtaken_max
        else:
            ahead += len(interactive)
        return ahead * (interactive.places + batch.places) / self._count

    def who_yields_to(self, ticket: Ticket) -> Ticket | None:
        """Return who must go, where the queue is full, for one with a better right to wait."""
        request, batch_share = ticket.request, self._config.waiting_max // 10
        line = self.line(request)
        found: Ticket | None = None
        if line is self.interactive and len(self.batch) > batch_share:
            found = self.batch.newest_of_largest()
        elif line is self.batch and len(self.batch) < batch_share:
            found = self.interactive.newest_of_largest()
        found = found or line.who_yields_to(request)
        if found is None and ticket.promised:
            found = line.newest_of_largest()
        return found
