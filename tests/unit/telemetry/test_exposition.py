"""The page is the library's, byte for byte, in pieces; and traces stand beside their buckets."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from forebay.core.errors import Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import Route, Source
from forebay.core.visit import TraceContext, Visit
from forebay.telemetry import exposition
from forebay.telemetry.exposition import OPEN_METRICS, TEXT
from forebay.telemetry.metrics import Metrics
from tests.support.records import a_completed, a_refused

OPEN_METRICS_ASKED = "application/openmetrics-text; version=1.0.0"
TRACE = "0af7651916cd43dd8448eb211c80319c"
Made = list[Family]


class Given(Collector):
    def __init__(self, families: Made) -> None:
        self.families = families

    def collect(self) -> Made:
        return self.families


def by_the_library(families: Made, kind: str) -> bytes:
    registry = CollectorRegistry()
    registry.register(Given(families))
    writes: dict[str, Callable[[CollectorRegistry], bytes]] = {
        TEXT: generate_latest,
        OPEN_METRICS: generate_open_metrics,
    }
    return writes[kind](registry)


def families_of_all_kinds() -> Made:
    metrics = Metrics(["m", 'a "model"\\with\nall'])
    metrics(a_traced())
    metrics(a_traced(a_refused()))
    metrics._epoch_s = 1_700_000_000.0
    made = list(metrics.collect())
    odd = GaugeMetricFamily("odd", 'Help with \\ and "quotes"\nin two lines.', labels=("z", "a"))
    for value in (0, -1, 7.5, 1e9, 123_456_789.0, 1e-7, math.inf, -math.inf, math.nan, True):
        odd.add_metric([str(value), "x"], value)
    counter = CounterMetricFamily("plain", "Plain.")
    counter.add_metric([], 1_000_000, exemplar=Exemplar({"trace_id": TRACE}, 1.0))
    return [*made, odd, counter, Family("empty", "Empty.", "unknown")]


def a_traced(
    record: RequestRecord | None = None, *, trace_id: str = TRACE, sampled: bool = True
) -> RequestRecord:
    visit = Visit(id="v", method="POST", path="/", received=1.0)
    visit.trace = TraceContext(trace_id=trace_id, sampled=sampled)
    return replace(record or a_completed(), visit=visit)


@pytest.mark.parametrize("kind", [TEXT, OPEN_METRICS])
def test_the_page_is_what_the_library_would_write(kind: str) -> None:
    made = families_of_all_kinds()
    assert b"".join(exposition.pieces(made, kind)) == by_the_library(made, kind)


def test_nothing_is_written_before_it_is_asked_for() -> None:
    _, pieces = Metrics(["m"]).pieces("")
    sizes = [len(piece) for piece in pieces]
    assert len(sizes) > 50
    assert max(sizes) < sum(sizes) / 4


def test_a_page_tells_what_was_so_when_it_was_asked_for() -> None:
    metrics = Metrics(["m"])
    _, pieces = metrics.pieces("")
    begun = next(pieces)
    metrics(a_completed())
    page = begun + b"".join(pieces)
    assert b'llm_answers_total{model="m",source="engine"} 0.0\n' in page


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("Application/OpenMetrics-Text;version=1.0.0;q=0.8, text/plain;q=0.5", OPEN_METRICS),
        ("text/plain, application/openmetrics-text", OPEN_METRICS),
        ("application/openmetrics-text-of-another-kind", TEXT),
    ],
)
def test_the_format_is_the_one_that_is_accepted(accept: str, kind: str) -> None:
    assert exposition.content_type(accept) == kind
    assert Metrics(["m"]).exposition(accept)[0] == kind


def lines(metrics: Metrics, begin: str, accept: str = OPEN_METRICS_ASKED) -> list[str]:
    page = metrics.exposition(accept)[1].decode()
    return [line for line in page.splitlines() if line.startswith(begin) and " # {" in line]


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("llm_time_to_first_token_seconds", 'le="0.5",model="m"', "0.3"),
        ("llm_request_duration_seconds", 'le="0.64",model="m",objective="good"', "0.5"),
        ("llm_time_per_output_token_seconds", 'le="0.03",model="m"', "0.02"),
    ],
)
def test_a_trace_that_is_kept_stands_beside_its_bucket(name: str, labels: str, value: str) -> None:
    metrics = Metrics(["m"], wall=lambda: 1_700_000_000.0)
    metrics(a_traced())
    (line,) = lines(metrics, name)
    what, _, exemplar = line.partition(" # ")
    assert what.startswith(f"{name}_bucket{{{labels}}} 1.0")
    words = exemplar.split()
    assert words[0] == f'{{trace_id="{TRACE}"}}'
    assert float(words[1]) == pytest.approx(float(value))
    assert 1_600_000_000 < float(words[2]) < 1_700_000_001


@pytest.mark.parametrize("sampled", [True, False])
def test_only_traces_that_are_kept_are_named(sampled: bool) -> None:
    metrics = Metrics(["m"])
    metrics(a_traced(sampled=sampled))
    metrics(a_completed())
    assert bool(lines(metrics, "llm_")) == sampled


def test_the_newest_trace_of_any_route_stands_for_a_bucket() -> None:
    metrics = Metrics(["m"])
    late, early = a_traced(trace_id="a" * 32), a_traced(trace_id="b" * 32)
    early = replace(early, route=Route.COMPLETIONS, timeline=Timeline(received=0.5, ended=1.0))
    for record in (late, early):
        metrics(record)
    (line,) = lines(metrics, "llm_request_duration_seconds")
    assert " 2.0 # " in line
    assert "a" * 32 in line


def test_tokens_that_another_made_mark_no_first_token() -> None:
    metrics = Metrics(["m"])
    metrics(a_traced(a_completed(source=Source.CACHED)))
    assert not lines(metrics, "llm_time_to_first_token")
    assert lines(metrics, "llm_request_duration_seconds")


def test_the_text_format_has_no_place_for_traces() -> None:
    metrics = Metrics(["m"])
    metrics(a_traced())
    assert TRACE not in metrics.exposition("")[1].decode()


def test_traces_are_named_no_more_once_that_is_switched_off() -> None:
    metrics = Metrics(["m"])
    metrics(a_traced())
    metrics.exemplars = False
    assert not lines(metrics, "llm_")


def test_what_was_slow_or_our_fault_is_kept_and_named_where_spans_are_made() -> None:
    metrics = Metrics(["m"])
    metrics.traces_slow_s = 0.5  # a_completed() takes as long
    failed = a_refused(Outcome.ENGINE_ERROR, model="m")
    metrics(a_traced(trace_id="a" * 32, sampled=False))
    metrics(a_traced(failed, trace_id="b" * 32, sampled=False))
    metrics(a_traced(a_refused(model="m"), trace_id="c" * 32, sampled=False))
    page = "".join(lines(metrics, "llm_request_duration_seconds"))
    assert ["a" * 32 in page, "b" * 32 in page, "c" * 32 in page] == [True, True, False]
