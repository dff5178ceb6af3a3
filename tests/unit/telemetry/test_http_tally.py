"""HTTP exchanges are counted by route, method and class of status, whatever clients send."""

import itertools

from prometheus_client.core import Metric as Family

from forebay.core.request import Route
from forebay.core.visit import Visit
from forebay.telemetry.http_catalogue import METHODS, STATUSES
from forebay.telemetry.http_tally import HttpTally


def a_visit(
    *,
    method: str = "POST",
    route: str = "chat_completions",
    status: int = 200,
    took_s: float = 0.25,
    wait_s: float = 0.0,
    body_bytes: int = 0,
    answer_bytes: int = 0,
) -> Visit:
    return Visit(
        id="v",
        method=method,
        path="/",
        received=5.0,
        route=route,
        wait_s=wait_s,
        ended=5.0 + took_s,
        status=status,
        body_bytes=body_bytes,
        answer_bytes=answer_bytes,
    )


def counted(tally: HttpTally) -> dict[tuple[str, str, str], float]:
    (family,) = [found for found in tally.families() if found.name == "forebay_http_requests"]
    return {
        (labels["route"], labels["method"], labels["status"]): sample.value
        for sample in family.samples
        for labels in (sample.labels,)
    }


def value(tally: HttpTally, name: str, **labels: str) -> float:
    for family in tally.families():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    raise AssertionError(f"no {name} with {labels}")


def series(families: list[Family]) -> int:
    return sum(len(family.samples) for family in families)


def test_an_exchange_is_counted_under_its_route_method_and_class_of_status() -> None:
    tally = HttpTally()
    for status in (200, 204, 503):
        tally(a_visit(status=status))
    tally(a_visit(method="GET", route="probe"))
    assert counted(tally) == {
        ("chat_completions", "POST", "2xx"): 2,
        ("chat_completions", "POST", "5xx"): 1,
        ("probe", "GET", "2xx"): 1,
    }


def test_an_exchange_that_was_answered_with_nothing_says_so() -> None:
    tally = HttpTally()
    tally(a_visit(status=0))
    assert counted(tally) == {("chat_completions", "POST", "none"): 1}


def test_a_method_that_nobody_knows_is_other() -> None:
    tally = HttpTally()
    for method in ("BREW", "get", "", "other"):
        tally(a_visit(method=method))
    assert counted(tally) == {("chat_completions", "other", "2xx"): 4}


def test_many_are_counted_without_a_reader() -> None:
    tally = HttpTally()
    for _ in range(1_000):
        tally(a_visit())
    assert len(tally._visits) < 64
    assert counted(tally) == {("chat_completions", "POST", "2xx"): 1_000}


def test_the_time_of_an_exchange_begins_when_its_bytes_were_there() -> None:
    tally = HttpTally()
    tally(a_visit(took_s=0.25, wait_s=0.5))
    name = "forebay_http_request_duration_seconds"
    assert value(tally, f"{name}_sum", route="chat_completions") == 0.75
    assert value(tally, f"{name}_bucket", route="chat_completions", le="0.5") == 0
    assert value(tally, f"{name}_bucket", route="chat_completions", le="1.0") == 1


def test_sizes_are_measured_in_bytes_and_nothing_is_a_size() -> None:
    tally = HttpTally()
    tally(a_visit(body_bytes=0, answer_bytes=300))
    tally(a_visit(body_bytes=2_000_000, answer_bytes=256))
    sent, told = "forebay_http_request_size_bytes", "forebay_http_response_size_bytes"
    labels = {"route": "chat_completions"}
    assert value(tally, f"{sent}_bucket", **labels, le="0.0") == 1
    assert value(tally, f"{sent}_bucket", **labels, le="1048576.0") == 1
    assert value(tally, f"{sent}_bucket", **labels, le="+Inf") == 2
    assert value(tally, f"{sent}_sum", **labels) == 2_000_000
    assert value(tally, f"{told}_bucket", **labels, le="256.0") == 1
    assert value(tally, f"{told}_count", **labels) == 2


def test_an_exchange_that_cannot_be_counted_costs_no_other_its_count() -> None:
    tally = HttpTally()
    spoilt = a_visit()
    spoilt.status = "200"  # type: ignore[assignment]
    for visit in (a_visit(), spoilt, a_visit()):
        tally(visit)
    for _ in range(2):
        try:
            found = counted(tally)
        except TypeError:
            continue
    assert found == {("chat_completions", "POST", "2xx"): 2}


def test_no_flood_makes_more_series_than_the_closed_sets_allow() -> None:
    tally = HttpTally()
    methods = [*METHODS, *(f"X{number}" for number in range(500))]
    for method, status, route in itertools.product(methods, range(0, 700, 50), Route):
        tally(a_visit(method=method, status=status, route=route))
    closed = len(METHODS) * len(STATUSES) * len(Route)
    assert len(counted(tally)) <= closed
    before = series(list(tally.families()))
    for number in range(10_000):
        tally(a_visit(method=f"Y{number}", status=number))
    assert series(list(tally.families())) == before
