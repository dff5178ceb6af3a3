"""A request's place at the door of a lane."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from forebay.core.errors import Overloaded
from forebay.core.record import Holding
from forebay.core.request import Finished, Request
from forebay.policy.forecast import Expectation
from forebay.policy.promises import Offer, Wish


class Place(enum.Enum):
    """Where a request is.  It only moves down this list."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    GONE = enum.auto()


def _nobody() -> None:
    """Who runs at once need not be woken."""


@dataclass(slots=True, eq=False)
class Ticket:
    """What a request holds from the door until it leaves; the queue alone changes its place."""

    request: Request
    since: float
    """When it came to the door."""
    expires: float
    """When it is told that it waited in vain."""
    due: float = 0.0
    """When waiting becomes pointless: its deadline, or the longest wait."""
    number: int = 0
    """How many came before it."""
    place: Place = Place.WAITING
    wish: Wish | None = None
    """Who asks for what, once somebody wanted to know."""
    promised: bool = False
    """It was told to come back at about this time, and goes before those who were not."""
    charge: float = 0.0
    """What its tenant was charged for it when it was let in: expected weighted tokens."""
    admitted: float = 0.0
    """When it was let in."""
    taken: int = 0
    """Places taken then, its own included."""
    backlog: float = 0.0
    """Prompt tokens of others that were to be prefilled then before its own."""
    unread: float = 0.0
    """Its own, as long as it has no token."""
    expected: Expectation | None = None
    """What was expected of it when it came; None where it could run at once."""
    wake: Callable[[], None] = _nobody
    offer: Offer | None = None
    """What it was promised something by, where it was refused."""
    refusal: Overloaded | None = None
    """Why it went without having waited too long: another had a better right to wait."""
    finished: Finished | None = None
    """What was made and how long it took, written by whoever sees the answer's end."""

    @property
    def size(self) -> int:
        """Places that it needs: each choice is a sequence of its own."""
        return self.request.sampling.choices

    @property
    def ttft_forecast_s(self) -> float | None:
        """Expected time to first token when it came, counted from its receipt, seconds."""
        if self.expected is None:
            return None
        return self.since - self.request.received + self.expected.ttft_s

    @property
    def rank(self) -> tuple[bool, float, int]:
        """Its order among its tenant's tickets of one class; the least goes first.

        By deadline, not by `expires`: a shorter wait in a queue that stands does not go first.
        """
        return (not self.promised, self.due, self.number)

    def holding(self, kind: str) -> Holding:
        """Return it as a line of the ledger."""
        waits = self.place is Place.WAITING
        return Holding(
            kind=kind,
            owner=self.request.id,
            tenant=self.request.tenant,
            amount=self.size,
            since=self.since if waits else self.admitted,
            expires=self.expires if waits else self.request.deadline,
        )


def wish_of(request: Request) -> Wish:
    """Return by what a request is known that comes back without its ticket.

    By its body where there is one: it is known before the request is read.  A promise is known by
    its own process only, so Python's hash will do: refusals are many, and SHA-256 of the whole
    request was a quarter of what one costs.
    """
    sign = request.body_sign or hash(
        (request.route, request.model, request.prompt, request.sampling)
    )
    return Wish(request.tenant, f"{sign & _HASH_BITS:016x}")


_HASH_BITS: Final = 2**64 - 1
