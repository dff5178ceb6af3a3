"""A metric of the catalogue as a family that prometheus_client can write."""

from collections.abc import Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from forebay.telemetry.catalogue import UNKNOWN
from forebay.telemetry.metric import Metric


def closed(counts: Mapping[str, int], known: Sequence[str]) -> dict[str, int]:
    """Return a count for each known value; what is not known is counted as `unknown`."""
    found = dict.fromkeys(known, 0)
    for value, count in counts.items():
        found[value if value in found else UNKNOWN] += count
    return found


def counter(metric: Metric) -> CounterMetricFamily:
    """Return an empty family of counters."""
    return CounterMetricFamily(metric.name, _help(metric), labels=metric.labels)


def gauge(metric: Metric) -> GaugeMetricFamily:
    """Return an empty family of gauges."""
    return GaugeMetricFamily(metric.name, _help(metric), labels=metric.labels)


def histogram(metric: Metric) -> HistogramMetricFamily:
    """Return an empty family of histograms."""
    return HistogramMetricFamily(metric.name, _help(metric), labels=metric.labels)


def _help(metric: Metric) -> str:
    return f"{metric.help} {metric.action}"
