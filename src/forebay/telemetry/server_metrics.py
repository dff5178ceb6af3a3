"""What the process as a whole says of itself, and its models and routes, as metrics."""

from collections.abc import Iterator

from prometheus_client.core import Metric as Family

from forebay.telemetry import (
    access_catalogue,
    book_catalogue,
    catalogue,
    guard_catalogue,
    http_catalogue,
    service_catalogue,
)
from forebay.telemetry.access_catalogue import LOGIN_RESULTS, TOKEN_FAULTS
from forebay.telemetry.catalogue import (
    CACHE_RESULTS,
    HELD_KINDS,
    RATE_LIMITS,
)
from forebay.telemetry.families import closed, counter, gauge
from forebay.telemetry.machine_metrics import of_machine
from forebay.telemetry.readings import ServerReading


def of_server(reading: ServerReading) -> Iterator[Family]:
    """Yield the families of one reading."""
    yield from _of_models(reading)
    yield from _of_service(reading)
    yield from of_machine(reading.machine)
    for metric, value in (
        (service_catalogue.READY, reading.ready),
        (http_catalogue.HTTP_IN_PROGRESS, reading.http_in_progress),
        (catalogue.LOOP_LAG, reading.loop_lag_s),
        (catalogue.IMBALANCE, reading.imbalance),
        (catalogue.STORE_DEGRADED, reading.store_degraded),
        (catalogue.LIMITS_DEGRADED, reading.limits_alone),
        (book_catalogue.BUDGET_RESERVED, reading.books.reserved_tokens),
        (book_catalogue.BOOKS_DEGRADED, reading.books.away),
        (book_catalogue.USAGE_WAITING, reading.books.rows_pending),
    ):
        level = gauge(metric)
        level.add_metric([], value)
        yield level
    for metric, count in (
        (catalogue.LINES_DROPPED, reading.log_lines_dropped),
        (catalogue.FLIGHTS, reading.flights),
        (catalogue.SHADOWS_DROPPED, reading.shadows_dropped),
        (book_catalogue.BUDGET_OVERRUNS, reading.books.overruns),
        (book_catalogue.USAGE_LOST, reading.books.rows_lost),
    ):
        total = counter(metric)
        total.add_metric([], count)
        yield total
    cache, held = counter(catalogue.CACHE_REQUESTS), gauge(catalogue.HELD)
    for result in CACHE_RESULTS:
        cache.add_metric([result], reading.cache.get(result, 0))
    for kind, amount in closed(reading.held, HELD_KINDS).items():
        held.add_metric([kind], amount)
    limited = counter(catalogue.RATE_LIMITED)
    for labels in RATE_LIMITS:
        limited.add_metric(labels, reading.rate_limited.get(labels, 0))
    logins, refused = counter(access_catalogue.LOGINS), counter(access_catalogue.TOKENS_REFUSED)
    for result in LOGIN_RESULTS:
        logins.add_metric([result], reading.logins.get(result, 0))
    for reason, count in closed(reading.tokens_refused, TOKEN_FAULTS).items():
        refused.add_metric([reason], count)
    yield from (cache, held, limited, logins, refused, _of_guard(reading))


def _of_service(reading: ServerReading) -> Iterator[Family]:
    events = counter(service_catalogue.SLO_EVENTS)
    for labels, count in reading.slo.items():
        events.add_metric(labels, count)
    yield events
    for metric, counts in (
        (service_catalogue.SENT, reading.sent),
        (service_catalogue.DROPPED, reading.dropped),
    ):
        total = counter(metric)
        for sink in service_catalogue.SINKS:
            total.add_metric([sink], counts.get(sink, 0))
        yield total


def _of_guard(reading: ServerReading) -> Family:
    guarded = counter(guard_catalogue.GUARD)
    for action in guard_catalogue.GUARD_ACTIONS:
        for reason in guard_catalogue.GUARD_REASONS:
            count = reading.guarded.get((action, reason), 0)
            if count or (action, reason) == ("passed", "clean"):
                guarded.add_metric([action, reason], count)
    return guarded


def _of_models(reading: ServerReading) -> Iterator[Family]:
    for metric, name in (
        (catalogue.MODEL_LOADED, "loaded"),
        (catalogue.MODEL_MEMORY, "memory_bytes"),
        (catalogue.MODEL_LOAD_TIME, "load_s"),
    ):
        level = gauge(metric)
        for model, facts in reading.models.items():
            level.add_metric([model], float(getattr(facts, name)))
        yield level
    asked = counter(catalogue.MODEL_ASKED)
    failures = counter(catalogue.MODEL_LOAD_FAILURES)
    for model, facts in reading.models.items():
        for result, count in (("hit", facts.hits), ("miss", facts.misses)):
            asked.add_metric([model, result], count)
        failures.add_metric([model], facts.failures)
    yield from (asked, failures)
    shares = gauge(catalogue.ROUTE_SHARE)
    for (route, model), share in reading.shares.items():
        shares.add_metric([route, model], share)
    yield shares
