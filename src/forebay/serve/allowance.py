"""What a request may spend while it is made: taken before, settled with what was made.

Theory of operation
-------------------
On the way in three things are taken, the cheapest first: a permit on each account that may have
only so many requests at once; tokens of each account's rate, as many as the request may use at
the most; and its accounts' budgets.  Whoever is refused one gives back those before it.

On the way out, however it ends, nothing waits: what was made is counted from the events that
passed, tokens that were not used are given back, budgets are settled, permits freed.  So a
cancellation can strike only on the way in, and each step there undoes itself.

The most that a request may use is an estimate where its prompt is text, and an estimate alone
never refuses for ever: it takes no more than the whole rate, and what is used beyond is charged.
What a client asks for in plain numbers (`max_tokens`, choices, token ids) and never fits is told
so.  Once the engine has counted the prompt, what was taken for it in vain is given back at once if
that is most of it.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Final, Protocol

from forebay.core.clock import MONOTONIC, Clock
from forebay.core.errors import Outcome, ServingError
from forebay.core.record import Holding
from forebay.core.request import (
    Delta,
    Event,
    Finished,
    Request,
    Route,
    Scheduled,
    TokenIds,
)
from forebay.core.value import value
from forebay.policy.token_bound import prompt_tokens_most
from forebay.serve.limiter import MemoryLimiter, Taken
from forebay.serve.limits import (
    UNLIMITED,
    Limits,
    OverRate,
    Permit,
    Plan,
    Unit,
)
from forebay.serve.limits_config import LimitsConfig

_BYTES_PER_TOKEN: Final = 4
"""English text in common vocabularies: only where a prompt was read and nobody says how long it
was, which is an upstream's answer that was broken off."""


@value
class Cost:
    """Tokens of one request; completion tokens are summed over its choices."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Reserved:
    """What a `Budgets` holds for one request; nobody else looks inside."""

    __slots__ = ()


class Budgets(Protocol):
    """Budgets and usage of accounts.

    1. `reserve` holds the most that a request may cost on each of its caller's budgets, or on
       none and raises OverBudget.  It is asked of every caller that has accounts.
    2. A caller who is cancelled while it waits has nothing reserved.
    3. `settle` is called once for each `reserve` that returned, whatever became of the request;
       it neither fails nor waits.  More may have been spent than was reserved.
    """

    async def reserve(self, request: Request, most: Cost) -> Reserved:
        """Hold the most that a request may cost."""

    def settle(self, reserved: Reserved, spent: Cost, *, outcome: Outcome) -> None:
        """Let go of what was held, and charge what was spent; nothing, if nothing was made."""


class Spending(Protocol):
    """Counts what a request uses."""

    def saw(self, event: Event, /) -> None:
        """Note an event of its answer."""


class _Free:
    """Of those who are not limited: nothing is taken, nothing counted.  All share one."""

    __slots__ = ()

    async def __aenter__(self) -> Spending:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return

    def saw(self, event: Event, /) -> None:
        """Pass on."""


_FREE: Final = _Free()
_UNCHARGED: Final = (Route.SHADOW, Route.PROBE)
"""Nobody asked for these."""


class Allowance:
    """Takes what requests may spend, and settles what they spent."""

    def __init__(
        self,
        limits: Limits,
        budgets: Budgets | None,
        now: Clock,
        *,
        most: Callable[[Request], int],
    ) -> None:
        """Hold requests to these.

        `most` says how many tokens one choice may get where its client names no number.
        """
        self.limits = limits
        self.budgets = budgets
        self.now = now
        self.most = most
        # The whole mutable state: who is inside, and permits taken by account.
        self.inside: set[_Scope] = set()
        self.permits: dict[str, int] = {}

    def of(self, request: Request) -> AbstractAsyncContextManager[Spending]:
        """Return a scope: entering takes what the request may spend, leaving settles.

        Entering raises OverRate, OverBudget, or Invalid where the request never fits.
        """
        caller = request.caller
        plan = self.limits.plan_of(caller)
        metered = self.budgets is not None and caller.accounts
        if not (metered or plan.tokens or plan.permits) or request.route in _UNCHARGED:
            return _FREE
        return _Scope(self, request, plan)

    def holdings(self) -> Iterator[Holding]:
        """Yield what is held."""
        for scope in self.inside:
            yield from scope.holdings()


class _Scope:
    """One request's permits, tokens and budgets."""

    __slots__ = (
        "_allowance",
        "_completion_most",
        "_permits",
        "_plan",
        "_prompt_most",
        "_request",
        "_reserved",
        "_since",
        "_taken",
        "_units",
        "completion_tokens",
        "prompt_tokens",
    )

    def __init__(self, allowance: Allowance, request: Request, plan: Plan) -> None:
        self._allowance = allowance
        self._request = request
        self._plan = plan
        self._since = 0.0
        self._prompt_most = prompt_tokens_most(request.prompt)
        self._completion_most = self._completion()
        # The whole mutable state: permits that are held; tokens taken, how many of each ask are
        # still held, and budgets; and what was counted.
        self._permits: tuple[Permit, ...] = ()
        self._taken: Taken | None = None
        self._units: tuple[int, ...] = ()
        self._reserved: Reserved | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0

    async def __aenter__(self) -> Spending:
        """Take everything, or nothing."""
        allowance = self._allowance
        self._since = allowance.now()
        self._take_permits()
        allowance.inside.add(self)
        try:
            await self._take_tokens()
            if allowance.budgets is not None and self._request.caller.accounts:
                self._reserved = await allowance.budgets.reserve(
                    self._request,
                    Cost(prompt_tokens=self._prompt_most, completion_tokens=self._completion_most),
                )
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Settle; nothing here waits."""
        spent = self._spent()
        self._leave(spent.prompt_tokens + spent.completion_tokens)
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            assert self._allowance.budgets is not None
            self._allowance.budgets.settle(reserved, spent, outcome=_outcome(error))

    def saw(self, event: Event, /) -> None:
        """Note an event of its answer."""
        match event:
            case Delta():
                self.completion_tokens += event.tokens
            case Scheduled():
                self.prompt_tokens = event.prompt_tokens
                self._keep(event.prompt_tokens + self._completion_most)
            case Finished():
                self.prompt_tokens = event.usage.prompt_tokens
                self.completion_tokens = event.usage.completion_tokens

    def holdings(self) -> Iterator[Holding]:
        """Yield what is held."""
        request = self._request
        for kind, amount in (
            ("permit", len(self._permits)),
            ("tokens", max(self._units, default=0)),
        ):
            if amount:
                yield Holding(
                    kind=kind,
                    owner=request.id,
                    tenant=request.tenant,
                    amount=amount,
                    since=self._since,
                    expires=request.deadline,
                )

    def _take_permits(self) -> None:
        """Take a permit of each account that has only so many; raises OverRate."""
        permits, taken = self._plan.permits, self._allowance.permits
        for permit in permits:
            if taken.get(permit.name, 0) >= permit.most:
                self._allowance.limits.refused(permit.level, Unit.CONCURRENT)
                raise OverRate(
                    f"This {permit.level} may have {permit.most}"
                    f" request{'' if permit.most == 1 else 's'} at once, and has as many;"
                    " 0 are left until one of them ends.",
                    retry_after_s=None,
                    standing=UNLIMITED,
                    limit=f"{permit.level} {Unit.CONCURRENT}",
                )
        for permit in permits:
            taken[permit.name] = taken.get(permit.name, 0) + 1
        self._permits = permits

    async def _take_tokens(self) -> None:
        """Take tokens of each account that has only so many; raises OverRate or Invalid."""
        looks = self._plan.tokens
        if not looks:
            return
        prompt = self._request.prompt
        certain = 0 if self._request.sampling.tokens_max is None else self._completion_most
        if isinstance(prompt, TokenIds):
            certain += len(prompt.ids)
        most = self._prompt_most + self._completion_most
        limits = self._allowance.limits
        taken = await limits.limiter.take(
            tuple(look.of(max(certain, min(most, look.rate.amount))) for look in looks)
        )
        if not taken.passed:
            raise limits.refusal(taken)
        self._taken, self._units = taken, tuple(ask.cost for ask in taken.asks)

    def _completion(self) -> int:
        """Return the most tokens that may be made of all choices."""
        sampling = self._request.sampling
        if sampling.embed:
            return 0
        each = sampling.tokens_max
        if each is None:
            each = self._allowance.most(self._request)
        return each * sampling.choices

    def _spent(self) -> Cost:
        """Return what was made, as far as it was seen."""
        prompt_tokens = self.prompt_tokens
        if self.completion_tokens and not prompt_tokens:
            prompt_tokens = max(1, self._prompt_most // _BYTES_PER_TOKEN)
        return Cost(prompt_tokens=prompt_tokens, completion_tokens=self.completion_tokens)

    def _keep(self, tokens: int) -> None:
        """Give back what is held of each rate beyond so many tokens, if it is worth a call."""
        taken, units = self._taken, self._units
        if taken is not None and tokens * 2 < max(units):
            kept = tuple(min(held, tokens) for held in units)
            back = tuple(held - keeps for held, keeps in zip(units, kept, strict=True))
            self._units = kept
            self._allowance.limits.limiter.give_back(taken, back)

    def _leave(self, used: int = 0) -> None:
        """Give back tokens that were not used, charge those beyond, free the permits."""
        allowance = self._allowance
        taken, self._taken = self._taken, None
        units, self._units = self._units, ()
        if taken is not None:
            allowance.limits.limiter.give_back(taken, tuple(held - used for held in units))
        permits, self._permits = self._permits, ()
        for permit in permits:
            left = allowance.permits[permit.name] - 1
            if left:
                allowance.permits[permit.name] = left
            else:
                del allowance.permits[permit.name]
        allowance.inside.discard(self)


def _outcome(error: BaseException | None) -> Outcome:
    match error:
        case None:
            return Outcome.OK
        case ServingError():
            return error.outcome
        case asyncio.CancelledError() | GeneratorExit():
            return Outcome.CANCELLED
        case _:
            return Outcome.INTERNAL_ERROR


def unlimited() -> Allowance:
    """Return an allowance that limits nobody."""
    config = LimitsConfig()
    limits = Limits(MemoryLimiter(config, MONOTONIC), config, MONOTONIC)
    return Allowance(limits, None, MONOTONIC, most=lambda _: 0)
