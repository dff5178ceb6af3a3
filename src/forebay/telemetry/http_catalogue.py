"""The metrics of HTTP exchanges: of whatever was asked, requests for tokens or not."""

from typing import Final

from forebay.telemetry.metric import Buckets, Kind, Label, Metric

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
STATUSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")
"""Classes of status codes; `none`: the client was told nothing, because it had gone."""

_EXCHANGE: Final = Buckets(
    bounds=(0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0),
    source="prometheus_client's default, thinned: each route has them; on to 2 minutes for streams",
)
_SIZE: Final = Buckets(
    bounds=(0.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 1_048_576.0),
    source="powers of four, thinned: each route has them; to 1 MiB, the largest body",
)

HTTP_REQUESTS: Final = Metric(
    name="forebay_http_requests_total",
    kind=Kind.COUNTER,
    help="HTTP exchanges that are over, by route, method and class of status.",
    action="Rising 4xx: a client errs; the log says who. none: clients leave before any answer.",
    labels=(Label.ROUTE, Label.METHOD, Label.STATUS),
)
HTTP_DURATION: Final = Metric(
    name="forebay_http_request_duration_seconds",
    kind=Kind.HISTOGRAM,
    help="From a request's head to the last byte of its answer, the wait for the loop included.",
    action="Grown on probe: the gateway lacks CPU. Elsewhere: see llm_request_duration_seconds.",
    labels=(Label.ROUTE,),
    buckets=_EXCHANGE,
)
HTTP_REQUEST_SIZE: Final = Metric(
    name="forebay_http_request_size_bytes",
    kind=Kind.HISTOGRAM,
    help="Size of the bodies of requests, as far as they were read.",
    action="Grown: longer prompts; see llm_prefill_time_seconds.",
    labels=(Label.ROUTE,),
    buckets=_SIZE,
)
HTTP_RESPONSE_SIZE: Final = Metric(
    name="forebay_http_response_size_bytes",
    kind=Kind.HISTOGRAM,
    help="Size of the bodies of answers, as far as they were written.",
    action="Grown: longer completions; see llm_generation_tokens_total.",
    labels=(Label.ROUTE,),
    buckets=_SIZE,
)
HTTP_IN_PROGRESS: Final = Metric(
    name="forebay_http_requests_in_progress",
    kind=Kind.GAUGE,
    help="HTTP exchanges that are not over, the one that reads this among them.",
    action="Far above llm_requests_running and _waiting: clients are slow to send or to read.",
)

HTTP_METRICS: Final = (
    *(HTTP_REQUESTS, HTTP_DURATION, HTTP_REQUEST_SIZE, HTTP_RESPONSE_SIZE, HTTP_IN_PROGRESS),
)
