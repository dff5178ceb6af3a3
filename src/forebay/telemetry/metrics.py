"""The Prometheus hook: records in, the catalogue's metrics out.

Used from one thread, the event loop's.  Each instance has a registry of its own, so that two
servers in one process count apart.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from forebay import __version__
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Objective
from forebay.core.record import RequestRecord
from forebay.telemetry import catalogue, exposition, generation_catalogue, service_catalogue
from forebay.telemetry.aliases import NO_ALIASES, Aliases
from forebay.telemetry.catalogue import PROMISE_RESULTS, RESTART_REASONS, RETRY_REASONS, UNKNOWN
from forebay.telemetry.families import closed, counter, gauge, histogram
from forebay.telemetry.metric import Label, Metric
from forebay.telemetry.readings import Door, EngineStats, Load, ServerReading, Worker
from forebay.telemetry.sampling import kept
from forebay.telemetry.server_metrics import of_server
from forebay.telemetry.tally import Histogram, Tally

_FOLDED_MAX: Final = 10_000
"""Names that are remembered to have no series of their own."""
_RECORDS_MAX: Final = 32
"""Records that are counted in one go: by itself each costs 10 us of a request's 180, among many 4,
for the processor has forgotten this code in between."""


class Metrics(Collector):
    """Counts every record, reads gauges when asked, and writes the exposition."""

    def __init__(
        self,
        models: Sequence[str],
        *,
        version: str = __version__,
        aliases: Aliases = NO_ALIASES,
        names_max: int = 32,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Prepare every label set, so that each series starts at zero.

        Of models and versions that come later, `names_max` in all are counted by their names.
        `wall` is Unix seconds.
        """
        # The whole mutable state: whether traces are named; from which duration on they are kept
        # whatever their share, None where no spans are made; when this process's clock read 0, for
        # the page that is made; records that are to be counted, the tallies, names that have none,
        # and where to read gauges and what others count.
        self.exemplars = True
        self.traces_slow_s: float | None = None
        self._epoch_s: float | None = None
        self._records: deque[RequestRecord] = deque()
        self._tallies = {**{model: Tally() for model in models}, UNKNOWN: Tally(unknown=True)}
        self._names_max: Final = max(names_max, len(models))
        self._folded: set[str] = set()
        self._lanes: dict[str, tuple[Door, Worker]] = {}
        self._server: Callable[[], ServerReading] = ServerReading
        self._others: list[Callable[[], Iterable[Family]]] = []
        self._version = version
        self._aliases = aliases
        self._wall = wall
        self._unknown: Final = self._tallies[UNKNOWN]
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def know(self, model: str) -> None:
        """Count a model that came on offer later by its name; beyond a bound, as unknown."""
        if model in self._tallies:
            return
        if len(self._tallies) <= self._names_max:  # one of them is of what is unknown
            self._tallies[model] = Tally()
        elif len(self._folded) < _FOLDED_MAX:
            self._folded.add(model)

    def watch(self, model: str, door: Door, worker: Worker) -> None:
        """Read a lane's gauges from these at each scrape, if it is counted by its name."""
        if model in self._tallies:
            self._lanes[model] = (door, worker)

    def unwatch(self, model: str) -> None:
        """Read a lane's gauges no more: it is closed."""
        self._lanes.pop(model, None)

    def watch_server(self, read: Callable[[], ServerReading]) -> None:
        """Read the process's gauges with `read` at each scrape."""
        self._server = read

    def join(self, families: Callable[[], Iterable[Family]]) -> None:
        """Write these too at each scrape: another reader counts them."""
        self._others.append(families)

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
            tally = tallies.get(record.model, unknown)
            tally.count(record, self._trace_id(record) if self.exemplars else "")

    def _trace_id(self, record: RequestRecord) -> str:
        """Return the record's trace, if somebody keeps it."""
        trace = record.visit.trace if record.visit is not None else None
        if trace is None:
            return ""
        if trace.sampled or self.traces_slow_s is None:
            return trace.trace_id if trace.sampled else ""
        why = kept((record.outcome,), record.e2e_s, sampled=False, slow_s=self.traces_slow_s)
        return trace.trace_id if why else ""

    def freed(self, model: str, wait_s: float, phase: str, tokens: int) -> None:  # noqa: PLR0917 - a FreedHook, once the model is given
        """Count an abort of a model's request: when nothing was held, what was made in vain."""
        self._tallies.get(model, self._unknown).freed(wait_s, phase, tokens)

    def loaded(self, model: str, load_s: float) -> None:
        """Count a load that succeeded."""
        self._tallies.get(model, self._unknown).loads.observe(load_s)

    def exposition(self, accept: str) -> tuple[str, bytes]:
        """Return content type and body: OpenMetrics if `accept` asks for it, else text."""
        content_type, pieces = self.pieces(accept)
        return content_type, b"".join(pieces)

    def pieces(self, accept: str) -> tuple[str, Iterator[bytes]]:
        """Return content type and body, piece by piece, as they are now.

        A piece is written when it is asked for: who gives way in between keeps nobody waiting.
        """
        content_type = exposition.content_type(accept)
        open_metrics = content_type == exposition.OPEN_METRICS
        traced = open_metrics and self.exemplars
        self._epoch_s = self._wall() - MONOTONIC() if traced else None
        families = tuple(self._registry.collect())
        details = {catalogue.DURATION.name: self.durations_by_route()} if self._aliases else {}
        page = self._aliases.page(families, details=details, open_metrics=open_metrics)
        return content_type, exposition.pieces(page, content_type)

    def durations_by_route(self) -> Family:
        """Return what aliases by endpoint need, and the page has added up over routes."""
        labels = (Label.ROUTE, *catalogue.DURATION.labels)
        family = HistogramMetricFamily(catalogue.DURATION.name, "", labels=labels)
        for model, tally in self._tallies.items():
            for (route, objective), durations in tally.durations.items():
                where = [route, model, objective]
                family.add_metric(where, durations.cumulative(), durations.sum)
        return family

    def collect(self) -> Iterator[Family]:
        """Yield every family of the catalogue."""
        self._count()
        yield from self._counters()
        yield from self._histograms()
        yield from self._gauges()
        for families in self._others:
            yield from families()

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
        finished = counter(generation_catalogue.FINISHED)
        for model, tally in self._tallies.items():
            for source, count in tally.answers.items():
                answers.add_metric([model, source], count)
            for phase, tokens in tally.wasted_tokens.items():
                wasted.add_metric([model, phase], tokens)
            for reason, count in tally.finished.items():
                finished.add_metric([model, reason], count)
        yield from (answers, wasted, finished)

    def _histograms(self) -> Iterator[Family]:
        family = histogram(catalogue.DURATION)
        for model, tally in self._tallies.items():
            for objective in Objective:
                durations = tally.duration(objective)
                if model == UNKNOWN and not durations.count:
                    continue  # what ends before its model is known is seldom good
                buckets = durations.cumulative(self._epoch_s)
                family.add_metric([model, objective], buckets, durations.sum)
        yield family
        # Nothing of an unknown model is ever measured: it has no place to be given.
        known = {model: tally for model, tally in self._tallies.items() if model != UNKNOWN}
        for metric, name in _MODEL_HISTOGRAMS:
            family = histogram(metric)
            for model, tally in known.items():
                measured: Histogram = getattr(tally, name)
                signed = metric is catalogue.FORECAST_ERROR  # a sum that can fall is none
                total_s = None if signed else measured.sum
                family.add_metric([model], measured.cumulative(self._epoch_s), total_s)
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
        build, folded = gauge(catalogue.BUILD), gauge(service_catalogue.NAMES_FOLDED)
        build.add_metric([self._version], 1)
        folded.add_metric([], len(self._folded))
        yield from (build, folded)

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
    (generation_catalogue.INFERENCE_TIME, "inference"),
    (generation_catalogue.LOAD_TIME, "loads"),
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
