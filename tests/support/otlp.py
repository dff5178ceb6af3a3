"""An OpenTelemetry collector for tests: keeps what it is sent, over HTTP or gRPC, or misbehaves."""

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import (
    MetricsServiceServicer,
    add_MetricsServiceServicer_to_server,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def value_of(value: AnyValue) -> Any:
    """Return what an attribute says, as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(one) for one in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def attributes_of(pairs: Any) -> dict[str, Any]:
    """Return attributes by name."""
    found: dict[str, Any] = {}
    pair: KeyValue
    for pair in pairs:
        assert pair.key not in found, f"{pair.key} is told twice"
        found[pair.key] = value_of(pair.value)
    return found


@dataclass
class Collected:
    """What has arrived."""

    url: str = ""
    traces: list[ExportTraceServiceRequest] = field(default_factory=list)
    metrics: list[ExportMetricsServiceRequest] = field(default_factory=list)
    heads: list[dict[str, str]] = field(default_factory=list)
    """Headers of each delivery, lower-case."""
    raw: list[bytes] = field(default_factory=list)

    @property
    def spans(self) -> list[Span]:
        """Every span, in the order in which they came."""
        return [
            span
            for delivery in tuple(self.traces)
            for resource in delivery.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def newest_metrics(self) -> dict[str, Metric]:
        """The metrics of the newest delivery, by name."""
        (resource,) = self.metrics[-1].resource_metrics
        return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}

    def until(self, condition: Callable[["Collected"], object], wait_s_max: float = 10.0) -> None:
        """Wait until something is true of what has come."""
        ends = time.monotonic() + wait_s_max
        while not condition(self):
            assert time.monotonic() < ends, f"it never came; {len(self.spans)} spans did"
            time.sleep(0.02)

    def roots(self) -> list[Span]:
        """Return the spans of whole exchanges."""
        return [span for span in self.spans if span.kind == Span.SPAN_KIND_SERVER]

    def below(self, parent: Span) -> list[Span]:
        """Return a span's own, by their beginning."""
        found = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


def _kept(collected: Collected) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collected.heads.append({k.lower(): v for k, v in self.headers.items()})
            collected.raw.append(body)
            answer = b""
            if self.path == "/v1/traces":
                collected.traces.append(ExportTraceServiceRequest.FromString(body))
                answer = ExportTraceServiceResponse().SerializeToString()
            elif self.path == "/v1/metrics":
                collected.metrics.append(ExportMetricsServiceRequest.FromString(body))
                answer = ExportMetricsServiceResponse().SerializeToString()
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def http_collector() -> Iterator[Collected]:
    """Run a collector over HTTP, gzip included."""
    collected = Collected()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _kept(collected))
    server.daemon_threads = True
    collected.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield collected
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Traces(TraceServiceServicer):
    def __init__(self, collected: Collected) -> None:
        self._collected = collected

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self._collected.heads.append(dict(context.invocation_metadata()))
        self._collected.raw.append(request.SerializeToString())
        self._collected.traces.append(request)
        return ExportTraceServiceResponse()


class _Metrics(MetricsServiceServicer):
    def __init__(self, collected: Collected) -> None:
        self._collected = collected

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        self._collected.metrics.append(request)
        return ExportMetricsServiceResponse()


@contextmanager
def grpc_collector() -> Iterator[Collected]:
    """Run a collector over gRPC."""
    collected = Collected()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    add_TraceServiceServicer_to_server(_Traces(collected), server)  # type: ignore[no-untyped-call]
    add_MetricsServiceServicer_to_server(_Metrics(collected), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    collected.url = f"http://127.0.0.1:{port}"
    server.start()
    try:
        yield collected
    finally:
        server.stop(grace=None).wait()
