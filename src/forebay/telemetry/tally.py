"""What is counted of one model's records, in plain lists and numbers.

prometheus_client renders them when scraped.  Its own Counter and Histogram lock and search on
each call, several times per request, and have no way to take a request's inter-token gaps at
once.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client.samples import Exemplar

from forebay.core.errors import OUTCOMES, Objective, Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import Route, Source
from forebay.telemetry import catalogue, generation_catalogue
from forebay.telemetry.catalogue import UNKNOWN
from forebay.telemetry.metric import Metric

_OBJECTIVES: Final = {outcome: ending.objective for outcome, ending in OUTCOMES.items()}


Bucket = tuple[str, float] | tuple[str, float, Exemplar]
"""Upper bound, count up to it, and a trace that stands for it."""


class Trace(NamedTuple):
    """A request whose trace is kept: where to look when its bucket fills."""

    trace_id: str
    value: float
    at: float

    def exemplar(self, epoch_s: float) -> Exemplar:
        """Return it as OpenMetrics has it."""
        return Exemplar({"trace_id": self.trace_id}, self.value, round(epoch_s + self.at, 3))


class Histogram:
    """Counts per bucket; the last is for what exceeds every bound."""

    __slots__ = ("_bounds", "_counts", "sum", "traces")

    def __init__(self, metric: Metric) -> None:
        """Take the buckets of a catalogued metric."""
        assert metric.buckets is not None
        self._bounds = metric.buckets.bounds
        self._counts = [0] * (len(self._bounds) + 1)
        self.traces: dict[int, Trace] = {}
        self.sum = 0.0

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self._counts)

    def observe(self, value: float) -> None:
        """Count one value, in the unit of the bounds."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def mark(self, value: float, trace_id: str, at: float) -> None:
        """Let a trace that is kept stand for the bucket of a value that was counted at `at`."""
        self.traces[bisect_left(self._bounds, value)] = Trace(trace_id, value, at)

    def add(self, counts: Sequence[int], total: float) -> None:
        """Count many at once: counts per bucket of the same bounds, and their sum."""
        assert len(counts) == len(self._counts), "counted with other bounds"
        self._counts = [mine + more for mine, more in zip(self._counts, counts, strict=True)]
        self.sum += total

    def add_to(self, other: "Histogram") -> None:
        """Let another of the same bounds count what this one has counted."""
        other.add(self._counts, self.sum)
        for bucket, trace in self.traces.items():
            known = other.traces.get(bucket)
            if known is None or known.at < trace.at:
                other.traces[bucket] = trace

    def cumulative(self, epoch_s: float | None = None) -> list[Bucket]:
        """Return (upper bound, count up to it), as Prometheus wants them.

        With the trace that stands for it, if `epoch_s` says when this process's clock read 0.
        """
        bounds = [*map(str, self._bounds), "+Inf"]
        found: list[Bucket] = list(zip(bounds, accumulate(self._counts), strict=True))
        if epoch_s is not None:
            for bucket, trace in self.traces.items():
                found[bucket] = (*found[bucket][:2], trace.exemplar(epoch_s))
        return found


_ROUTES: Final = (Route.CHAT_COMPLETIONS, Route.COMPLETIONS)
_NO_MODELS: Final = (*_ROUTES, Route.STREAMS, Route.PROBE, Route.UNMATCHED)
"""By which requests end before their model is known."""


class Tally:
    """Everything counted of one model's records."""

    def __init__(self, *, unknown: bool = False) -> None:
        """Start every count at zero; those of seldom routes do when their first request comes.

        Of those, what is the callers' own fault is there from when it first happens: each series
        costs, and no objective counts it.
        `unknown`: of requests that ended before their model was known.
        """
        self.requests: dict[tuple[Route, Outcome], int] = {}
        for route in _NO_MODELS if unknown else _ROUTES:
            self.requests |= {(route, outcome): 0 for outcome in Outcome}
        self.durations: dict[tuple[Route, Objective], Histogram] = {}
        self.ttft = Histogram(catalogue.TTFT)
        self.tpot = Histogram(catalogue.TPOT)
        self.itl = Histogram(catalogue.ITL)
        self.queue = Histogram(catalogue.QUEUE_TIME)
        self.prefill = Histogram(catalogue.PREFILL_TIME)
        self.decode = Histogram(catalogue.DECODE_TIME)
        self.inference = Histogram(generation_catalogue.INFERENCE_TIME)
        self.loads = Histogram(generation_catalogue.LOAD_TIME)
        self.overhead = Histogram(catalogue.OVERHEAD)
        self.forecast_error = Histogram(catalogue.FORECAST_ERROR)
        self.cancel_propagation = Histogram(catalogue.CANCEL_PROPAGATION)
        self.wasted_tokens = dict.fromkeys(catalogue.WASTED_PHASES, 0)
        self.answers = dict.fromkeys(Source, 0)
        self.finished = dict.fromkeys(generation_catalogue.FINISH_REASONS, 0)
        self.prompt_tokens = 0
        self.generation_tokens = 0

    def _begin(self, route: Route) -> None:
        for outcome, objective in _OBJECTIVES.items():
            if objective is not Objective.IGNORED:
                self.requests.setdefault((route, outcome), 0)

    def count(self, record: RequestRecord, trace_id: str = "") -> None:
        """Count one record: each measure where it is defined; its trace, if that is kept."""
        counted = self.requests.get((record.route, record.outcome))
        if counted is None:
            self._begin(record.route)
        self.requests[record.route, record.outcome] = (counted or 0) + 1
        ending = record.route, _OBJECTIVES[record.outcome]
        durations = self.durations.get(ending)
        if durations is None:
            durations = self.durations[ending] = Histogram(catalogue.DURATION)
        durations.observe(record.e2e_s)
        if trace_id:
            self._mark(record, trace_id, durations)
        timeline = record.timeline
        if record.outcome is Outcome.OK:
            self.answers[timeline.source] += 1
        if timeline.admitted is None or timeline.source is not Source.ENGINE:
            return  # it never got a place, or another's tokens served: nothing else was measured
        for histogram, value_s in (
            (self.queue, record.queue_s),
            (self.ttft, record.ttft_s),
            (self.tpot, record.tpot_s),
            (self.overhead, record.overhead_s),
            (self.forecast_error, record.ttft_error_s),
        ):
            if value_s is not None:
                histogram.observe(value_s)
        if timeline.gaps and record.request is not None and record.request.stream:
            self.itl.add(timeline.gaps, timeline.gaps_sum_s)
        self._count_engine(record)

    def _mark(self, record: RequestRecord, trace_id: str, durations: Histogram) -> None:
        timeline = record.timeline
        assert timeline.ended is not None, "a record is written by ending"
        durations.mark(record.e2e_s, trace_id, timeline.ended)
        if timeline.admitted is None or timeline.source is not Source.ENGINE:
            return
        for histogram, value_s in ((self.ttft, record.ttft_s), (self.tpot, record.tpot_s)):
            if value_s is not None:
                histogram.mark(value_s, trace_id, timeline.ended)

    def freed(self, wait_s: float, phase: str, tokens: int) -> None:
        """Count an abort: how long until nothing was held, and the tokens made in vain."""
        self.cancel_propagation.observe(wait_s)
        self.wasted_tokens[phase if phase in self.wasted_tokens else UNKNOWN] += tokens

    def duration(self, objective: Objective) -> Histogram:
        """Return the durations of all routes together."""
        total = Histogram(catalogue.DURATION)
        for (_, its_objective), durations in self.durations.items():
            if its_objective is objective:
                durations.add_to(total)
        return total

    def _count_engine(self, record: RequestRecord) -> None:
        if record.outcome is Outcome.OK:
            for reason in record.timeline.finish_reasons:
                self.finished[reason] += 1
        if record.usage is not None:
            self.prompt_tokens += record.usage.prompt_tokens
            self.generation_tokens += record.usage.completion_tokens
        engine = record.timeline.engine
        if engine is not None:
            if engine.first_token_s is not None:
                self.prefill.observe(engine.first_token_s)
                self.inference.observe(engine.first_token_s + (engine.decode_s or 0.0))
            if engine.decode_s is not None:
                self.decode.observe(engine.decode_s)
