"""What is sent to an OpenTelemetry collector, and what must be there for it."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from forebay.core.knob import knob

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesConfig:
    """Which traces are sent, what is in them, and to where."""

    endpoint: str = knob(
        "",
        "Address of an OpenTelemetry collector, as http://127.0.0.1:4318 (grpc: 4317); empty: no "
        "spans are made. Needs forebay[otlp], and for grpc forebay[otlp-grpc].",
    )
    protocol: str = knob(
        HTTP, "How the collector is spoken to, for metrics too.", choices=(HTTP, GRPC)
    )
    headers: str = knob(
        "",
        "Headers that the collector wants, as name=value,name=value; for metrics too.",
        secret=True,
    )
    service_name: str = knob("forebay", "What this server is called in traces and metrics.")
    ratio: float = knob(
        1.0,
        "Share of traces that is kept, by trace id; what failed by our fault or was slow is kept "
        "all the same.",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    slow_s: float = knob(
        30.0,
        "A request that took this long is always kept, in seconds.",
        minimum=0.0,
        maximum=86_400.0,
        live=True,
    )
    trust_parent: str = knob(
        "auto",
        "Whether a caller's traceparent says if its trace is kept, and its tracestate is passed "
        "on; auto: in open mode.",
        choices=("auto", "on", "off"),
    )
    tenants: bool = knob(default=False, help="Tell tenants apart in spans, by a hash.")
    content: bool = knob(
        default=False,
        help="Put prompts and answers into spans, and stop sequences: whoever reads traces reads "
        "them.",
    )
    content_characters_max: int = knob(
        4_096,
        "Most characters of a request's prompt, and of its answer, with traces.content.",
        minimum=1,
        maximum=1_000_000,
    )
    stability: str = knob(
        "",
        "As OTEL_SEMCONV_STABILITY_OPT_IN: with gen_ai_latest_experimental, spans have only the "
        "newest names.",
    )
    queue_max: int = knob(
        2_048,
        "Most exchanges that wait to be sent; more are dropped and counted.",
        minimum=16,
        maximum=1_000_000,
    )
    send_s_max: float = knob(
        10.0,
        "Longest time for one delivery to the collector, its repetitions included, in seconds; "
        "for metrics too.",
        minimum=0.1,
        maximum=120.0,
    )
    stop_s_max: float = knob(
        2.0,
        "When the server stops, longest time to send what is left, in seconds.",
        minimum=0.0,
        maximum=60.0,
    )

    @property
    def said_characters_max(self) -> int:
        """How much of an answer's text its record must keep."""
        return self.content_characters_max if self.endpoint and self.content else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpMetricsConfig:
    """Whether metrics are pushed to a collector, beside being there to be scraped."""

    period_s: float = knob(
        0.0,
        "How often metrics are sent to the collector, in seconds; 0: never.",
        minimum=0.0,
        maximum=3_600.0,
    )
    endpoint: str = knob("", "Address of the collector for metrics; empty: that of traces.")


def headers_of(text: str) -> dict[str, str]:
    """Read headers as OTEL_EXPORTER_OTLP_HEADERS has them; raises ValueError."""
    found = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (unquote(piece).strip() for piece in part.partition("="))
        if not (equals and name.isascii() and value.isascii() and (name + value).isprintable()):
            raise ValueError("a header is written as name=value")
        if not name or set(name) & set(" :()<>@,;/[]?{}"):
            raise ValueError("this is no header's name")
        found[name.lower()] = value
    return found


def misfits(traces: TracesConfig, metrics: OtlpMetricsConfig) -> Iterator[tuple[str, str]]:
    """Yield (setting, what is wrong with it and what to do)."""
    endpoints = {"traces.endpoint": traces.endpoint, "otlp_metrics.endpoint": metrics.endpoint}
    for key, endpoint in endpoints.items():
        if endpoint and not _is_address(endpoint):
            yield key, f"{key} must be an address as http://127.0.0.1:4318."
    try:
        headers_of(traces.headers)
    except ValueError as error:
        yield "traces.headers", f"traces.headers cannot be read: {error}; found ***."
    if metrics.period_s and not (metrics.endpoint or traces.endpoint):
        key = "otlp_metrics.period_s"
        yield key, f"{key} needs a collector: set otlp_metrics.endpoint or traces.endpoint."
    if traces.endpoint or metrics.period_s:
        yield from _missing(traces.protocol)


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = parts.username is None and not parts.query and not parts.fragment
    return plain and parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _missing(protocol: str) -> Iterator[tuple[str, str]]:
    if not _is_there("opentelemetry.exporter.otlp.proto.http"):
        yield "traces.endpoint", "traces.endpoint needs a library: pip install 'forebay[otlp]'."
    elif protocol == GRPC and not _is_there("opentelemetry.exporter.otlp.proto.grpc"):
        wanted = "pip install 'forebay[otlp-grpc]'"
        yield "traces.protocol", f"traces.protocol=grpc needs a library: {wanted}."


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
