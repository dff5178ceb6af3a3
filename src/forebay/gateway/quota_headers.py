"""How a caller stands with its limits, in the head of an answer: in OpenAI's words and IETF's.

Of several accounts the one that leaves the least is told.  What is said of requests counts this
one; what is said of tokens is how it stood before this one took any.  `RateLimit` follows
draft-ietf-httpapi-ratelimit-headers-10.
"""

import math
from typing import Final, NamedTuple

from forebay.policy.gcra import Verdict
from forebay.serve.limits import Standing, Unit

Header = tuple[bytes, bytes]


class _Names(NamedTuple):
    """What a unit is called."""

    unit: Unit
    name: bytes
    limit: bytes
    remaining: bytes
    reset: bytes


def _names(unit: Unit) -> _Names:
    name = unit.value.encode()
    limit, remaining, reset = (
        b"x-ratelimit-%s-%s" % (what, name) for what in (b"limit", b"remaining", b"reset")
    )
    return _Names(unit, name, limit, remaining, reset)


_UNITS: Final = (_names(Unit.REQUESTS), _names(Unit.TOKENS))
_FS_PER_MS: Final = 10**12


def headers(*standings: Standing) -> tuple[Header, ...]:
    """Return what an answer says of its caller's limits; of each unit the last standing counts."""
    found: list[Header] = []
    policies: list[bytes] = []
    states: list[bytes] = []
    for unit, name, limit, remaining, reset in _UNITS:
        told = _told(unit, standings)
        if told is None:
            continue
        verdict, left = told
        rate = verdict.ask.rate
        reset_ms = -(-verdict.owed_fs // _FS_PER_MS)
        found += (
            (limit, b"%d" % rate.amount),
            (remaining, b"%d" % left),
            (reset, duration(reset_ms).encode()),
        )
        policies.append(b'"%s";q=%d;w=%d' % (name, rate.amount, math.ceil(rate.period_s)))
        states.append(b'"%s";r=%d;t=%d' % (name, left, -(-reset_ms // 1_000)))
    if policies:
        found.append((b"ratelimit-policy", b", ".join(policies)))
        found.append((b"ratelimit", b", ".join(states)))
    return tuple(found)


def duration(milliseconds: int) -> str:
    """Write a time as Go does: `6m0s`, `1.5s`, `12ms`."""
    if milliseconds < 1_000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1_000:g}s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


def _told(unit: Unit, standings: tuple[Standing, ...]) -> tuple[Verdict, int] | None:
    for standing in reversed(standings):
        told = standing.tightest(unit)
        if told is not None:
            return told
    return None
