"""What every request passes before it is served: who asks, how much it may, what it says."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial

from forebay.core.clock import MONOTONIC
from forebay.core.record import EventLog
from forebay.core.request import Request
from forebay.gateway.access import Access
from forebay.gateway.client_address import TrustedProxies
from forebay.policy.addresses import is_loopback
from forebay.serve.allowance import Allowance, Budgets
from forebay.serve.credentials import Credentials
from forebay.serve.lanes import Lanes
from forebay.serve.limits import Limits
from forebay.serve.limits_redis import limiter
from forebay.serve.screening import Screening
from forebay.settings import Settings


class Entrance:
    """Access, limits, the allowance and the guard, by one set of settings."""

    def __init__(
        self,
        settings: Settings,
        lanes: Lanes,
        log: EventLog,
        *,
        credentials: Credentials | None,
        budgets: Budgets | None,
    ) -> None:
        """Put them together; without `credentials` nobody is asked who they are."""
        kept = limiter(settings.limits, settings.store, now=MONOTONIC, log=log)
        self.limits = Limits(kept, settings.limits, MONOTONIC, closed=credentials is not None)
        most = partial(_most_tokens, lanes)
        self.allowance = Allowance(self.limits, budgets, MONOTONIC, most=most)
        self.screening = Screening(settings.guard, log)
        self.access = Access(
            settings.access,
            local=is_loopback(settings.server.host),
            credentials=credentials,
            limits=self.limits,
            proxies=TrustedProxies.parse(settings.server.trusted_proxies),
        )

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Keep what others ask at work for as long as the scope lasts."""
        await self.limits.limiter.open()
        try:
            yield
        finally:
            self.screening.close()
            await self.limits.limiter.close()

    def reconfigure(self, settings: Settings) -> None:
        """Give each part what is live of its settings."""
        self.access.reconfigure(settings.access)
        self.limits.reconfigure(settings.limits)
        self.screening.reconfigure(settings.guard)


def _most_tokens(lanes: Lanes, request: Request) -> int:
    """Return how many tokens a choice may get that names no number: what the context leaves."""
    lane = lanes.get(request.model)
    return 0 if lane is None else lane.engine.info.context_tokens_max
