"""The Prometheus hook: records in, the catalogue's metrics out.

Used from one thread, the event loop's.  Each instance has a registry of its own, so that two
servers in one process count apart.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from forebay import __version__
from forebay.core.record import RequestRecord
from forebay.telemetry import catalogue
from forebay.telemetry.catalogue import RESTART_REASONS, UNKNOWN, Metric
from forebay.telemetry.tally import Histogram, Tally


class Load(Protocol):
    """How full a lane is."""

    @property
    def running(self) -> int:
        """Requests that hold a place."""

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""

    @property
    def places_taken(self) -> int:
        """Sequences that run."""

    @property
    def places_max(self) -> int:
        """Sequences that may run."""


class Door(Protocol):
    """What knows a lane's load."""

    @property
    def load(self) -> Load:
        """How full it is now."""


class EngineStats(Protocol):
    """An engine's gauges, counted by itself."""

    @property
    def running(self) -> int:
        """Sequences in the batch."""

    @property
    def waiting(self) -> int:
        """Sequences that wait inside the engine."""

    @property
    def blocks_used_ratio(self) -> float:
        """Share of the KV cache in use."""


class Worker(Protocol):
    """What keeps a lane's engine alive."""

    @property
    def restarts(self) -> Mapping[str, int]:
        """Workers replaced since the start, by reason."""

    def gauges(self) -> EngineStats | None:
        """Return the engine's newest gauges, if it has sent any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReading:
    """What the process as a whole says of itself at this moment."""

    loop_lag_s: float = 0.0
    log_lines_dropped: int = 0


class Metrics(Collector):
    """Counts every record, reads gauges when asked, and writes the exposition."""

    def __init__(self, models: Sequence[str], *, version: str = __version__) -> None:
        """Prepare every label set, so that each series starts at zero."""
        # The whole mutable state: the tallies, and where to read gauges.
        self._tallies = {model: Tally() for model in (*models, UNKNOWN)}
        self._lanes: dict[str, tuple[Door, Worker]] = {}
        self._server: Callable[[], ServerReading] = ServerReading
        self._version = version
        self._unknown: Final = self._tallies[UNKNOWN]
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def watch(self, model: str, door: Door, worker: Worker) -> None:
        """Read a lane's gauges from these at each scrape."""
        assert model in self._tallies, f"{model} was not named when the metrics were made"
        self._lanes[model] = (door, worker)

    def watch_server(self, read: Callable[[], ServerReading]) -> None:
        """Read the process's gauges with `read` at each scrape."""
        self._server = read

    def __call__(self, record: RequestRecord) -> None:
        """Count a request."""
        self._tallies.get(record.model, self._unknown).count(record)

    def exposition(self, accept: str) -> tuple[str, bytes]:
        """Return content type and body: OpenMetrics if `accept` asks for it, else text."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)

    def collect(self) -> Iterator[Family]:
        """Yield every family of the catalogue."""
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()

    def _counters(self) -> Iterator[Family]:
        family = _counter(catalogue.REQUESTS)
        for model, tally in self._tallies.items():
            for (route, outcome), count in tally.requests.items():
                family.add_metric([route, model, outcome], count)
        yield family
        for metric, name in _TOKEN_COUNTERS:
            family = _counter(metric)
            for model, tally in self._tallies.items():
                family.add_metric([model], getattr(tally, name))
            yield family

    def _histograms(self) -> Iterator[Family]:
        family = _histogram(catalogue.DURATION)
        for model, tally in self._tallies.items():
            for objective, durations in tally.durations.items():
                family.add_metric([model, objective], durations.cumulative(), durations.sum_s)
        yield family
        for metric, name in _MODEL_HISTOGRAMS:
            family = _histogram(metric)
            for model, tally in self._tallies.items():
                histogram: Histogram = getattr(tally, name)
                family.add_metric([model], histogram.cumulative(), histogram.sum_s)
            yield family

    def _gauges(self) -> Iterator[Family]:
        readings = {
            model: (door.load, worker.gauges() or _NO_STATS, worker.restarts)
            for model, (door, worker) in self._lanes.items()
        }
        for metric, value in _LANE_GAUGES:
            family = _gauge(metric)
            for model, (load, stats, _) in readings.items():
                family.add_metric([model], value(load, stats))
            yield family
        restarts = _counter(catalogue.RESTARTS)
        for model, (_, _, reasons) in readings.items():
            for reason, count in _by_reason(reasons).items():
                restarts.add_metric([model, reason], count)
        yield restarts
        server = self._server()
        lag, dropped = _gauge(catalogue.LOOP_LAG), _counter(catalogue.LINES_DROPPED)
        lag.add_metric([], server.loop_lag_s)
        dropped.add_metric([], server.log_lines_dropped)
        build = _gauge(catalogue.BUILD)
        build.add_metric([self._version], 1)
        yield from (lag, dropped, build)


_TOKEN_COUNTERS: Final = (
    (catalogue.PROMPT_TOKENS, "prompt_tokens"),
    (catalogue.GENERATION_TOKENS, "generation_tokens"),
)

_MODEL_HISTOGRAMS: Final = (
    (catalogue.TTFT, "ttft"),
    (catalogue.TPOT, "tpot"),
    (catalogue.ITL, "itl"),
    (catalogue.QUEUE_TIME, "queue"),
    (catalogue.PREFILL_TIME, "prefill"),
    (catalogue.DECODE_TIME, "decode"),
    (catalogue.OVERHEAD, "overhead"),
)


@dataclass(frozen=True, slots=True)
class _Stats:
    running: int = 0
    waiting: int = 0
    blocks_used_ratio: float = 0.0


_NO_STATS: Final = _Stats()


def _saturation(load: Load, _stats: EngineStats) -> float:
    return (load.places_taken + load.waiting) / max(load.places_max, 1)


_LANE_GAUGES: Final[tuple[tuple[Metric, Callable[[Load, EngineStats], float]], ...]] = (
    (catalogue.RUNNING, lambda load, _: load.running),
    (catalogue.WAITING, lambda load, _: load.waiting),
    (catalogue.SATURATION, _saturation),
    (catalogue.KV_USED, lambda _, stats: stats.blocks_used_ratio),
    (catalogue.ENGINE_RUNNING, lambda _, stats: stats.running),
    (catalogue.ENGINE_WAITING, lambda _, stats: stats.waiting),
)


def _by_reason(restarts: Mapping[str, int]) -> dict[str, int]:
    counts = dict.fromkeys(RESTART_REASONS, 0)
    for reason, count in restarts.items():
        counts[reason if reason in counts else UNKNOWN] += count
    return counts


def _counter(metric: Metric) -> CounterMetricFamily:
    return CounterMetricFamily(metric.name, _help(metric), labels=metric.labels)


def _gauge(metric: Metric) -> GaugeMetricFamily:
    return GaugeMetricFamily(metric.name, _help(metric), labels=metric.labels)


def _histogram(metric: Metric) -> HistogramMetricFamily:
    return HistogramMetricFamily(metric.name, _help(metric), labels=metric.labels)


def _help(metric: Metric) -> str:
    return f"{metric.help} {metric.action}"
