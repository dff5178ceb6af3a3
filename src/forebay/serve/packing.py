"""A finished answer as bytes: what a store keeps and a cache gives again.

Only what a reader sees is kept: the answer's name, its deltas as they were cut, its counts.
The same deltas make the same chunks, so that a replay is the first delivery, byte for byte.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import msgspec

from forebay.core.request import (
    Begun,
    Delta,
    Event,
    Finished,
    FinishReason,
    Route,
    Source,
    TokenLogprob,
    Usage,
)

FORMAT: Final = 1
"""Part of every name in a store: an answer in another format is never found."""

_EVENT_BYTES: Final = 200
"""An event in a list, with its numbers; its text comes on top."""
_ODDS_BYTES: Final = 250
"""One token's log-probability with its text and bytes."""

_INLINE_EVENTS_MAX: Final = 2_048
_INLINE_BYTES_MAX: Final = 24_576
"""What is packed or unpacked in about 2 ms; more goes to a thread, for the loop has others."""

_Odds = tuple[str, bytes, float]
_Piece = tuple[str, int, int, str | None, list[_Odds]]


class Unreadable(Exception):
    """Bytes that are no answer of this format."""


class _Answer(msgspec.Struct, array_like=True):
    completion_id: str
    created: int
    route: str
    model: str
    choices: int
    shape: str
    imprint: str
    pieces: list[_Piece]
    usage: tuple[int, int]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Answer)


def weight(event: Event) -> int:
    """Return about how many bytes of memory an event takes."""
    if isinstance(event, Delta):
        return _EVENT_BYTES + sys.getsizeof(event.text) + _ODDS_BYTES * len(event.logprobs)
    return _EVENT_BYTES


def pack(begun: Begun, events: Sequence[Event], usage: Usage) -> bytes:
    """Write an answer whose deltas are among these events."""
    pieces: list[_Piece] = [
        (
            event.text,
            event.tokens,
            event.choice,
            event.finish_reason.value if event.finish_reason is not None else None,
            [(odds.text, odds.utf8, odds.logprob) for odds in event.logprobs],
        )
        for event in events
        if isinstance(event, Delta)
    ]
    return _encoder.encode(
        _Answer(
            completion_id=begun.completion_id,
            created=begun.created,
            route=begun.route.value,
            model=begun.model,
            choices=begun.choices,
            shape=begun.shape,
            imprint=begun.imprint,
            pieces=pieces,
            usage=(usage.prompt_tokens, usage.completion_tokens),
        )
    )


def unpack(blob: bytes) -> tuple[Begun, list[Event]]:
    """Read an answer: its name, as one that is replayed, and its events; raises Unreadable."""
    try:
        answer = _decoder.decode(blob)
        begun = Begun(
            completion_id=answer.completion_id,
            created=answer.created,
            route=Route(answer.route),
            model=answer.model,
            choices=answer.choices,
            shape=answer.shape,
            imprint=answer.imprint,
            source=Source.REPLAYED,
            resumable=True,
        )
        events: list[Event] = [_delta(piece) for piece in answer.pieces]
    except ValueError as error:  # msgspec's own errors are of this kind too
        raise Unreadable from error
    events.append(Finished(Usage(*answer.usage)))
    return begun, events


async def packed(begun: Begun, events: Sequence[Event], usage: Usage) -> bytes:
    """Pack without keeping the loop; nobody may change the events meanwhile."""
    if len(events) <= _INLINE_EVENTS_MAX:
        return pack(begun, events, usage)
    return await asyncio.to_thread(pack, begun, events, usage)


async def unpacked(blob: bytes) -> tuple[Begun, list[Event]]:
    """Unpack without keeping the loop; raises Unreadable."""
    return unpack(blob) if len(blob) <= _INLINE_BYTES_MAX else await asyncio.to_thread(unpack, blob)


def _delta(piece: _Piece) -> Delta:
    text, tokens, choice, reason, odds = piece
    return Delta(
        text,
        tokens=tokens,
        choice=choice,
        finish_reason=None if reason is None else FinishReason(reason),
        logprobs=tuple(TokenLogprob(*entry) for entry in odds),
        more=True,  # what follows is there already: a writer need not send each piece alone
    )
