"""Traces: a reader of records and exchanges that hands those worth keeping to a sender.

Spans are made after the fact, from what the record knows.  The event loop appends to a deque and
decides; a thread of the sender's makes spans of what was kept and sends them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from forebay.core.record import RequestRecord
from forebay.core.visit import Visit
from forebay.telemetry.otlp_config import TracesConfig
from forebay.telemetry.sampling import Kept, kept
from forebay.telemetry.span_attributes import Told
from forebay.telemetry.spans import Anchor, Span, spans_of
from forebay.telemetry.trace_context import Contexts


@dataclass(frozen=True, slots=True)
class Finished:
    """An exchange that is over, kept, and not sent yet."""

    visit: Visit
    records: tuple[RequestRecord, ...]
    kept: Kept


class Traces:
    """Gathers what belongs to an exchange, and keeps it or not."""

    def __init__(
        self, config: TracesConfig, *, open_mode: bool, put: Callable[[Finished], None] | None
    ) -> None:
        """`put` takes what is kept and must not block; None: no spans are made."""
        trust = config.trust_parent
        self.contexts: Final = Contexts(
            spans=put is not None,
            trusts=open_mode if trust == "auto" else trust == "on",
            ratio=config.ratio,
        )
        self._put = put
        self._slow_s = config.slow_s
        self._records_max = config.queue_max
        # The mutable state: records by the span of an exchange that is not over.
        self._records: dict[str, list[RequestRecord]] = {}

    @property
    def held(self) -> int:
        """Exchanges with a record that are not over."""
        return len(self._records)

    def reconfigure(self, config: TracesConfig) -> None:
        """Hold the exchanges that end from now on to these."""
        self.contexts.keep(config.ratio)
        self._slow_s = config.slow_s

    def __call__(self, record: RequestRecord) -> None:
        """Keep a record until its exchange is over."""
        visit = record.visit
        if visit is None or visit.trace is None or not visit.trace.span_id:
            return
        records = self._records
        of_exchange = records.get(visit.trace.span_id)
        if of_exchange is not None:
            of_exchange.append(record)
            return
        if len(records) >= self._records_max:
            del records[next(iter(records))]  # one that came after its exchange's end
        records[visit.trace.span_id] = [record]

    def over(self, visit: Visit) -> None:
        """Decide on an exchange that is over."""
        trace = visit.trace
        if trace is None or not trace.span_id or self._put is None:
            return
        records = self._records.pop(trace.span_id, None)
        if records is None or visit.ended is None:
            return
        why = kept(
            [record.outcome for record in records],
            visit.ended - visit.received,
            sampled=trace.sampled,
            slow_s=self._slow_s,
        )
        if why is not None:
            self._put(Finished(visit, tuple(records), why))


class SpanMaker:
    """Makes spans of what was kept.  Mutable state: where the clocks stand to each other."""

    def __init__(self, told: Told, *, now: Callable[[], float], wall_ns: Callable[[], int]) -> None:
        """Read both clocks once, and again whenever the wall's was set."""
        self._told = told
        self._now, self._wall_ns = now, wall_ns
        self._anchor = Anchor(now(), wall_ns())

    def __call__(self, finished: Iterable[Finished]) -> Sequence[Span]:
        """Return the spans of several exchanges."""
        self._anchor = self._anchor.held_to(self._now(), self._wall_ns())
        return [
            span
            for one in finished
            for span in spans_of(
                one.visit, one.records, kept=one.kept, anchor=self._anchor, told=self._told
            )
        ]
