"""A request's receipt: where its time went, what was decided about it, what it cost.

Its parts follow one another and leave nothing out: they sum to the whole.  A part ends when a
station of the request is passed (`core/visit.py`, `core/record.py`); the part under way when the
request ended takes the rest, and says where it ended.  No prompt and no completion is in it.

Of a completion that is sent whole, the moment of the first token is the engine's own word, as in
`RequestRecord.ttft_s`, and what it took to hand the answer over is part of `decode`; the other
stations are moments of the gateway's event loop, so a part holds
what the loop kept it waiting: `loop_stall_s` says how much of the whole that was.
"""

import enum
import math
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from forebay.core.caller import NOBODY
from forebay.core.errors import OUTCOMES, Outcome
from forebay.core.record import RequestRecord, Timeline
from forebay.core.request import Priority, Source
from forebay.core.visit import Visit

TEXT_CHARACTERS_MAX: Final = 300
"""Longest text in a receipt: an error's, or a path."""

Stalled = Callable[[float, float], float]
"""Says for how long the event loop did not turn between two moments, seconds."""


class Part(enum.StrEnum):
    """What a request's time went to, in the order in which it usually does."""

    WAIT = "wait"
    """Its head lay here before the event loop came to it."""
    ACCESS = "access"
    """Who asks, and may it: credentials, limits on requests."""
    PARSE = "parse"
    """Its body came and became a request."""
    LOOKUP = "lookup"
    """An answer that was made before was looked for, or one under way."""
    GUARD = "guard"
    """The input guard read it."""
    LOAD = "load"
    """Its model was brought into memory."""
    QUEUE = "queue"
    """Budgets were reserved, and it waited for a place."""
    ROUTE = "route"
    """From its place to its engine, until that took it in."""
    PREFILL = "prefill"
    """The engine read the prompt and made the first token."""
    DECODE = "decode"
    """The other tokens were made and handed out."""
    JOIN = "join"
    """Another request's answer was read while it was made."""
    REPLAY = "replay"
    """A kept answer was read."""
    ITEMS = "items"
    """The requests of a batch were served; each has a receipt of its own."""
    FLUSH = "flush"
    """From the last token to the last byte written."""


class Span(msgspec.Struct, kw_only=True, frozen=True):
    """One part: when it began, counted from the receipt's beginning, and how long it took."""

    part: Part
    start_s: float
    duration_s: float


class Facts(msgspec.Struct, kw_only=True, frozen=True, gc=False, eq=False):
    """What is kept of a request: moments, counts and short texts."""

    id: str
    tenant: str
    route: str
    model: str
    outcome: str
    status: int
    began: float
    """When its bytes lay here; monotonic."""
    ended: float
    stations: tuple[tuple[Part, float], ...]
    """Each part that came, and when it ended."""
    ended_in: Part
    loop_stall_s: float
    method: str = ""
    path: str = ""
    user: str = ""
    of: str = ""
    items: int = 0
    via: str = ""
    stream: bool = False
    priority: str = ""
    source: str = ""
    reads_cache: bool = False
    keyed: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    body_bytes: int = 0
    answer_bytes: int = 0
    ttft_s: float | None = None
    forecast_s: float | None = None
    workers: tuple[int, ...] = ()
    failovers: tuple[str, ...] = ()
    limit: str = ""
    guard: str = ""
    reserved_tokens: int | None = None
    cost_nanos: int | None = None
    error: str = ""


class Receipt(msgspec.Struct, kw_only=True, frozen=True):
    """A receipt as it is read."""

    facts: Facts
    spans: tuple[Span, ...]
    """Contiguous, from the beginning to the end."""

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
    spans, at = [], facts.began
    for part, end in facts.stations:
        spans.append(Span(part=part, start_s=at - facts.began, duration_s=end - at))
        at = end
    return Receipt(facts=facts, spans=tuple(spans))


def facts_of(record: RequestRecord, stalled: Stalled = no_stall) -> Facts:
    """Return what is kept of a request."""
    timeline, request, usage = record.timeline, record.request, record.usage
    visit = record.visit or _unseen(record)
    assert timeline.ended is not None, "a record is written by ending"
    wait_s = 0.0 if visit.of else visit.wait_s
    ended = timeline.ended if visit.ended is None or visit.of else visit.ended
    stream = request is None or request.stream
    ok = record.outcome is Outcome.OK
    stations, ended_in = passed(visit, timeline, stream=stream, ended=ended, ok=ok)
    began = visit.received - wait_s
    return Facts(
        id=record.id,
        tenant=_tenant(record),
        user=record.caller.user,
        route=record.route,
        model=_short(record.model),
        outcome=record.outcome,
        status=record.status,
        began=began,
        ended=ended,
        stations=stations,
        ended_in=ended_in,
        loop_stall_s=stalled(began, ended),
        method=visit.method,
        path=_short(visit.path),
        of=visit.of,
        via=_short(record.via),
        stream=request is not None and request.stream,
        priority="" if request is None else _PRIORITIES[request.priority],
        source="" if timeline.admitted is None and not timeline.last_token else timeline.source,
        reads_cache=request is not None and request.reuse.read,
        keyed=request is not None and request.key is not None,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        completion_tokens=None if usage is None else usage.completion_tokens,
        body_bytes=0 if visit.of else visit.body_bytes,
        answer_bytes=0 if visit.of else visit.answer_bytes,
        ttft_s=record.ttft_s,
        forecast_s=timeline.ttft_forecast_s,
        workers=visit.workers,
        failovers=visit.failovers,
        limit=visit.limit,
        guard=visit.guard,
        reserved_tokens=visit.reserved_tokens,
        cost_nanos=visit.cost_nanos,
        error="" if record.error is None else _short(record.error),
    )


def facts_of_batch(visit: Visit, stalled: Stalled = no_stall) -> Facts:
    """Return what is kept of an exchange whose requests have records of their own."""
    assert visit.ended is not None, "it is over"
    ok = visit.status in _ANSWERED
    stations = [*_before(visit), (Part.ITEMS, visit.ended)]
    began = visit.received - visit.wait_s
    return Facts(
        id=visit.id,
        tenant=visit.tenant,
        route=visit.route,
        model="",
        outcome=Outcome.OK if ok else _OUTCOMES.get(visit.status, Outcome.CANCELLED),
        status=visit.status or OUTCOMES[Outcome.CANCELLED].status,
        began=began,
        ended=visit.ended,
        stations=_rising(stations, began),
        ended_in=Part.ITEMS,
        loop_stall_s=stalled(began, visit.ended),
        method=visit.method,
        path=_short(visit.path),
        items=visit.items,
        body_bytes=visit.body_bytes,
        answer_bytes=visit.answer_bytes,
    )


def passed(
    visit: Visit, timeline: Timeline | None, *, stream: bool, ended: float, ok: bool
) -> tuple[tuple[tuple[Part, float], ...], Part]:
    """Return the parts that came, each with its end, and the part that it ended in."""
    stations = list(_before(visit))
    missing = _missing(visit)
    if missing is None and timeline is None:
        missing = Part.ITEMS
    elif missing is None:
        assert timeline is not None
        stations += _answered(visit, timeline, timeline.first_token_at(stream=stream))
        missing = _under_way(visit, timeline, ok=ok)
    stations.append((missing, ended))
    return _rising(stations, visit.received - (0.0 if visit.of else visit.wait_s)), missing


def _before(visit: Visit) -> Iterator[tuple[Part, float]]:
    """Yield the parts before the request was understood."""
    if visit.of:
        return
    if visit.wait_s:
        yield Part.WAIT, visit.received
    if visit.let_in is None:
        return
    yield Part.ACCESS, visit.let_in
    if visit.asleep is not None and _was_early(visit):
        yield Part.PARSE, visit.asleep
        if visit.awake is None:
            return
        yield Part.LOAD, visit.awake
    if visit.understood is not None:
        yield Part.PARSE, visit.understood


def _missing(visit: Visit) -> Part | None:
    """Return the part under way if the request was not understood yet."""
    if visit.let_in is None:
        return Part.ACCESS
    if visit.understood is not None:
        return None
    loading = visit.asleep is not None and visit.awake is None
    return Part.LOAD if loading else Part.PARSE


def _was_early(visit: Visit) -> bool:
    """Whether its model was waited for before it was understood."""
    asleep, understood = visit.asleep, visit.understood
    return asleep is not None and (understood is None or asleep <= understood)


def _answered(
    visit: Visit, timeline: Timeline, first_token: float | None
) -> Iterator[tuple[Part, float]]:
    """Yield the parts between the understanding and the last token."""
    if timeline.source is not Source.ENGINE:
        if timeline.last_token is not None:
            part = Part.JOIN if timeline.source is Source.JOINED else Part.REPLAY
            yield part, timeline.last_token
        return
    if visit.looked and visit.making is not None:
        yield Part.LOOKUP, visit.making
    if visit.screened is not None:
        yield Part.GUARD, visit.screened
        if visit.awake is not None and not _was_early(visit):
            yield Part.LOAD, visit.awake
    if timeline.admitted is not None:
        yield Part.QUEUE, timeline.admitted
        yield from _made(timeline, first_token)


def _made(timeline: Timeline, first_token: float | None) -> Iterator[tuple[Part, float]]:
    """Yield the parts between its place and the last token."""
    # Word of the taking in may come late, with a whole answer: then it does not part anything.
    if timeline.scheduled is not None and timeline.scheduled <= (first_token or math.inf):
        yield Part.ROUTE, timeline.scheduled
    if first_token is not None:
        yield Part.PREFILL, first_token
        if timeline.last_token is not None and timeline.last_token > first_token:
            yield Part.DECODE, timeline.last_token
    elif timeline.engine is not None and timeline.ended is not None:
        yield Part.PREFILL, timeline.ended  # a vector: no token was made


def _under_way(visit: Visit, timeline: Timeline, *, ok: bool) -> Part:
    """Return the part that a request was in which had been understood."""
    if ok or timeline.engine is not None:  # its last event has passed
        return Part.FLUSH
    if timeline.source is not Source.ENGINE:
        return Part.JOIN if timeline.source is Source.JOINED else Part.REPLAY
    if timeline.admitted is None:
        return _before_its_place(visit)
    if timeline.scheduled is None:
        return Part.ROUTE
    return Part.PREFILL if timeline.first_token is None else Part.DECODE


def _before_its_place(visit: Visit) -> Part:
    """Return the part that a request was in which had no place yet."""
    if visit.screened is not None:
        loading = visit.awake is None and visit.asleep is not None
        return Part.LOAD if loading and not _was_early(visit) else Part.QUEUE
    if visit.making is not None:
        return Part.GUARD
    if visit.looked:
        return Part.LOOKUP
    return Part.QUEUE if visit.of else Part.GUARD  # of a batch: its turn had not come


def _rising(stations: list[tuple[Part, float]], began: float) -> tuple[tuple[Part, float], ...]:
    """Let no part end before the one before it, or after the last."""
    last = stations[-1][1]
    rising = []
    for part, end in stations:
        began = min(max(began, end), last)
        rising.append((part, began))
    return tuple(rising)


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


_PRIORITIES: Final = {priority: priority.name.lower() for priority in Priority}
_ANSWERED: Final = range(200, 300)
_OUTCOMES: Final = {OUTCOMES[outcome].status: outcome for outcome in reversed(Outcome)}
