"""The Prometheus hook: records in, the catalogue's metrics out.

Used from one thread, the event loop's.  Each instance has a registry of its own, so that two
servers in one process count apart.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from forebay import __version__
from forebay.core.record import RequestRecord
from forebay.telemetry import catalogue
from forebay.telemetry.catalogue import PROMISE_RESULTS, RESTART_REASONS, RETRY_REASONS, UNKNOWN
from forebay.telemetry.families import closed, counter, gauge, histogram
from forebay.telemetry.metric import Metric
from forebay.telemetry.readings import Door, EngineStats, Load, ServerReading, Worker
from forebay.telemetry.server_metrics import of_server
from forebay.telemetry.tally import Histogram, Tally

_NAMES_MAX: Final = 512
"""Names that are counted apart: versions come and go under new ones, and each has 100 series."""
_RECORDS_MAX: Final = 32
"""Records that are counted in one go: by itself each costs 10 us of a request's 180, among many 4,
for the processor has forgotten this code in between."""


class Metrics(Collector):
    """Counts every record, reads gauges when asked, and writes the exposition."""

    def __init__(self, models: Sequence[str], *, version: str = __version__) -> None:
        """Prepare every label set, so that each series starts at zero."""
        # The whole mutable state: records that are to be counted, the tallies, and where to read
        # gauges.
        self._records: deque[RequestRecord] = deque()
        self._tallies = {**{model: Tally() for model in models}, UNKNOWN: Tally(unknown=True)}
        self._lanes: dict[str, tuple[Door, Worker]] = {}
        self._server: Callable[[], ServerReading] = ServerReading
        self._version = version
        self._unknown: Final = self._tallies[UNKNOWN]
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def know(self, model: str) -> None:
        """Count a model that came on offer later by its name; beyond a bound, as unknown."""
        if len(self._tallies) < _NAMES_MAX:
            self._tallies.setdefault(model, Tally())

    def watch(self, model: str, door: Door, worker: Worker) -> None:
        """Read a lane's gauges from these at each scrape."""
        assert model in self._tallies, f"{model} was not named when the metrics were made"
        self._lanes[model] = (door, worker)

    def unwatch(self, model: str) -> None:
        """Read a lane's gauges no more: it is closed."""
        self._lanes.pop(model, None)

    def watch_server(self, read: Callable[[], ServerReading]) -> None:
        """Read the process's gauges with `read` at each scrape."""
        self._server = read

    def __call__(self, record: RequestRecord) -> None:
        """Count a request, before anybody reads."""
        self._records.append(record)
        if len(self._records) >= _RECORDS_MAX:
            self._count()

    def _count(self) -> None:
        tallies, unknown, records = self._tallies, self._unknown, self._records
        while records:
            # Taken before it is counted: one that cannot be would keep all others from it for ever.
            record = records.popleft()
            tallies.get(record.model, unknown).count(record)

    def freed(self, model: str, wait_s: float, phase: str, tokens: int) -> None:  # noqa: PLR0917 - a FreedHook, once the model is given
        """Count an abort of a model's request: when nothing was held, what was made in vain."""
        self._tallies.get(model, self._unknown).freed(wait_s, phase, tokens)

    def exposition(self, accept: str) -> tuple[str, bytes]:
        """Return content type and body: OpenMetrics if `accept` asks for it, else text."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)

    def collect(self) -> Iterator[Family]:
        """Yield every family of the catalogue."""
        self._count()
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()

    def _counters(self) -> Iterator[Family]:
        family = counter(catalogue.REQUESTS)
        for model, tally in self._tallies.items():
            for (route, outcome), count in tally.requests.items():
                family.add_metric([route, model, outcome], count)
        yield family
        for metric, name in _TOKEN_COUNTERS:
            family = counter(metric)
            for model, tally in self._tallies.items():
                family.add_metric([model], getattr(tally, name))
            yield family
        answers, wasted = counter(catalogue.ANSWERS), counter(catalogue.WASTED_TOKENS)
        for model, tally in self._tallies.items():
            for source, count in tally.answers.items():
                answers.add_metric([model, source], count)
            for phase, tokens in tally.wasted_tokens.items():
                wasted.add_metric([model, phase], tokens)
        yield from (answers, wasted)

    def _histograms(self) -> Iterator[Family]:
        family = histogram(catalogue.DURATION)
        for model, tally in self._tallies.items():
            for objective, durations in tally.durations.items():
                family.add_metric([model, objective], durations.cumulative(), durations.sum_s)
        yield family
        # Nothing of an unknown model is ever measured: it has no place to be given.
        known = {model: tally for model, tally in self._tallies.items() if model != UNKNOWN}
        for metric, name in _MODEL_HISTOGRAMS:
            family = histogram(metric)
            for model, tally in known.items():
                measured: Histogram = getattr(tally, name)
                signed = metric is catalogue.FORECAST_ERROR  # a sum that can fall is none
                total_s = None if signed else measured.sum_s
                family.add_metric([model], measured.cumulative(), total_s)
            yield family

    def _gauges(self) -> Iterator[Family]:
        readings = {
            model: (door.load, worker.gauges() or _NO_STATS)
            for model, (door, worker) in self._lanes.items()
        }
        for metric, value in _LANE_GAUGES:
            family = gauge(metric)
            for model, (load, stats) in readings.items():
                family.add_metric([model], value(load, stats))
            yield family
        yield from self._lane_counters()
        yield from of_server(self._server())
        build = gauge(catalogue.BUILD)
        build.add_metric([self._version], 1)
        yield build

    def _lane_counters(self) -> Iterator[Family]:
        restarts, promises = counter(catalogue.RESTARTS), counter(catalogue.PROMISES)
        retries, poisoned = counter(catalogue.RETRIES), counter(catalogue.POISONED)
        for model, (door, worker) in self._lanes.items():
            for reason, count in closed(worker.restarts, RESTART_REASONS).items():
                restarts.add_metric([model, reason], count)
            for result in PROMISE_RESULTS:
                promises.add_metric([model, result], door.promises.get(result, 0))
            for reason in RETRY_REASONS:
                retries.add_metric([model, reason], worker.reruns)
            poisoned.add_metric([model], worker.poisoned)
        yield from (restarts, promises, retries, poisoned)


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
    (catalogue.FORECAST_ERROR, "forecast_error"),
    (catalogue.CANCEL_PROPAGATION, "cancel_propagation"),
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
