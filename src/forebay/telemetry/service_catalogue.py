"""The metrics of the service as its operator sees it: ready, within objectives, observed."""

from typing import Final

from forebay.telemetry.metric import Kind, Label, Metric

SINKS: Final = ("log", "traces", "metrics", "receipts")
"""Where telemetry goes."""

READY: Final = Metric(
    name="forebay_ready",
    kind=Kind.GAUGE,
    help="1 while new requests should come here, as /readyz says.",
    action="0 for minutes: /readyz says why; see llm_worker_restarts_total.",
)
SLO_EVENTS: Final = Metric(
    name="llm_slo_events_total",
    kind=Kind.COUNTER,
    help="Requests that an objective counts, by whether it was met.",
    action="Rising bad: the error budget burns; GET /admin/slo says how much is left.",
    labels=(Label.SLO, Label.RESULT),
)
SENT: Final = Metric(
    name="forebay_telemetry_sent_total",
    kind=Kind.COUNTER,
    help="Log lines, spans, readings and receipts that reached where they go.",
    action="Flat while requests end: look at the sink.",
    labels=(Label.SINK,),
)
DROPPED: Final = Metric(
    name="forebay_telemetry_dropped_total",
    kind=Kind.COUNTER,
    help="Log lines, spans, readings and receipts given up: the sink is slow, or away.",
    action="Any: what is told of requests has holes; look at the sink. Requests are not touched.",
    labels=(Label.SINK,),
)
NAMES_FOLDED: Final = Metric(
    name="forebay_metrics_names_folded",
    kind=Kind.GAUGE,
    help="Models and versions beyond metrics.names_max, which are counted as unknown.",
    action="Above 0: raise metrics.names_max, or take versions off offer that nobody asks.",
)

SERVICE_METRICS: Final = (READY, SLO_EVENTS, SENT, DROPPED, NAMES_FOLDED)
