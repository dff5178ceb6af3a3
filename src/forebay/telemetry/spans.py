"""An exchange as spans, made from its records once it is over: nothing is timed for them alone.

    SERVER   chat smollm2            received .. ended
      receive                        received .. its body was a request
      guard                          .. screened
      load                           .. its model was in memory; only where it was not
      queue                          .. a place
      prefill                        .. first token
      decode                         .. last token

Several requests that came by one exchange (a batch) are spans of their own between it and these.
Of an answer that was made for somebody else, or before, there is no prefill and no decode.
"""

import hashlib
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from forebay.core.errors import OUTCOMES, Blame, Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import Source
from forebay.core.visit import TraceContext, Visit
from forebay.telemetry import conventions as names
from forebay.telemetry.sampling import Kept
from forebay.telemetry.span_attributes import Attributes, Told, asked_for, of_exchange, of_request

_STEP_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Anchor:
    """A moment by both clocks: what turns monotonic seconds into Unix nanoseconds."""

    monotonic_s: float
    wall_ns: int

    def ns(self, moment: float) -> int:
        """Return a monotonic moment as Unix nanoseconds."""
        return self.wall_ns + round((moment - self.monotonic_s) * 1e9)

    def held_to(self, now: float, wall_ns: int) -> "Anchor":
        """Return an anchor by which it is `wall_ns` now; itself, unless the clock was set."""
        return self if abs(self.ns(now) - wall_ns) < _STEP_S * 1e9 else Anchor(now, wall_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanEvent:
    """Something that happened at one moment of a span."""

    name: str
    at_ns: int


@dataclass(slots=True, kw_only=True)
class Span:
    """A piece of work with a beginning and an end; ids are hexadecimal digits."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str = ""
    serves: bool = False
    """It is a whole exchange: its kind is SERVER, and its parent is elsewhere."""
    begin_ns: int
    end_ns: int
    state: str = ""
    attributes: Attributes = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()
    error: str = ""
    """Why it counts as failed, in fixed words; empty: it does not."""


def spans_of(
    visit: Visit, records: Sequence[RequestRecord], *, kept: Kept, anchor: Anchor, told: Told
) -> list[Span]:
    """Return the spans of an exchange that is over: its own first."""
    trace = visit.trace
    assert trace is not None, "only what has a place in a trace becomes spans"
    making = _Making(trace=trace, anchor=anchor, told=told)
    if len(records) == 1 and records[0].visit is visit:
        (record,) = records
        return making.exchange(visit, record, kept=kept)
    return making.batch(visit, records, kept=kept)


@dataclass(slots=True, kw_only=True)
class _Making:
    """Makes the spans of one exchange.  Mutable state: how many ids were given."""

    trace: TraceContext
    anchor: Anchor
    told: Told
    given: int = 0

    def exchange(self, visit: Visit, record: RequestRecord, *, kept: Kept) -> list[Span]:
        """Return the spans of an exchange that was one request."""
        attributes = of_exchange(visit, self.told) | of_request(record, self.told)
        attributes[names.KEPT] = kept.value
        root = self._root(visit, _name(record), attributes)
        root.events = self._events(record)
        root.error = _failed(record.outcome)
        return [root, *self._stages(visit, record, root)]

    def batch(self, visit: Visit, records: Sequence[RequestRecord], *, kept: Kept) -> list[Span]:
        """Return the spans of an exchange that was several requests."""
        first = records[0]
        attributes = of_exchange(visit, self.told)
        attributes |= {names.OPERATION: asked_for(first), names.REQUESTS: len(records)}
        attributes[names.KEPT] = kept.value
        root = self._root(visit, _name(first), attributes)
        root.error = next(filter(None, (_failed(record.outcome) for record in records)), "")
        spans = [root]
        for record in records:
            ended = record.timeline.ended or record.timeline.received
            span = self._span(
                _name(record), root.span_id, begin=record.timeline.received, end=ended
            )
            span.attributes = of_request(record, self.told)
            span.events = self._events(record)
            span.error = _failed(record.outcome)
            spans += [span, *self._stages(record.visit or visit, record, span)]
        return spans

    def _root(self, visit: Visit, name: str, attributes: Attributes) -> Span:
        ended = visit.received if visit.ended is None else visit.ended
        span = self._span(name, self.trace.parent_id, begin=visit.received, end=ended)
        return replace(
            span,
            span_id=self.trace.span_id,
            serves=True,
            state=self.trace.state,
            attributes=attributes,
        )

    def _span(self, name: str, parent_id: str, *, begin: float, end: float) -> Span:
        # Derived, so that none has to be drawn: the exchange's own id is random.
        self.given += 1
        seed = f"{self.trace.trace_id}{self.trace.span_id}{self.given}".encode()
        return Span(
            name=name,
            trace_id=self.trace.trace_id,
            span_id=hashlib.blake2b(seed, digest_size=8).hexdigest(),
            parent_id=parent_id,
            begin_ns=self.anchor.ns(begin),
            end_ns=self.anchor.ns(max(begin, end)),
        )

    def _stages(self, visit: Visit, record: RequestRecord, parent: Span) -> Iterator[Span]:
        failed = _failed(record.outcome)
        last = None
        for name, begin, end in stages(visit, record):
            last = self._span(name, parent.span_id, begin=begin, end=end)
            if name == "queue" and record.queue_s is not None:
                last.attributes[names.QUEUE_S] = record.queue_s
            yield last
        if last is not None:
            last.error = failed  # the generator's reader holds it: it failed while this ran

    def _events(self, record: RequestRecord) -> tuple[SpanEvent, ...]:
        first = first_token(record)
        if first is None:
            return ()
        return (SpanEvent(name="forebay.first_token", at_ns=self.anchor.ns(first)),)


def stages(visit: Visit, record: RequestRecord) -> Iterator[tuple[str, float, float]]:
    """Yield what a request passed, one after the other: name, beginning, end."""
    timeline = record.timeline
    ended = timeline.received if timeline.ended is None else timeline.ended
    at = timeline.received
    for name, until in _stations(visit):
        if until > at:
            yield name, at, until
            at = until
    if timeline.admitted is None:
        # It was turned away before the line, or in it; or another's answer was read.
        if visit.screened is not None and timeline.source is Source.ENGINE and ended > at:
            yield "queue", at, ended
        return
    yield "queue", at, max(at, timeline.admitted)
    if timeline.source is not Source.ENGINE:
        return
    first = first_token(record)
    if first is None:
        yield "prefill", timeline.admitted, _prefilled(record, ended)
        return
    yield "prefill", timeline.admitted, first
    yield "decode", first, _decoded(record, first, ended)


def _stations(visit: Visit) -> list[tuple[str, float]]:
    """Return what a request passed before the line, by when it was through with it."""
    waits_early = visit.understood is None or (visit.asleep or math.inf) < visit.understood
    stations = (
        ("receive", visit.asleep if waits_early else None),
        ("load", visit.awake),
        ("receive", visit.understood),
        ("guard", visit.screened if visit.guard else None),
    )
    known = [(name, until) for name, until in stations if until is not None]
    return sorted(known, key=operator.itemgetter(1))


def first_token(record: RequestRecord) -> float | None:
    """Return when the first token was made; None if none was, or not for this request."""
    if record.ttft_s is None or record.timeline.source is not Source.ENGINE:
        return None
    return record.timeline.received + record.ttft_s


def _prefilled(record: RequestRecord, ended: float) -> float:
    engine, admitted = record.timeline.engine, record.timeline.admitted
    if engine is None or engine.first_token_s is None or admitted is None:
        return ended
    return min(admitted + engine.first_token_s, ended)


def _decoded(record: RequestRecord, first: float, ended: float) -> float:
    timeline = record.timeline
    if record.outcome is not Outcome.OK:
        return ended
    whole = record.request is not None and not record.request.stream
    if whole and timeline.engine is not None and timeline.engine.decode_s is not None:
        return min(first + timeline.engine.decode_s, ended)
    return timeline.last_token or ended


def _name(record: RequestRecord) -> str:
    """`chat smollm2`; a model that is not served here has no place in a name."""
    model = "" if record.outcome is Outcome.UNKNOWN_MODEL else record.model
    return f"{asked_for(record)} {model}".strip()


def _failed(outcome: Outcome) -> str:
    ending = OUTCOMES[outcome]
    return ending.meaning if ending.blame is Blame.US else ""
