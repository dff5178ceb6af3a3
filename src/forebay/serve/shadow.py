"""Copies of requests for a model that nobody reads yet: measured like all others, then dropped.

A copy is made from the record of a request that was answered, so it takes nothing from it.  It is
of the lowest class and of a tenant of its own, so it waits behind everybody, and it has a record
of its own, with the route `shadow`.
"""

import asyncio
import random
import secrets
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final, Protocol

from forebay.core.clock import Clock
from forebay.core.errors import Outcome, ServingError
from forebay.core.record import RequestRecord
from forebay.core.request import (
    NO_REUSE,
    Events,
    Priority,
    Request,
    RequestId,
    Route,
    Source,
)
from forebay.serve.lanes import Lanes
from forebay.serve.ledger import Ledger
from forebay.serve.routes import Routes

TENANT: Final = "shadow"


class Completes(Protocol):
    """What makes completions: the pipeline."""

    def complete(self, request: Request) -> Events:
        """Return a completion's events; raises ServingError as they are read."""


class Shadows:
    """A hook that copies requests of routes with a shadow.

    Mutable state: the copies under way, how many were not made, whether it has stopped, and the
    pipeline, which is made after its hooks.
    """

    def __init__(
        self,
        routes: Routes,
        lanes: Lanes,
        ledger: Ledger,
        *,
        now: Clock,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """Copy what comes by `routes`; `dice` gives shares in [0, 1)."""
        self._routes = routes
        self._lanes = lanes
        self._ledger = ledger
        self._now = now
        self._dice = dice
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopped = False
        self.dropped = 0
        """Copies that were not made because too many were under way."""
        self.pipeline: Completes | None = None

    def __call__(self, record: RequestRecord) -> None:
        """Copy a request that was answered, if its route has a shadow."""
        route = self._routes.get(record.via) if record.via else None
        if route is None or not route.config.shadow or record.request is None or self._stopped:
            return
        if record.outcome is not Outcome.OK or record.timeline.source is not Source.ENGINE:
            return
        if self._dice() >= route.config.shadow_ratio:
            return
        if len(self._under_way) >= route.config.shadow_running_max:
            self.dropped += 1
            return
        copying = self._copy(record.request, route.config.shadow)
        task = asyncio.get_running_loop().create_task(copying)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def stop(self) -> None:
        """End the copies under way, and make no more."""
        self._stopped = True
        tasks = tuple(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _copy(self, request: Request, model: str) -> None:
        assert self.pipeline is not None, "a record is written by a pipeline"
        deadline = self._now() + (request.deadline - request.received)
        try:
            lane = await self._lanes.awake(model, deadline)
        except ServingError:
            return  # there is nobody to be measured; the log says why it could not be loaded
        copy = replace(
            request,
            id=RequestId(f"shadow-{secrets.token_hex(8)}"),
            route=Route.SHADOW,
            model=lane.name,
            sampling=replace(request.sampling, adapter=lane.adapter),
            received=self._now(),
            deadline=deadline,
            tenant=TENANT,
            priority=Priority.BATCH,
            key=None,
            resume_after=None,
            ticket=None,
            repeatable=False,
            reuse=NO_REUSE,
            via="",
            visit=None,
        )
        self._ledger.opened(copy.id)
        try:
            async with aclosing(self.pipeline.complete(copy)) as events:
                async for _ in events:
                    pass
        except ServingError:
            return  # its record says how it ended
        finally:
            self._ledger.closed(copy.id)
