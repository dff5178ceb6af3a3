"""Traces and metrics on their way to a collector: what the settings ask for, and nothing else.

OpenTelemetry's libraries are imported here, in functions, once there is a collector.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client.core import Metric as Family

from forebay.core.clock import MONOTONIC
from forebay.core.record import EventLog, Hook
from forebay.core.visit import VisitHook
from forebay.telemetry.conventions import OPT_IN_LATEST
from forebay.telemetry.otlp_config import GRPC, OtlpMetricsConfig, TracesConfig, headers_of
from forebay.telemetry.otlp_sending import Sender
from forebay.telemetry.span_attributes import Told
from forebay.telemetry.trace_context import Contexts
from forebay.telemetry.traces import Finished, SpanMaker, Traces

if TYPE_CHECKING:
    from forebay.telemetry.otlp import Collector
    from forebay.telemetry.otlp_metrics import Reading

_READINGS_MAX: Final = 2
"""Readings that wait: each tells all that the ones before it told."""

_ANY: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - names of any address, not bound to


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where this server answers, as spans tell it."""

    host: str = ""
    port: int = 0
    secure: bool = False
    open_mode: bool = True


class Numbers(Protocol):
    """What knows every metric's numbers."""

    def collect(self) -> Iterable[Family]:
        """Return every family of the catalogue."""

    def durations_by_route(self) -> Family:
        """Return how long requests took, by endpoint."""


class Exports:
    """What goes to the collector.  Held in `working`; without a collector it does nothing."""

    def __init__(
        self,
        traces: TracesConfig,
        metrics: OtlpMetricsConfig,
        served: Served,
        *,
        numbers: Numbers,
        log: EventLog,
    ) -> None:
        """Make the senders that are asked for; `numbers` are read in the event loop."""
        self._config, self._metrics = traces, metrics
        self._numbers = numbers
        self._spans = self._span_sender(served, log) if traces.endpoint else None
        self._readings = self._reading_sender(log) if metrics.period_s else None
        put = self._spans.put if self._spans else None
        self._traces = Traces(traces, open_mode=served.open_mode, put=put)

    @property
    def contexts(self) -> Contexts:
        """What gives exchanges their place in a trace."""
        return self._traces.contexts

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """Who reads records."""
        return (self._traces,) if self._spans else ()

    @property
    def over(self) -> tuple[VisitHook, ...]:
        """Who reads exchanges that are over."""
        return (self._traces.over,) if self._spans else ()

    @property
    def sent(self) -> Mapping[str, int]:
        """What arrived, by sink."""
        return {name: sender.sent for name, sender in self._senders()}

    @property
    def dropped(self) -> Mapping[str, int]:
        """What was lost, by sink."""
        return {name: sender.dropped for name, sender in self._senders()}

    def reconfigure(self, traces: TracesConfig) -> None:
        """Hold the exchanges that end from now on to these."""
        self._traces.reconfigure(traces)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Deliver for as long as the scope lasts, and what is left at its end."""
        senders = [sender for _, sender in self._senders()]
        for sender in senders:
            sender.start()
        pushing = asyncio.create_task(self._push()) if self._readings else None
        try:
            yield
        finally:
            if pushing is not None:
                pushing.cancel()
                await asyncio.wait([pushing])
                self._read()
            # Each is bounded by `stop_s_max`, and a thread waits so that the loop does not.
            stopping = [
                asyncio.to_thread(sender.stop, self._config.stop_s_max) for sender in senders
            ]
            await asyncio.gather(*stopping)

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(self._metrics.period_s)
            self._read()

    def _read(self) -> None:
        from forebay.telemetry.otlp_metrics import Reading  # noqa: PLC0415 - only with a collector

        assert self._readings is not None
        families, durations = list(self._numbers.collect()), self._numbers.durations_by_route()
        self._readings.put(Reading(families, durations, time.time_ns()))

    def _senders(self) -> list[tuple[str, "Sender[Finished] | Sender[Reading]"]]:
        found: list[tuple[str, Sender[Finished] | Sender[Reading]]] = []
        if self._spans is not None:
            found.append(("traces", self._spans))
        if self._readings is not None:
            found.append(("metrics", self._readings))
        return found

    def _span_sender(self, served: Served, log: EventLog) -> Sender[Finished]:
        from forebay.telemetry import otlp  # noqa: PLC0415 - 60 ms and 20 MB, only with a collector

        config = self._config
        otlp.quiet()
        exporter = otlp.span_exporter(self._collector(config.endpoint))
        told = Told(
            address=socket.gethostname() if served.host in _ANY else served.host,
            port=served.port,
            secure=served.secure,
            older_names=OPT_IN_LATEST not in config.stability.replace(" ", "").split(","),
            tenants=config.tenants,
            content_characters=config.said_characters_max,
        )
        make = SpanMaker(told, now=MONOTONIC, wall_ns=time.time_ns)
        return Sender(
            "traces",
            otlp.spans_delivery(exporter, otlp.resource(config.service_name), make),
            log,
            queue_max=config.queue_max,
            give_up=exporter.shutdown,
        )

    def _reading_sender(self, log: EventLog) -> "Sender[Reading]":
        from forebay.telemetry import otlp, otlp_metrics  # noqa: PLC0415 - as above

        otlp.quiet()
        endpoint = self._metrics.endpoint or self._config.endpoint
        exporter = otlp.metric_exporter(self._collector(endpoint))
        service = otlp.resource(self._config.service_name)
        convert = otlp_metrics.Converter(service, begun_ns=time.time_ns())
        return Sender(
            "metrics",
            otlp.metrics_delivery(exporter, convert),
            log,
            queue_max=_READINGS_MAX,
            give_up=exporter.shutdown,
        )

    def _collector(self, endpoint: str) -> "Collector":
        from forebay.telemetry.otlp import Collector  # noqa: PLC0415 - as above

        return Collector(
            endpoint=endpoint,
            grpc=self._config.protocol == GRPC,
            headers=headers_of(self._config.headers),
            send_s_max=self._config.send_s_max,
        )
