"""The parts of a request's time: each ends when the request passes a station.

The stations are moments that the gateway noted on the way (`core/visit.py`, `core/record.py`).
Parts follow one another and leave nothing out; the one under way at the end takes the rest, and
says where the request ended.
"""

import enum
from typing import TYPE_CHECKING, Final

from forebay.core.request import Source

if TYPE_CHECKING:
    from forebay.core.record import Timeline
    from forebay.core.visit import Visit
    from forebay.telemetry.receipt import Facts


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
    """From its place to its engine, and the first token's way back."""
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


# Plain texts: a member's hash and its text are each a call, and an answer's head takes ten.
_WAIT: Final = Part.WAIT.value
_ACCESS: Final = Part.ACCESS.value
_PARSE: Final = Part.PARSE.value
_LOOKUP: Final = Part.LOOKUP.value
_GUARD: Final = Part.GUARD.value
_LOAD: Final = Part.LOAD.value
_QUEUE: Final = Part.QUEUE.value
_ROUTE: Final = Part.ROUTE.value
_PREFILL: Final = Part.PREFILL.value
_DECODE: Final = Part.DECODE.value
_ITEMS: Final = Part.ITEMS.value
_FLUSH: Final = Part.FLUSH.value
_OTHERS: Final = {
    Source.JOINED: Part.JOIN.value,
    Source.REPLAYED: Part.REPLAY.value,
    Source.CACHED: Part.REPLAY.value,
}

Ends = list[tuple[str, float]]
"""Parts in order, each with the moment at which it ended."""


def before(visit: "Visit | Facts") -> Ends:
    """Return the parts before the request was understood; those of a batch's item are none."""
    if visit.of:
        return []
    ends: Ends = [(_WAIT, visit.received)] if visit.wait_s else []
    if visit.let_in is not None:
        ends.append((_ACCESS, visit.let_in))
        if visit.asleep is not None and _was_early(visit):
            ends.append((_PARSE, visit.asleep))
            if visit.awake is not None:
                ends.append((_LOAD, visit.awake))
        if visit.understood is not None:
            ends.append((_PARSE, visit.understood))
    return ends


def after(
    visit: "Visit | Facts",
    answer: "Timeline | Facts",
    first_token: float | None,
    *,
    engine_s: float | None = None,
) -> Ends:
    """Return the parts between the understanding and the last token.

    `first_token`: when it was made, or a vector, of which no token tells; `engine_s`: what its
    engine says that took, from its own receipt.
    """
    last_token, admitted = answer.last_token, answer.admitted
    if answer.source is not Source.ENGINE:
        return [] if last_token is None else [(_OTHERS[answer.source], last_token)]
    ends: Ends = []
    if visit.looked and visit.making is not None:
        ends.append((_LOOKUP, visit.making))
    if visit.screened is not None:
        ends.append((_GUARD, visit.screened))
        if visit.awake is not None and not _was_early(visit):
            ends.append((_LOAD, visit.awake))
    if admitted is None:
        return ends
    ends.append((_QUEUE, admitted))
    if first_token is None:
        return ends if answer.scheduled is None else [*ends, (_ROUTE, answer.scheduled)]
    # Not by `scheduled`: word of the taking in comes with the first step's tokens.
    if engine_s is not None and first_token - engine_s > admitted:
        ends.append((_ROUTE, first_token - engine_s))
    ends.append((_PREFILL, first_token))
    if last_token is not None and last_token > first_token:
        ends.append((_DECODE, last_token))
    return ends


def under_way(visit: "Visit | Facts", answer: "Timeline | Facts | None", *, finished: bool) -> str:
    """Return the part that a request is in; `finished`: its last event has passed."""
    if visit.let_in is None:
        return _ACCESS
    if visit.understood is None:
        return _LOAD if visit.asleep is not None and visit.awake is None else _PARSE
    if answer is None:
        return _ITEMS
    return _FLUSH if finished else _answering(visit, answer)


def _answering(visit: "Visit | Facts", answer: "Timeline | Facts") -> str:
    if answer.source is not Source.ENGINE:
        return _OTHERS[answer.source]
    if answer.admitted is None:
        return _before_its_place(visit)
    if answer.last_token is not None:
        return _DECODE
    return _ROUTE if answer.scheduled is None else _PREFILL


def rising(ends: Ends, began: float, last: float) -> Ends:
    """Let no part end before the one before it, or after the last."""
    at, found = began, []
    for part, end in ends:
        if end > at:
            at = min(end, last)
        found.append((part, at))
    return found


def _was_early(visit: "Visit | Facts") -> bool:
    """Whether its model was waited for before it was understood."""
    asleep, understood = visit.asleep, visit.understood
    return asleep is not None and (understood is None or asleep <= understood)


def _before_its_place(visit: "Visit | Facts") -> str:
    if visit.screened is not None:
        loading = visit.asleep is not None and visit.awake is None
        return _LOAD if loading and not _was_early(visit) else _QUEUE
    if visit.making is not None:
        return _GUARD
    if visit.looked:
        return _LOOKUP
    return _QUEUE if visit.of else _GUARD  # of a batch: its turn had not come
