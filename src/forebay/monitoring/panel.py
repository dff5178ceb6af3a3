"""What a dashboard shows, as data: rows of panels, each with its questions to Prometheus.

Nothing here knows Grafana's format; `monitoring/grafana.py` writes it.  In a query, `$model` and
`$instance` are what the reader chose, and `$__rate_interval` is Grafana's: four scrapes at least.
"""

import enum
from dataclasses import dataclass
from typing import Final

DATASOURCE: Final = "forebay-prometheus"
"""The uid under which `grafana/provisioning` makes Prometheus known."""
HERE: Final = 'instance=~"$instance"'
OF_MODEL: Final = f'model=~"$model", {HERE}'


class Kind(enum.StrEnum):
    """How a panel looks."""

    LINES = "lines"
    STACK = "stack"
    STAT = "stat"
    TABLE = "table"
    TIMELINE = "timeline"
    """One bar per series, coloured by its value."""
    TEXT = "text"


class Unit(enum.StrEnum):
    """Grafana's names of units."""

    SECONDS = "s"
    RATIO = "percentunit"
    PER_SECOND = "reqps"
    TOKENS = "tokens/s"
    COUNT = "short"
    BYTES = "bytes"
    BYTES_PER_SECOND = "Bps"
    CELSIUS = "celsius"
    WATTS = "watt"
    BOOLEAN = "bool_yes_no"


@dataclass(frozen=True, slots=True)
class Query:
    """One question, and what its answer is called in the legend."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture; its title is what alerts name it by."""

    title: str
    about: str
    """What it says, and what to look at next."""
    queries: tuple[Query, ...] = ()
    unit: Unit = Unit.COUNT
    kind: Kind = Kind.LINES
    width: int = 8
    """Of 24."""
    warn: float | None = None
    """From here on it is yellow: somebody should look at it."""
    alarm: float | None = None
    """From here on it is red."""
    below: bool = False
    """`warn` and `alarm` are bounds below, not above."""
    text: str = ""
    """Markdown, of a TEXT."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels that answer one question together."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One page; `uid` is part of its address and never changes."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]
    by_model: bool = True
    """Its reader may choose models; instances always."""

    @property
    def panels(self) -> tuple[Panel, ...]:
        """Return every panel, in order."""
        return tuple(panel for row in self.rows for panel in row.panels)


def rate(name: str, match: str = HERE) -> str:
    """Return how fast a counter counts."""
    return f"rate({name}{{{match}}}[$__rate_interval])"


def quantile(share: float, name: str, match: str = OF_MODEL, *, by: str = "") -> str:
    """Return a quantile of a histogram, over everything but what it is `by`."""
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) ({rate(f'{name}_bucket', match)}))"


def quantiles(name: str, match: str = OF_MODEL) -> tuple[Query, ...]:
    """Return the median, the twentieth and the hundredth worst."""
    return tuple(
        Query(quantile(share, name, match), f"p{share * 100:g}") for share in (0.5, 0.95, 0.99)
    )


def mean(name: str, match: str = OF_MODEL) -> str:
    """Return the mean of what a histogram observed lately."""
    return f"sum({rate(f'{name}_sum', match)}) / (sum({rate(f'{name}_count', match)}) > 0)"
