"""A request's receipt: where its time went, what was decided about it, what it cost.

Its parts sum to the whole (`telemetry/stations.py`).  No prompt and no completion is in it.

Of a completion that is sent whole, the moment of the first token is the engine's own word, as in
`RequestRecord.ttft_s`, and what it took to hand the answer over is part of `decode`; the other
stations are moments of the gateway's event loop, so a part holds what the loop kept it waiting:
`loop_stall_s` says how much of the whole that was.

What is kept of each request (`Facts`) is a copy of numbers and short texts; it is worked out when
somebody reads it.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from forebay.core.caller import NOBODY
from forebay.core.errors import OUTCOMES, Outcome
from forebay.core.record import RequestRecord
from forebay.core.request import Priority, Source
from forebay.core.visit import Visit
from forebay.telemetry.stations import Part, after, before, rising, under_way

TEXT_CHARACTERS_MAX: Final = 300
"""Longest text in a receipt: an error's, or a path."""

Stalled = Callable[[float, float], float]
"""Says for how long the event loop did not turn between two moments, seconds."""


class Span(msgspec.Struct, kw_only=True, frozen=True):
    """One part: when it began, counted from the receipt's beginning, and how long it took."""

    part: Part
    start_s: float
    duration_s: float


class Facts(msgspec.Struct, frozen=True, gc=False, eq=False):
    """What is kept of a request: moments (monotonic), counts and short texts."""

    id: str
    tenant: str
    route: str
    model: str
    outcome: Outcome
    status: int
    received: float
    ended: float
    """When its last byte was written, or nobody read any more."""
    loop_stall_s: float
    wait_s: float = 0.0
    of: str = ""
    let_in: float | None = None
    understood: float | None = None
    looked: bool = False
    making: float | None = None
    screened: float | None = None
    asleep: float | None = None
    awake: float | None = None
    answered: bool = False
    """It was a request on the line; otherwise a batch, whose items were."""
    source: Source = Source.ENGINE
    admitted: float | None = None
    scheduled: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    vector: float | None = None
    """When it was made, where a vector was asked for."""
    engine_s: float | None = None
    """What the first token took by its engine's word."""
    finished: bool = False
    """Its last event had passed."""
    method: str = ""
    path: str = ""
    user: str = ""
    items: int = 0
    via: str = ""
    stream: bool = False
    priority: Priority | None = None
    reads_cache: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    body_bytes: int = 0
    answer_bytes: int = 0
    forecast_s: float | None = None
    workers: tuple[int, ...] = ()
    failovers: tuple[str, ...] = ()
    limit: str = ""
    guard: str = ""
    reserved_tokens: int | None = None
    cost_nanos: int | None = None
    error: str = ""

    @property
    def began(self) -> float:
        """When its head lay here."""
        return self.received - self.wait_s

    @property
    def ttft_s(self) -> float | None:
        """Time to first token, as `RequestRecord.ttft_s`."""
        return None if self.first_token is None else self.first_token - self.received


class Receipt(msgspec.Struct, kw_only=True, frozen=True):
    """A receipt as it is read."""

    facts: Facts
    spans: tuple[Span, ...]
    """Contiguous, from the beginning to the end."""
    ended_in: Part
    """The part under way when it ended."""

    @property
    def total_s(self) -> float:
        """Seconds from the moment at which its bytes lay here to its end."""
        return self.facts.ended - self.facts.began


def no_stall(_since: float, _until: float) -> float:
    """Know of no stall."""
    return 0.0


def receipt_of(record: RequestRecord, stalled: Stalled = no_stall) -> Receipt:
    """Return the receipt of a request that ended."""
    return read(facts_of(record, stalled))


def read(facts: Facts) -> Receipt:
    """Lay the parts out, one after the other."""
    answer = facts if facts.answered else None
    ends = before(facts)
    if answer is not None and facts.understood is not None:
        made = facts.vector if facts.first_token is None else facts.first_token
        ends += after(facts, answer, made, engine_s=facts.engine_s)
    finished = facts.finished or facts.outcome is Outcome.OK
    last = under_way(facts, answer, finished=finished)
    if ends and ends[-1][0] == last:
        ends.pop()  # it went on until the end
    spans, at = [], facts.began
    for part, end in rising([*ends, (last, facts.ended)], at, facts.ended):
        spans.append(Span(part=Part(part), start_s=at - facts.began, duration_s=end - at))
        at = end
    return Receipt(facts=facts, spans=tuple(spans), ended_in=Part(last))


def facts_of(record: RequestRecord, stalled: Stalled = no_stall) -> Facts:
    """Return what is kept of a request."""
    timeline, request, usage = record.timeline, record.request, record.usage
    visit = record.visit or _unseen(record)
    assert timeline.ended is not None, "a record is written by ending"
    item = bool(visit.of)
    ended = timeline.ended if visit.ended is None or item else visit.ended
    wait_s = 0.0 if item else visit.wait_s
    stream, engine = request is not None and request.stream, timeline.engine
    embed = request is not None and request.sampling.embed
    # In the order of its fields: by name it would cost 1 us more, a quarter of a receipt.
    return Facts(
        record.id,
        _tenant(record),  # tenant
        record.route,
        record.model,
        record.outcome,
        record.status,
        visit.received,
        ended,
        stalled(visit.received - wait_s, ended),  # loop_stall_s
        wait_s,
        visit.of,
        visit.let_in,
        visit.understood,
        visit.looked,
        visit.making,
        visit.screened,
        visit.asleep,
        visit.awake,
        True,  # answered  # noqa: FBT003 - a field
        timeline.source,
        timeline.admitted,
        timeline.scheduled,
        timeline.first_token_at(stream=stream or request is None),  # first_token
        timeline.last_token,
        timeline.ended if embed and engine is not None else None,  # vector
        None if engine is None else engine.first_token_s,  # engine_s
        engine is not None,  # finished
        visit.method,
        _short(visit.path),
        record.caller.user,
        0,  # items
        record.via,
        stream,
        None if request is None else request.priority,
        request is not None and request.reuse.read,  # reads_cache
        None if usage is None else usage.prompt_tokens,
        None if usage is None else usage.completion_tokens,
        0 if item else visit.body_bytes,
        0 if item else visit.answer_bytes,
        timeline.ttft_forecast_s,  # forecast_s
        visit.workers,
        visit.failovers,
        visit.limit,
        visit.guard,
        visit.reserved_tokens,
        visit.cost_nanos,
        "" if record.error is None else _short(record.error),
    )


def facts_of_batch(visit: Visit, stalled: Stalled = no_stall) -> Facts:
    """Return what is kept of an exchange whose requests have records of their own."""
    assert visit.ended is not None, "it is over"
    ok = visit.status in _ANSWERED
    return Facts(
        id=visit.id,
        tenant=visit.tenant,
        route=visit.route,
        model="",
        outcome=Outcome.OK if ok else _OUTCOMES.get(visit.status, Outcome.CANCELLED),
        status=visit.status or OUTCOMES[Outcome.CANCELLED].status,
        received=visit.received,
        ended=visit.ended,
        loop_stall_s=stalled(visit.received - visit.wait_s, visit.ended),
        wait_s=visit.wait_s,
        let_in=visit.let_in,
        understood=visit.understood,
        asleep=visit.asleep,
        awake=visit.awake,
        method=visit.method,
        path=_short(visit.path),
        items=visit.items,
        body_bytes=visit.body_bytes,
        answer_bytes=visit.answer_bytes,
    )


def _tenant(record: RequestRecord) -> str:
    """Return whose request it was; empty: nobody's that is known."""
    if record.request is not None:
        return record.request.tenant
    return "" if record.caller is NOBODY else record.caller.tenant


def _unseen(record: RequestRecord) -> Visit:
    """Return the visit of a request that came by no exchange."""
    received = record.timeline.received
    known = None if record.request is None else received
    return Visit(
        id=record.id, method="", path="", received=received, let_in=known, understood=known
    )


def _short(text: str) -> str:
    return text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:TEXT_CHARACTERS_MAX]}…"


_ANSWERED: Final = range(200, 300)
_OUTCOMES: Final = {OUTCOMES[outcome].status: outcome for outcome in reversed(Outcome)}
