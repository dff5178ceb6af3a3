"""Which traces are kept: decided once at the beginning by share, and again at the end by what came.

The share is OpenTelemetry's `TraceIdRatioBased`: of equal trace ids, every server that holds to
the same ratio keeps the same.  The end may keep more, never less.
"""

import enum
from collections.abc import Iterable
from typing import Final

from forebay.core.errors import OUTCOMES, Blame, Outcome

_IDS: Final = 1 << 64


class Kept(enum.StrEnum):
    """Why a trace was kept."""

    FAULT = "fault"
    """It went wrong, and that was ours."""
    SLOW = "slow"
    SHARE = "share"
    """Its id is in the share, or a trusted caller keeps it."""


def limit_of(ratio: float) -> int:
    """Return what the last 64 bits of an id are below, if it is in this share of all ids."""
    return round(ratio * _IDS)


def kept(
    outcomes: Iterable[Outcome], duration_s: float, *, sampled: bool, slow_s: float
) -> Kept | None:
    """Return why the trace of an exchange is kept, or None."""
    if any(OUTCOMES[outcome].blame is Blame.US for outcome in outcomes):
        return Kept.FAULT
    if duration_s >= slow_s:
        return Kept.SLOW
    return Kept.SHARE if sampled else None
