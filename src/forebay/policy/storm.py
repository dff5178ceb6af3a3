"""In a storm of refusals, what is like one that was just refused is turned away unread.

Theory of operation
-------------------
At 50 times the capacity, 49 of 50 requests are refused, nearly all by the same forecast: between
two that leave, nothing changes that could let the next one in.  So the newest forecast by which a
kind of request was refused is kept for a moment.  A kind is a tenant, a class, a number of
choices and a magnitude of tokens; a smaller prompt than the one refused is none of its kind, for
it might fare better.  Who leaves makes the door forget: the next of each kind is judged in full.

So this decides nothing of its own.  It repeats what the door said less than `_ALIKE_S` ago to the
same tenant, and it does so only while refusals are so many that their cost counts.  A neighbour
is judged in full, and so is whoever comes back for a promise, by its ticket or with the same body.
"""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from forebay.core.errors import Overloaded
from forebay.core.request import Priority, Request
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.forecast import Expectation
from forebay.policy.promises import Offer, PromiseBook
from forebay.policy.ticket import Ticket, wish_of

_ALIKE_S: Final = 0.02
"""Who comes so soon after one that was refused, and is like it, is expected to fare like it: at
50 times the capacity, 45 of 46 forecasts would say the same."""


class _Kind(NamedTuple):
    """What requests have in common that fare alike."""

    tenant: str
    priority: Priority
    choices: int
    magnitude: int
    """Of the tokens that they ask for at most; -1: they do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refusal:
    """What one was told."""

    since: float
    body_bytes: int
    tokens_max: int | None
    expected: Expectation | None
    message: str
    offer: Offer | None
    """What its promise was computed from; None: it tells nothing of others."""


class Storm:
    """What a lane's door said to those it refused since somebody left."""

    def __init__(self, config: AdmissionConfig, promises: PromiseBook) -> None:
        """Promise from the lane's book."""
        self._promises = promises
        # The whole mutable state: the newest refusal of each kind, and how many there were in the
        # second that is now and in the one before.
        self._refusals: dict[_Kind, _Refusal] = {}
        self._second = 0
        self._count = self._count_before = 0
        self.reconfigure(config)

    def reconfigure(self, config: AdmissionConfig) -> None:
        """Go by `config` from now on."""
        self._per_s = config.storm_per_s or math.inf
        self._kinds_max = config.tenants_max
        self._refusals.clear()

    def rages(self, now: float) -> bool:
        """Whether refusals are so many that most had better cost little."""
        before = self._before(now)
        return max(before, self._count) >= self._per_s

    def expected(self, ticket: Ticket, now: float) -> Expectation | None:
        """Return what was just expected of one that is like this ticket; None: nobody knows."""
        if ticket.promised or not self.rages(now):
            return None
        refusal = self._like(ticket.request, now)
        if refusal is None or refusal.tokens_max != ticket.request.sampling.tokens_max:
            return None
        return refusal.expected

    def refused(self, ticket: Ticket, message: str, now: float) -> None:
        """Note what a ticket was told at the door."""
        self._note(now)
        request, expected = ticket.request, ticket.expected
        # Never a like one instead: its forecast is older, and would live on in the copy.
        if ticket.promised or self._like(request, now) is not None:
            return
        hurried = expected is not None and now + expected.finish_s > request.deadline
        if len(self._refusals) >= self._kinds_max:
            self._refusals.clear()
        self._refusals[_kind(request)] = _Refusal(
            since=now,
            body_bytes=request.body_bytes,
            tokens_max=request.sampling.tokens_max,
            expected=expected,
            message=message,
            offer=None if hurried else ticket.offer,
        )

    def left(self) -> None:
        """Forget: somebody has left, and who comes now may fare better."""
        self._refusals.clear()

    def shed(self, request: Request, now: float) -> None:
        """Raise Overloaded for a request that need not be read, prompt and all.

        It must have no deadline of its own, no key and no ticket, and ask for an answer that no
        other request's can serve.
        """
        refusal = self._like(request, now)
        if refusal is None or refusal.offer is None:
            return
        wish = wish_of(request)
        if self._promises.is_due(wish, now):
            return
        self._note(now)
        promise = self._promises.promise(wish, refusal.offer, now)
        raise Overloaded(
            refusal.message, retry_after_s=max(promise.at - now, 0.0), ticket=promise.ticket
        )

    def _like(self, request: Request, now: float) -> _Refusal | None:
        refusal = self._refusals.get(_kind(request))
        if refusal is None or now - refusal.since >= _ALIKE_S:
            return None
        return refusal if request.body_bytes >= refusal.body_bytes else None

    def _note(self, now: float) -> None:
        self._before(now)
        self._count += 1

    def _before(self, now: float) -> int:
        """Return how many were refused in the second before that of `now`; begin a new one."""
        second = math.floor(now)
        if second != self._second:
            self._count_before = self._count if second == self._second + 1 else 0
            self._second, self._count = second, 0
        return self._count_before


def _kind(request: Request) -> _Kind:
    sampling = request.sampling
    magnitude = -1 if sampling.tokens_max is None else sampling.tokens_max.bit_length()
    return _Kind(request.tenant, request.priority, sampling.choices, magnitude)
