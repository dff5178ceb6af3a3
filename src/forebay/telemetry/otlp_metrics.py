"""The catalogue's numbers as OpenTelemetry metrics: read from the same tallies as `/metrics`.

Each canonical metric keeps its name, and three of them are told under OpenTelemetry's as well.
This module needs `forebay[otlp]`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

from forebay.core.errors import Objective
from forebay.telemetry import catalogue
from forebay.telemetry import conventions as names
from forebay.telemetry.otlp import SCOPE
from forebay.telemetry.span_attributes import operation_of

_UNITS: Final = {"seconds": "s", "bytes": "By", "ratio": "1", "celsius": "Cel", "watts": "W"}
_GENERATION: Final = "generate_content"
"""`gen_ai.operation.name` of what is not counted apart: chats and completions together."""

_RENAMED: Final = {catalogue.TTFT.name: names.SERVER_TTFT, catalogue.TPOT.name: names.SERVER_TPOT}

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reading:
    """Every number at one moment."""

    families: list[Family]
    durations: Family
    """`catalogue.DURATION`, by endpoint."""
    at_ns: int


class Converter:
    """Turns readings into what exporters take."""

    def __init__(self, service: Resource, *, begun_ns: int) -> None:
        """`begun_ns`: since when everything is counted, Unix nanoseconds."""
        self._service = service
        self._begun_ns = begun_ns

    def __call__(self, reading: Reading) -> MetricsData:
        """Return a reading as metrics of one resource."""
        metrics = [*self._canonical(reading), *self._of_conventions(reading)]
        scope = ScopeMetrics(scope=SCOPE, metrics=metrics, schema_url=names.SCHEMA_URL)
        whole = ResourceMetrics(
            resource=self._service, scope_metrics=[scope], schema_url=names.SCHEMA_URL
        )
        return MetricsData(resource_metrics=[whole])

    def _canonical(self, reading: Reading) -> Iterator[Metric]:
        for family in reading.families:
            if not family.samples:
                continue
            data: Histogram | Sum | Gauge
            if family.type == "histogram":
                name, data = family.name, self._histogram(_points(family), reading.at_ns)
            elif family.type == "counter":
                name, data = family.samples[0].name, self._sum(family, reading.at_ns)
            else:
                name, data = family.name, Gauge(data_points=self._numbers(family, reading.at_ns))
            yield Metric(name=name, description=family.documentation, unit=_unit(name), data=data)

    def _of_conventions(self, reading: Reading) -> Iterator[Metric]:
        for family in reading.families:
            renamed = _RENAMED.get(family.name)
            if renamed is not None:
                points = [(_of_model(labels), samples) for labels, samples in _points(family)]
                yield self._seconds(renamed, points, reading.at_ns)
        points = [(_of_endpoint(labels), samples) for labels, samples in _points(reading.durations)]
        yield self._seconds(names.SERVER_DURATION, points, reading.at_ns)

    def _seconds(
        self, name: str, points: Iterable[tuple[Labels, list[Sample]]], at_ns: int
    ) -> Metric:
        data = self._histogram(points, at_ns)
        return Metric(name=name, description="", unit="s", data=data)

    def _histogram(self, points: Iterable[tuple[Labels, list[Sample]]], at_ns: int) -> Histogram:
        return Histogram(
            data_points=[
                self._distribution(labels, samples, at_ns=at_ns) for labels, samples in points
            ],
            aggregation_temporality=AggregationTemporality.CUMULATIVE,
        )

    def _distribution(
        self, labels: Labels, samples: list[Sample], *, at_ns: int
    ) -> HistogramDataPoint:
        buckets = [sample for sample in samples if sample.name.endswith("_bucket")]
        upto = [int(sample.value) for sample in buckets]
        counts = [count - before for count, before in zip(upto, [0, *upto], strict=False)]
        sums = [sample.value for sample in samples if sample.name.endswith("_sum")]
        return HistogramDataPoint(
            attributes=labels,
            start_time_unix_nano=self._begun_ns,
            time_unix_nano=at_ns,
            count=upto[-1],
            sum=sums[0] if sums else None,  # type: ignore[arg-type]
            bucket_counts=counts,
            explicit_bounds=[float(sample.labels["le"]) for sample in buckets[:-1]],
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )

    def _sum(self, family: Family, at_ns: int) -> Sum:
        return Sum(
            data_points=self._numbers(family, at_ns),
            aggregation_temporality=AggregationTemporality.CUMULATIVE,
            is_monotonic=True,
        )

    def _numbers(self, family: Family, at_ns: int) -> list[NumberDataPoint]:
        return [
            NumberDataPoint(
                attributes=sample.labels,
                start_time_unix_nano=self._begun_ns,
                time_unix_nano=at_ns,
                value=float(sample.value),
            )
            for sample in family.samples
        ]


def _points(family: Family) -> list[tuple[Labels, list[Sample]]]:
    """Return a histogram's samples by their labels."""
    found: dict[tuple[tuple[str, str], ...], list[Sample]] = defaultdict(list)
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        found[tuple(labels.items())].append(sample)
    return [(dict(labels), samples) for labels, samples in found.items()]


def _of_model(labels: Labels) -> Labels:
    return {
        names.OPERATION: _GENERATION,
        names.PROVIDED_BY: names.UPSTREAM_NAME,
        names.REQUEST_MODEL: labels["model"],
        names.RESPONSE_MODEL: labels["model"],
    }


def _of_endpoint(labels: Labels) -> Labels:
    found = dict(_of_model(labels))
    found[names.OPERATION] = operation_of(labels["route"])
    found[names.ENDPOINT] = labels["route"]
    if labels["objective"] != Objective.GOOD:
        found[names.ERROR_TYPE] = names.OTHER_ERROR
        found[names.OBJECTIVE] = labels["objective"]
    return found


def _unit(name: str) -> str:
    word = name.removesuffix("_total").rpartition("_")[2]
    return _UNITS.get(word, "1")
