"""What a metric is: a name that explains itself, with labels from closed sets."""

import enum
from dataclasses import dataclass


class Kind(enum.StrEnum):
    """How a metric's values behave."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Label(enum.StrEnum):
    """The names of labels; each has a closed set of values."""

    ACTION = "action"
    ROUTE = "route"
    GPU = "gpu"
    KIND = "kind"
    LEVEL = "level"
    METHOD = "method"
    MODEL = "model"
    OUTCOME = "outcome"
    OBJECTIVE = "objective"
    PHASE = "phase"
    REASON = "reason"
    RESULT = "result"
    ROUTE_NAME = "name"
    SINK = "sink"
    SLO = "slo"
    SOURCE = "source"
    STATUS = "status"
    UNIT = "unit"
    VERSION = "version"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Buckets:
    """Upper bounds of a histogram in its unit, inclusive, and where they come from.

    With a bound below zero there is no sum: it could fall, and a rate of it would mean nothing.
    """

    bounds: tuple[float, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One name: what it counts, and what to do when it moves."""

    name: str
    kind: Kind
    help: str
    action: str
    labels: tuple[Label, ...] = ()
    buckets: Buckets | None = None
