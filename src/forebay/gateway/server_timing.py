"""`Server-Timing`: where an answer's time went, as far as it is known when its head is sent.

Names and meanings are those of receipts (`telemetry/stations.py`); `total` is all of it so far.  Of
a stream the head goes out with the first token, so what comes after is in the receipt only.
"""

from functools import lru_cache
from typing import Final

from forebay.core.clock import MONOTONIC
from forebay.core.record import Timeline
from forebay.core.request import Source
from forebay.core.visit import Visit
from forebay.gateway.exchange import Exchange, Header
from forebay.telemetry.stations import Part, after, before

_NAME: Final = b"server-timing"
_TOTAL: Final = "total"


def timing(exchange: Exchange, *, stream: bool) -> tuple[Header, ...]:
    """Return the header, or nothing where the configuration does not want it."""
    if not exchange.config.server_timing:
        return ()
    visit, now = exchange.visit, MONOTONIC()
    timeline = visit.timeline
    if timeline is None:
        return ((_NAME, _any(visit, None, None, now=now)),)
    first_token = timeline.first_token_at(stream=stream)
    told = _usual(visit, timeline, first_token, now=now)
    return ((_NAME, told or _any(visit, timeline, first_token, now=now)),)


def _usual(
    visit: Visit, timeline: Timeline, first_token: float | None, *, now: float
) -> bytes | None:
    """Tell of an answer that was made by an engine which was in memory; None: it was not so.

    It says what `_any` says, at a third of the cost: nearly all answers come by here.
    """
    let_in, understood, screened = visit.let_in, visit.understood, visit.screened
    admitted, last_token = timeline.admitted, timeline.last_token
    if (
        timeline.source is not Source.ENGINE
        or visit.asleep is not None
        or visit.of
        or let_in is None
        or understood is None
        or screened is None
        or admitted is None
        or first_token is None
        or last_token is None
        or (looked_until := visit.making if visit.looked else understood) is None
    ):
        return None
    received, wait_s = visit.received, visit.wait_s
    waited, made_more = wait_s > 0.0, last_token > first_token
    return _USUAL[waited, visit.looked, made_more] % (
        *((wait_s * 1_000,) if waited else ()),
        (let_in - received) * 1_000,
        (understood - let_in) * 1_000,
        *(((looked_until - understood) * 1_000,) if visit.looked else ()),
        (screened - looked_until) * 1_000,
        (admitted - screened) * 1_000,
        (first_token - admitted) * 1_000,
        *(((last_token - first_token) * 1_000,) if made_more else ()),
        (now - received + wait_s) * 1_000,
    )


def _any(
    visit: Visit, timeline: Timeline | None, first_token: float | None, *, now: float
) -> bytes:
    ends = before(visit)
    if timeline is not None:
        ends += after(visit, timeline, first_token)
    at = began = visit.received - visit.wait_s
    spent: dict[str, float] = {}  # the reading may come twice, around the loading of a model
    for part, end in ends:
        spent[part] = spent.get(part, 0.0) + max(0.0, end - at) * 1_000
        at = max(at, end)
    spent[_TOTAL] = (now - began) * 1_000
    return _form(tuple(spent)) % tuple(spent.values())


@lru_cache(maxsize=64)
def _form(names: tuple[str, ...]) -> bytes:
    """Return what durations are put into: formatting them one by one takes twice as long."""
    return ", ".join(f"{name};dur=%.3f" for name in names).encode()


def _usual_form(*, waited: bool, looked: bool, made_more: bool) -> bytes:
    parts = [Part.WAIT] if waited else []
    parts += [Part.ACCESS, Part.PARSE, *([Part.LOOKUP] if looked else []), Part.GUARD, Part.QUEUE]
    parts += [Part.PREFILL, Part.DECODE] if made_more else [Part.PREFILL]
    return _form((*(part.value for part in parts), _TOTAL))


_USUAL: Final = {
    (waited, looked, made_more): _usual_form(waited=waited, looked=looked, made_more=made_more)
    for waited in (False, True)
    for looked in (False, True)
    for made_more in (False, True)
}
