"""Those who wait in one class of work: each tenant's own in order, the tenants by fair share."""

import bisect
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Final

from forebay.core.request import Request
from forebay.policy.fair_share import FairShare
from forebay.policy.ticket import Ticket

_RANK: Final[Callable[[Ticket], tuple[bool, float, int]]] = attrgetter("rank")
_NUMBER: Final[Callable[[Ticket], int]] = attrgetter("number")


class WaitingLine:
    """The waiting tickets of one class."""

    def __init__(self, share: FairShare) -> None:
        """Take turns by `share`."""
        self.share = share
        # The whole mutable state: each tenant's tickets by rank, never none; and their sums.
        self._tenants: dict[str, list[Ticket]] = {}
        self._count = 0
        self.places = 0
        """The places that all of them need."""

    def __len__(self) -> int:
        """How many wait."""
        return self._count

    def __iter__(self) -> Iterator[Ticket]:
        """Yield who waits, tenant by tenant."""
        for tickets in self._tenants.values():
            yield from tickets

    def add(self, ticket: Ticket) -> None:
        """Let a ticket wait."""
        tenant = ticket.request.tenant
        tickets = self._tenants.get(tenant)
        if tickets is None:
            self.share.come(tenant)
            self._tenants[tenant] = [ticket]
        else:
            bisect.insort(tickets, ticket, key=_RANK)
        self._count += 1
        self.places += ticket.size

    def remove(self, ticket: Ticket) -> None:
        """Take a ticket out that waits here."""
        tenant = ticket.request.tenant
        tickets = self._tenants[tenant]
        tickets.remove(ticket)
        if not tickets:
            del self._tenants[tenant]
        self._count -= 1
        self.places -= ticket.size

    def tenants(self) -> Iterable[str]:
        """Return who has somebody waiting."""
        return self._tenants

    def first(self) -> Ticket:
        """Return whose turn it is; somebody must wait."""
        if len(self._tenants) == 1:
            return next(iter(self._tenants.values()))[0]
        return min(self._tenants.items(), key=self._turn)[1][0]

    def ahead_of(self, ticket: Ticket, cost: float) -> float:
        """Return how many would go before a ticket if it came now, where each costs `cost`."""
        tenant, share = ticket.request.tenant, self.share
        own = bisect.bisect(self._tenants.get(tenant, ()), ticket.rank, key=_RANK)
        # The counter from which it will be served, once those of its tenant before it are.
        turn = share.turn_if_it_came(tenant) + own * cost / share.weight(tenant)
        ahead = float(own)
        for other, tickets in self._tenants.items():
            if other != tenant:
                lead = (turn - share.turn(other)) * share.weight(other) / cost
                ahead += min(len(tickets), max(0.0, lead) + 1.0)
        return ahead

    def newest_of_largest(self) -> Ticket | None:
        """Return the newest without a promise of the tenant that holds most of the line."""
        for tenant in sorted(self._tenants, key=self._held, reverse=True):
            fresh = [ticket for ticket in self._tenants[tenant] if not ticket.promised]
            if fresh:
                return max(fresh, key=_NUMBER)
        return None

    def who_yields_to(self, request: Request) -> Ticket | None:
        """Return who must go for a request of a tenant that holds less than its share."""
        found = self.newest_of_largest()
        if found is None:
            return None
        share, mine, theirs = self.share, request.tenant, found.request.tenant
        if mine == theirs:
            return None
        held = len(self._tenants.get(mine, ()))
        # It must be the smaller also afterwards, or the two would push each other out for ever.
        after = (len(self._tenants[theirs]) - 1) / share.weight(theirs)
        return found if (held + 1) / share.weight(mine) <= after else None

    def _held(self, tenant: str) -> float:
        return len(self._tenants[tenant]) / self.share.weight(tenant)

    def _turn(self, held: tuple[str, list[Ticket]]) -> tuple[float, tuple[bool, float, int]]:
        tenant, tickets = held
        return self.share.turn(tenant), tickets[0].rank
