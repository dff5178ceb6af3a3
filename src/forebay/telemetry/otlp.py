"""OpenTelemetry's own exporters, and what is ours in the shape that they take.

This module needs `forebay[otlp]`; it is imported where `traces.endpoint` or
`otlp_metrics.period_s` asks for it, and nowhere else.
"""

import logging
import platform
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from forebay import __version__
from forebay.telemetry.conventions import SCHEMA_URL
from forebay.telemetry.spans import Span

SCOPE: Final = InstrumentationScope("forebay", __version__, SCHEMA_URL)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_ANSWER_BYTES_MAX: Final = 16_384
"""What is read of a collector's answer, so that the connection can be used again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collector:
    """Where telemetry goes, and how."""

    endpoint: str
    grpc: bool
    headers: dict[str, str]
    send_s_max: float


class Exporter(Protocol):
    """What OpenTelemetry's exporters of one kind have in common."""

    def export(self, what: Any, /) -> Any:  # noqa: ANN401 - of the kind
        """Deliver, and say how it went."""

    def shutdown(self) -> None:
        """End a delivery that is under way."""


def resource(service_name: str) -> Resource:
    """Return what all telemetry of this process says of its maker."""
    return Resource.create(
        {
            "service.name": service_name,
            "service.version": __version__,
            "service.instance.id": str(uuid.uuid4()),
            "host.name": socket.gethostname(),
            "host.arch": platform.machine(),
        },
        schema_url=SCHEMA_URL,
    )


def quiet() -> None:
    """Keep the exporters from writing a log line for each failure: the sender tells of it once."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.ERROR)


class _Session(requests.Session):
    """Reads no more of an answer than it needs to, however much is sent."""

    def __init__(self, read_s_max: float) -> None:
        super().__init__()
        self._read_s_max = read_s_max

    def request(self, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401 - theirs
        """Ask; the answer's body is read up to a bound, and the connection closed beyond it."""
        answer = super().request(*arguments, **options | {"stream": True})
        ends, left = time.monotonic() + self._read_s_max, _ANSWER_BYTES_MAX
        while left > 0 and time.monotonic() < ends:
            piece = answer.raw.read1(left)
            if not piece:
                return answer
            left -= len(piece)
        answer.close()
        return answer


def span_exporter(to: Collector) -> Exporter:
    """Return what delivers spans; raises ImportError without gRPC's library."""
    if to.grpc:
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter  # noqa: PLC0415 - 7 MB

        return trace_exporter.OTLPSpanExporter(
            endpoint=to.endpoint, headers=to.headers, timeout=to.send_s_max
        )
    return OTLPSpanExporter(
        endpoint=_signal(to.endpoint, "traces"),
        headers=to.headers,
        timeout=to.send_s_max,
        compression=Compression.Gzip,
        session=_Session(to.send_s_max),
    )


def metric_exporter(to: Collector) -> Exporter:
    """Return what delivers metrics; raises ImportError without gRPC's library."""
    if to.grpc:
        from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc  # noqa: PLC0415 - 7 MB

        return grpc.OTLPMetricExporter(
            endpoint=to.endpoint, headers=to.headers, timeout=to.send_s_max
        )
    return OTLPMetricExporter(
        endpoint=_signal(to.endpoint, "metrics"),
        headers=to.headers,
        timeout=to.send_s_max,
        compression=Compression.Gzip,
        session=_Session(to.send_s_max),
    )


def _signal(endpoint: str, name: str) -> str:
    base = endpoint.rstrip("/").removesuffix("/v1/traces").removesuffix("/v1/metrics")
    return f"{base}/v1/{name}"


def spans_delivery(
    exporter: Exporter, service: Resource, make: Callable[[Iterable[Any]], Sequence[Span]]
) -> Callable[[list[Any]], bool]:
    """Return what delivers exchanges as the spans that `make` makes of them."""

    def deliver(finished: list[Any]) -> bool:
        spans = [readable(span, service) for span in make(finished)]
        return bool(exporter.export(spans) is SpanExportResult.SUCCESS)

    return deliver


def metrics_delivery(
    exporter: Exporter, convert: Callable[[Any], MetricsData]
) -> Callable[[list[Any]], bool]:
    """Return what delivers readings; of several that wait the newest tells all."""

    def deliver(readings: list[Any]) -> bool:
        return bool(exporter.export(convert(readings[-1])) is MetricExportResult.SUCCESS)

    return deliver


def readable(span: Span, service: Resource) -> ReadableSpan:
    """Return a span in the shape that exporters take."""
    parent = None
    if span.parent_id:
        parent = _context(span.trace_id, span.parent_id, remote=span.serves)
    return ReadableSpan(
        span.name,
        context=_context(span.trace_id, span.span_id, state=span.state),
        parent=parent,
        resource=service,
        attributes=span.attributes,
        events=[Event(event.name, timestamp=event.at_ns) for event in span.events],
        kind=SpanKind.SERVER if span.serves else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=span.begin_ns,
        end_time=span.end_ns,
        instrumentation_scope=SCOPE,
    )


def _context(trace_id: str, span_id: str, *, state: str = "", remote: bool = False) -> SpanContext:
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=remote,
        trace_flags=_SAMPLED,
        trace_state=TraceState.from_header([state]) if state else None,
    )
