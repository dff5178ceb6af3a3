"""Who reads requests: metrics, the log, and whatever else tells what happened.

A reader is a hook on records, on exchanges that are over, or on both.  What a reader needs at
work (a thread, a connection) it holds within `working`.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

from forebay.core.clock import MONOTONIC
from forebay.core.record import Hook
from forebay.core.visit import VisitHook
from forebay.gateway.access import Access
from forebay.gateway.receipts import ReceiptPages
from forebay.gateway.routing import Endpoint
from forebay.gateway.slo_page import SLO_PATH, slo_endpoint
from forebay.serve.objectives import Objectives
from forebay.serve.slo_file import read_spec
from forebay.settings import Settings
from forebay.telemetry.gpu import Gpus
from forebay.telemetry.http_tally import HttpTally
from forebay.telemetry.logs import RequestLog
from forebay.telemetry.loop_lag import LoopLag
from forebay.telemetry.machine import Machine, Places
from forebay.telemetry.metrics import Metrics
from forebay.telemetry.otlp_exports import Exports, Served
from forebay.telemetry.outlet import TCP
from forebay.telemetry.readings import MachineReading
from forebay.telemetry.receipts import Receipts
from forebay.telemetry.sampled import Sampled


class Observing:
    """All readers, by one set of settings."""

    def __init__(
        self,
        settings: Settings,
        *,
        metrics: Metrics,
        log: RequestLog,
        lag: LoopLag,
        access: Access,
    ) -> None:
        """Make the readers; nothing is read yet.  `access` says who may see others' receipts."""
        self._settings = settings
        self.metrics = metrics
        self.log = log
        self.objectives = Objectives(read_spec(settings.slo), MONOTONIC)
        self.hooks: tuple[Hook, ...] = (metrics, log, self.objectives)
        """Read each record."""
        self._name_traces(settings)
        http = HttpTally()
        metrics.join(http.families)
        self.over: tuple[VisitHook, ...] = (http,)
        """Read each exchange when it is over."""
        self._receipts: ReceiptPages | None = None
        self._kept: Receipts | None = None
        if settings.receipts.kept_max:
            self._kept = receipts = Receipts(settings.receipts, lag.stalled_s)
            self.hooks, self.over = (*self.hooks, receipts), (*self.over, receipts.over)
            self._receipts = ReceiptPages(receipts, access.oversees, now=MONOTONIC, wall=time.time)
        self.exports = Exports(
            settings.traces,
            settings.otlp_metrics,
            _served(settings),
            numbers=metrics,
            log=log.event,
        )
        self.hooks, self.over = (*self.hooks, *self.exports.hooks), (*self.over, *self.exports.over)
        period_s = settings.metrics.sample_s
        self._machine = Sampled(
            Machine(_places(settings)).read, period_s=period_s, now=MONOTONIC, name="machine"
        )
        self._gpus = Sampled(Gpus().read, period_s=period_s, now=MONOTONIC, name="gpus")

    @property
    def machine(self) -> MachineReading:
        """What the server runs on, as it was read a moment ago."""
        reading = self._machine.latest() or MachineReading()
        return replace(reading, gpus=self._gpus.latest() or ())

    @property
    def slo(self) -> Mapping[tuple[str, str], int]:
        """(objective, good or bad) -> requests that it counts."""
        return self.objectives.counts

    @property
    def sent(self) -> Mapping[str, int]:
        """What reached a sink of telemetry, by its name: `SINKS`."""
        # None is dropped: what a bounded memory forgets is not lost on its way.
        made = self._kept.made if self._kept else 0
        return {"log": self.log.sent, "receipts": made, **self.exports.sent}

    @property
    def dropped(self) -> Mapping[str, int]:
        """What was given up on its way to a sink, by its name: `SINKS`."""
        return {"log": self.log.dropped, **self.exports.dropped}

    @property
    def routes(self) -> Mapping[str, Endpoint]:
        """What readers tell of themselves, by path."""
        receipts = self._receipts.endpoints() if self._receipts else {}
        return {SLO_PATH: slo_endpoint(self.objectives, MONOTONIC), **receipts}

    @property
    def routes_below(self) -> Mapping[str, Endpoint]:
        """What readers tell of themselves, by the beginning of a path."""
        return self._receipts.endpoints_below() if self._receipts else {}

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Keep the readers at work for as long as the scope lasts."""
        with self._machine, self._gpus:
            async with self.exports.working():
                yield

    def reconfigure(self, settings: Settings) -> None:
        """Give each reader what is live of its settings."""
        self._settings = settings
        self._name_traces(settings)
        self.log.reconfigure(settings.log)
        self.exports.reconfigure(settings.traces)

    def _name_traces(self, settings: Settings) -> None:
        self.metrics.exemplars = settings.metrics.exemplars
        self.metrics.traces_slow_s = settings.traces.slow_s if settings.traces.endpoint else None


def _served(settings: Settings) -> Served:
    server = settings.server
    return Served(
        host=server.host,
        port=server.port,
        secure=bool(server.tls_certificate),
        open_mode=settings.access.mode == "open",
    )


def _places(settings: Settings) -> Places:
    log, certificate = settings.log.destination, settings.server.tls_certificate
    volumes = {"state": settings.replay.file().parent, "models": settings.model.folder()}
    if log not in {"stdout", "stderr"} and not log.startswith(TCP):
        volumes["log"] = Path(log).parent
    return Places(volumes=volumes, certificate=Path(certificate) if certificate else None)
