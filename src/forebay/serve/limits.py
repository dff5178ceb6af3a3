"""How much each caller may ask: requests and tokens per time, for keys, users and tenants.

Requests are counted at the door, before anything is read.  Tokens are taken when a request is
let in and given back when it is known what it used (`serve/allowance.py`).  Both are kept by a
`Limiter`: in this process's memory, or in Redis for several servers (`serve/limits_redis.py`).
"""

import enum
import math
from collections import OrderedDict
from typing import Final

from forebay.core.caller import Account, Caller, Level, Rate
from forebay.core.clock import Clock
from forebay.core.errors import Invalid, RateLimited
from forebay.core.value import value
from forebay.policy.addresses import network_of
from forebay.policy.gcra import Ask, Gcra, Verdict
from forebay.policy.rate import parse_rate, shown_rate
from forebay.serve.limiter import Limiter, Taken
from forebay.serve.limits_config import LimitsConfig

_REQUESTS_CLOSED: Final = Rate(amount=100, period_s=60.0)
"""Where accounts are asked for and nothing is set: what the source documents have."""
_PLANS_MAX: Final = 4_096
"""Callers whose asks are kept ready; credentials are remembered for seconds."""


class Unit(enum.StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"


class Probe(enum.StrEnum):
    """What an address asks without a credential."""

    HEALTH = "health"
    """`/health`."""
    PROBES = "probes"
    """`/livez`, `/readyz`, `/startupz`."""


ADDRESS: Final = "address"
"""The level of whoever shows no credential, in metrics."""
LEVELS: Final = (*(level.value for level in Level), ADDRESS)
UNITS: Final = tuple(unit.value for unit in Unit)


@value
class Standing:
    """How a caller stood with its limits when it was let in, or was not."""

    taken: Taken | None = None

    def tightest(self, unit: Unit) -> tuple[Verdict, int] | None:
        """Return what was said of the limit of a unit that leaves the least, and how much."""
        found: tuple[Verdict, int] | None = None
        if self.taken is not None:
            for verdict in self.taken.verdicts:
                if verdict.ask.crowd.startswith(unit):
                    left = verdict.remaining
                    if found is None or left < found[1]:
                        found = verdict, left
        return found


UNLIMITED: Final = Standing()


class OverRate(RateLimited):
    """A limit is used up; `standing` is what the answer's headers say of it."""

    def __init__(
        self, message: str, *, retry_after_s: float | None, standing: Standing, limit: str
    ) -> None:
        """Say when it is free again, None: nobody knows; `limit` is as in `user requests`."""
        super().__init__(message, retry_after_s=retry_after_s)
        self.standing = standing
        self.limit = limit


@value
class _Defaults:
    """The configuration's bounds by level, read."""

    requests: dict[Level, Rate | None]
    tokens: dict[Level, Rate | None]
    concurrent: dict[Level, int | None]
    probes: dict[Probe, Rate | None]
    any: bool
    """Callers without bounds of their own have some."""


def _read(config: LimitsConfig, *, closed: bool) -> _Defaults:
    requests = {
        Level.KEY: parse_rate(config.requests_per_key),
        Level.USER: parse_rate(config.requests) or (_REQUESTS_CLOSED if closed else None),
        Level.TENANT: parse_rate(config.requests_per_tenant),
    }
    tokens = {
        Level.KEY: parse_rate(config.tokens_per_key),
        Level.USER: parse_rate(config.tokens),
        Level.TENANT: parse_rate(config.tokens_per_tenant),
    }
    concurrent = {
        Level.KEY: config.concurrent_per_key_max or None,
        Level.USER: config.concurrent_max or None,
        Level.TENANT: config.concurrent_per_tenant_max or None,
    }
    return _Defaults(
        requests=requests,
        tokens=tokens,
        concurrent=concurrent,
        probes={Probe.HEALTH: parse_rate(config.health), Probe.PROBES: parse_rate(config.probes)},
        any=any((*requests.values(), *tokens.values(), *concurrent.values())),
    )


@value
class Permit:
    """One account's requests at once."""

    level: Level
    name: str
    most: int


@value
class Plan:
    """What is asked for each request of one caller."""

    caller: Caller
    requests: tuple[Ask, ...] = ()
    """One request of each account, and looks at its tokens."""
    tokens: tuple[Ask, ...] = ()
    """Looks at each account's tokens."""
    permits: tuple[Permit, ...] = ()


_NOBODY_LIMITED: Final = Plan(caller=Caller())


class Limits:
    """Counts what callers ask, and turns away who asks too much."""

    def __init__(
        self, limiter: Limiter, config: LimitsConfig, now: Clock, *, closed: bool = False
    ) -> None:
        """Keep rates in `limiter`; `closed`: accounts are asked for."""
        self.limiter = limiter
        self._now = now
        self._closed = closed
        # The whole mutable state: what is set, what is asked for each caller (by the object's own
        # id, which is its for as long as it is kept here), what addresses asked, and refusals by
        # level and unit.
        self._defaults = _read(config, closed=closed)
        self._plans: OrderedDict[int, Plan] = OrderedDict()
        self._addresses = Gcra(accounts_max=config.accounts_max)
        self.refusals: dict[tuple[str, str], int] = {}

    def reconfigure(self, config: LimitsConfig) -> None:
        """Hold callers to these from now on."""
        self._defaults = _read(config, closed=self._closed)
        self._plans.clear()
        self._addresses.resize(config.accounts_max)
        self.limiter.reconfigure(config)

    def accounts_of(self, caller: Caller) -> tuple[Account, ...]:
        """Return the accounts that a caller's requests are charged to.

        Where nobody is asked who he is, a tenant is all that is known of him: to limits that are
        set nonetheless he is a user of that name.
        """
        if caller.accounts or self._closed or not self._defaults.any:
            return caller.accounts
        return (Account(level=Level.USER, id=caller.tenant),)

    def plan_of(self, caller: Caller) -> Plan:
        """Return what is asked for each request of a caller."""
        if not caller.accounts and not self._defaults.any:
            return _NOBODY_LIMITED
        found = self._plans.get(id(caller))
        if found is None or found.caller is not caller:
            found = self._plans[id(caller)] = self._planned(caller)
            if len(self._plans) > _PLANS_MAX:
                self._plans.popitem(last=False)
        return found

    def at_once(self, caller: Caller, most: int) -> int:
        """Return how many of `most` requests a caller may have at once, if it has no others."""
        return min([most, *(permit.most for permit in self.plan_of(caller).permits)])

    async def enter(self, caller: Caller, *, cost: int = 1) -> Standing:
        """Count requests on each of a caller's accounts.

        Raises OverRate, which says when they pass, or Invalid where they never will.
        """
        asks = self.plan_of(caller).requests
        if cost != 1:
            asks = tuple(ask.of(cost) if ask.cost else ask for ask in asks)
        if not asks:
            return UNLIMITED
        taken = await self.limiter.take(asks)
        if not taken.passed:
            raise self.refusal(taken)
        return Standing(taken=taken)

    async def enter_address(self, address: str, kind: Probe) -> None:
        """Count a probe of whoever shows no credential; raises OverRate.

        It is judged by this process alone: nobody floods a shared store through an open page.
        """
        rate = self._defaults.probes[kind]
        if rate is None:
            return
        ask = Ask(name=f"{kind}:{network_of(address)}", crowd=f"{kind}:", rate=rate)
        (verdict,) = self._addresses.take(self._now(), (ask,))
        if not verdict.passed:
            self.refused(ADDRESS, Unit.REQUESTS)
            raise OverRate(
                f"Without a credential an address may make {_amount(rate, 'requests')} here;"
                f" this one may ask again in {_seconds(verdict.retry_s)}.",
                retry_after_s=verdict.retry_s,
                standing=Standing(taken=Taken(asks=(ask,), verdicts=(verdict,))),
                limit=f"{ADDRESS} {Unit.REQUESTS}",
            )

    def refusal(self, taken: Taken) -> OverRate | Invalid:
        """Count a refusal and return what it says: of the limit that lasts the longest."""
        ask, verdict = max(
            (pair for pair in zip(taken.asks, taken.verdicts, strict=True) if not pair[1].passed),
            key=lambda pair: pair[1].retry_s,
        )
        unit, level, _ = ask.name.split(":", 2)
        self.refused(level, unit)
        may = f"This {level} may {_USES[unit]} {_amount(ask.rate, unit)}"
        if math.isinf(verdict.retry_s):
            return Invalid(
                f"{may}; this takes {ask.cost} at once, which never fits. {_ADVICE[unit]}",
                param=_PARAMS.get(unit),
            )
        return OverRate(
            f"{may}; {verdict.remaining} are left, and this takes {ask.cost}."
            f" It fits in {_seconds(verdict.retry_s)}.",
            retry_after_s=verdict.retry_s,
            standing=Standing(taken=taken),
            limit=f"{level} {unit}",
        )

    def refused(self, level: str, unit: str) -> None:
        """Count a refusal."""
        at = (str(level), str(unit))
        self.refusals[at] = self.refusals.get(at, 0) + 1

    def _planned(self, caller: Caller) -> Plan:
        requests: list[Ask] = []
        tokens: list[Ask] = []
        permits: list[Permit] = []
        defaults = self._defaults
        for account in self.accounts_of(caller):
            own, level = account.bounds, account.level
            if rate := own.requests or defaults.requests[level]:
                requests.append(_ask(Unit.REQUESTS, account, rate, cost=1))
            if rate := own.tokens or defaults.tokens[level]:
                tokens.append(_ask(Unit.TOKENS, account, rate, cost=0))
            if most := own.concurrent or defaults.concurrent[level]:
                permits.append(Permit(level=level, name=f"{level}:{account.id}", most=most))
        return Plan(
            caller=caller,
            requests=(*requests, *tokens),
            tokens=tuple(tokens),
            permits=tuple(permits),
        )


_CROWDS: Final = {unit: {level: f"{unit}:{level}:" for level in Level} for unit in Unit}


def _ask(unit: Unit, account: Account, rate: Rate, *, cost: int) -> Ask:
    crowd = _CROWDS[unit][account.level]
    return Ask(name=crowd + account.id, crowd=crowd, rate=rate, cost=cost)


_USES: Final = {"requests": "make", "tokens": "use"}
_ADVICE: Final = {
    "requests": "Send fewer in one call.",
    "tokens": "Ask for a smaller max_tokens, or fewer choices.",
}
_PARAMS: Final = {"tokens": "max_tokens"}


def _amount(rate: Rate, unit: str) -> str:
    """Write a rate for people: `100 requests per minute`."""
    named = unit.removesuffix("s") if rate.amount == 1 else unit
    return shown_rate(rate).replace("/", f" {named} per ", 1)


def _seconds(seconds: float) -> str:
    """Write a wait for people, rounded up, but for microseconds."""
    seconds -= 0.00001
    if seconds < 10.0:  # noqa: PLR2004 - below that, tenths matter to a reader
        return f"{math.ceil(seconds * 10) / 10:g} s"
    return f"{math.ceil(seconds)} s"
