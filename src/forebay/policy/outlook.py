"""What is said to a request at the door: what to expect, why not, and when to come back.

It joins what is measured (`Forecast`, `Pace`) with what was promised (`PromiseBook`), and
learns from every request that gives a place back.  Without a forecast it knows only the pace
of departures, objects to nothing and promises nothing.
"""

from typing import Final

from forebay.core.request import Request
from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.fair_share import cost_of
from forebay.policy.forecast import Crowd, Departure, Expectation, Forecast, Work, prompt_bytes
from forebay.policy.pace import Pace
from forebay.policy.promises import Offer, PromiseBook, Wish
from forebay.policy.step_costs import StepCosts
from forebay.policy.ticket import Ticket, wish_of


class Outlook:
    """One lane's expectations and promises."""

    def __init__(self, config: AdmissionConfig, costs: StepCosts | None, places: int) -> None:
        """Know what a step costs with up to `places` sequences, or nothing yet."""
        self._config = config
        self._foresees = config.forecast
        # The whole mutable state lies in these three.
        self._forecast = Forecast()
        if costs is not None:
            self._forecast.assume(costs, places)
        self.pace = Pace()
        self.promises = PromiseBook(
            promises_max=config.promises_max,
            grace_s=config.promise_grace_s,
            horizon_s=config.promise_horizon_s,
            share_max=config.promise_ratio,
            tenant_s_max=config.promise_tenant_s_max,
        )

    def reconfigure(self, config: AdmissionConfig) -> None:
        """Judge by what is live in `config` from now on; what was learned stays."""
        self._config = config
        self._foresees = config.forecast

    def cost(self, request: Request) -> float:
        """Return the weighted tokens that a request is expected to cost."""
        forecast, sampling = self._forecast, request.sampling
        tokens = forecast.completion_tokens(sampling.tokens_max)
        if tokens is None:
            tokens = min(_COMPLETION_UNKNOWN, sampling.tokens_max or _COMPLETION_UNKNOWN)
        return cost_of(forecast.prompt_tokens(request.prompt), tokens * sampling.choices)

    def came_back(self, ticket: Ticket, now: float) -> bool:
        """Whether a request was told to come back about now; its promise is spent by asking."""
        if not self.promises:
            return False
        return self.promises.redeem(_wish(ticket), now, ticket=ticket.request.ticket)

    def expect(self, ticket: Ticket, crowd: Crowd) -> Expectation | None:
        """Say what will become of a ticket; None while too little is known."""
        if not self._foresees:
            return None
        request, sampling = ticket.request, ticket.request.sampling
        work = Work(
            prompt_tokens=self._forecast.prompt_tokens(request.prompt),
            tokens_max=sampling.tokens_max,
            choices=sampling.choices,
        )
        return self._forecast.expect(work, crowd)

    def backlog(self) -> float:
        """Return the prompt tokens of those let in that have no token yet."""
        return self._forecast.backlog

    def is_behind(self) -> bool:
        """Whether the engine has so many prompts before it that a free place is of little use."""
        return self._forecast.backlog_s > self._config.interactive_ttft_s * self._config.ttft_ratio

    def admitted(self, ticket: Ticket) -> None:
        """Count a prompt that the engine is to prefill."""
        if self._foresees:
            ticket.unread = self._forecast.prompt_tokens(ticket.request.prompt)
            ticket.backlog = self._forecast.begin(ticket.unread)

    def began(self, ticket: Ticket) -> None:
        """Count a prompt no more: its first token is there, or it has left."""
        self._forecast.begun(ticket.unread)
        ticket.unread = 0.0

    def flow(self, request: Request, now: float) -> float:
        """Return the places per second that others were promised while a request would wait."""
        return self.promises.flow(self._config.ttft_s(request.priority), now)

    def objection(self, ticket: Ticket, now: float) -> str | None:
        """Return why a ticket had better not wait, or None.

        One that was promised a place is held to its own deadline only.  Of one that need not wait
        for a place, only the prompts of others count: a prompt so long that it never meets its
        class's objective is served all the same.
        """
        expected, request = ticket.expected, ticket.request
        if expected is None:
            return None
        if now + expected.finish_s > request.deadline:
            return "The request could not be finished before its deadline. "
        if ticket.promised:
            return None
        waits_s, ratio = expected.ttft_s, self._config.ttft_ratio
        if not expected.departures:
            # How long others' prompts take is surer than when a place comes free: half the margin.
            waits_s, ratio = expected.backlog_s, (ratio + max(ratio, 1.0)) / 2
        ttft_s = now - request.received + waits_s
        if ttft_s > self._config.ttft_s(request.priority) * ratio:
            return "The request would wait longer than requests of its class should. "
        return None

    def is_hopeless(self, ticket: Ticket, now: float) -> bool:
        """Whether it could not be finished in time even if it had not to wait for anybody.

        Half of what it is expected to take: an empty batch is faster than one that is full.
        """
        return _service_s(ticket) * _EMPTY_RATIO > ticket.request.deadline - now

    def come_back(
        self, ticket: Ticket, *, ahead: int, places: int, now: float
    ) -> tuple[float, str | None]:
        """Return in how many seconds a refused request will have a place, and what to show then."""
        gap_s = self._forecast.safe_gap_s(places) if self._foresees else None
        if gap_s is None or ticket.expected is None:
            wait_s = self.pace.until_departures(ahead + 1, unknown_s=self._config.wait_s_max)
            return wait_s, None
        expected = ticket.expected
        wait_s = expected.wait_s + expected.backlog_s
        if now + _service_s(ticket) > ticket.request.deadline:
            return max(wait_s, gap_s), None  # a place alone would not help it
        ticket.offer = offer = Offer(wait_s=wait_s, gap_s=gap_s, size=ticket.size)
        shown = ticket.request.ticket
        promise = self.promises.promise(_wish(ticket), offer, now, ticket=shown)
        return max(promise.at - now, 0.0), promise.ticket

    def departed(self, ticket: Ticket, *, taken: int, now: float) -> None:
        """Learn from a ticket that gives its places back; `taken` counts them still."""
        finished, request = ticket.finished, ticket.request
        held_s = now - ticket.admitted
        usual = (ticket.taken + taken) / 2
        if finished is None:
            self._forecast.learn(Departure(held_s=held_s, taken=usual))
            return
        usage, timing, sampling = finished.usage, finished.timing, request.sampling
        # That an embedding has no tokens says nothing about how many an answer gets.
        tokens = None if sampling.embed else usage.completion_tokens // sampling.choices
        self._forecast.learn(
            Departure(
                held_s=held_s,
                taken=usual,
                prompt_bytes=prompt_bytes(request.prompt),
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=tokens,
                tokens_max=sampling.tokens_max,
                backlog=ticket.backlog,
                first_token_s=timing.first_token_s,
                decode_s=timing.decode_s,
            )
        )


def _service_s(ticket: Ticket) -> float:
    """Return the seconds that a request is expected to take once it has a place; 0 if unknown."""
    expected = ticket.expected
    if expected is None:
        return 0.0
    return expected.finish_s - expected.wait_s - expected.backlog_s


_EMPTY_RATIO: Final = 0.5

_COMPLETION_UNKNOWN: Final = 64
"""Tokens per choice to reckon with until some were made."""


def _wish(ticket: Ticket) -> Wish:
    if ticket.wish is None:
        ticket.wish = wish_of(ticket.request)
    return ticket.wish
