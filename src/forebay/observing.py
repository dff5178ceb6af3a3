"""Who reads requests: metrics, the log, and whatever else tells what happened.

A reader is a hook on records, on exchanges that are over, or on both.  What a reader needs at
work (a thread, a connection) it holds within `working`.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping

from forebay.core.record import Hook
from forebay.core.visit import VisitHook
from forebay.gateway.routing import Endpoint
from forebay.settings import Settings
from forebay.telemetry.logs import RequestLog
from forebay.telemetry.metrics import Metrics


class Observing:
    """All readers, by one set of settings."""

    def __init__(self, settings: Settings, *, metrics: Metrics, log: RequestLog) -> None:
        """Make the readers; nothing is read yet."""
        self._settings = settings
        self.metrics = metrics
        self.log = log
        self.hooks: tuple[Hook, ...] = (metrics, log)
        """Read each record."""
        self.over: tuple[VisitHook, ...] = ()
        """Read each exchange when it is over."""

    @property
    def routes(self) -> Mapping[str, Endpoint]:
        """What readers tell of themselves, by path."""
        return {}

    @property
    def routes_below(self) -> Mapping[str, Endpoint]:
        """What readers tell of themselves, by the beginning of a path."""
        return {}

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Keep the readers at work for as long as the scope lasts."""
        yield

    def reconfigure(self, settings: Settings) -> None:
        """Give each reader what is live of its settings."""
        self._settings = settings
        self.log.reconfigure(settings.log)
