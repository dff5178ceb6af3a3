"""A page of metrics, read as Prometheus reads it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

Series = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name, and its labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Families by name, and the value of each series."""

    families: frozenset[str]
    """As OpenMetrics has them: counters without `_total`."""
    values: Mapping[Series, float]

    def total(self, name: str, /, **labels: str) -> float:
        """Return the sum of the series that carry these labels; 0 of none."""
        return sum(
            value
            for (sample, found), value in self.values.items()
            if sample == name and labels.items() <= set(found)
        )

    def moved(self, before: "Samples") -> Iterator[tuple[str, float]]:
        """Yield each counter that grew since `before`, by how much in all."""
        grown: dict[str, float] = {}
        for series, value in self.values.items():
            name = series[0]
            if name.endswith(("_total", "_count")):
                grown[name] = grown.get(name, 0.0) + value - before.values.get(series, 0.0)
        yield from ((name, more) for name, more in sorted(grown.items()) if more > 0)


def parsed(text: str) -> Samples:
    """Read an OpenMetrics page; raises ValueError."""
    families, values = set(), {}
    families_of: Callable[[str], Iterable[Metric]] = text_string_to_metric_families
    for family in families_of(text):
        families.add(family.name)
        for sample in family.samples:
            values[sample.name, frozenset(sample.labels.items())] = float(sample.value)
    return Samples(families=frozenset(families), values=values)
