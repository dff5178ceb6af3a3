"""How a caller stands with its limits, in the head of an answer: in OpenAI's words and IETF's.

Of several accounts the one that leaves the least is told.  What is said of requests counts this
one; what is said of tokens is how it stood before this one took any.  `RateLimit` follows
draft-ietf-httpapi-ratelimit-headers-10.
"""

import math
from typing import Final

from forebay.core.caller import Rate
from forebay.policy.gcra import Verdict
from forebay.serve.limits import Standing, Unit

Header = tuple[bytes, bytes]

_REQUESTS: Final = (
    b"x-ratelimit-limit-requests",
    b"x-ratelimit-remaining-requests",
    b"x-ratelimit-reset-requests",
)
_TOKENS: Final = (
    b"x-ratelimit-limit-tokens",
    b"x-ratelimit-remaining-tokens",
    b"x-ratelimit-reset-tokens",
)
_UNITS: Final = ((Unit.REQUESTS, _REQUESTS), (Unit.TOKENS, _TOKENS))


def headers(*standings: Standing) -> tuple[Header, ...]:
    """Return what an answer says of its caller's limits; of each unit the last standing counts."""
    found: list[Header] = []
    policy = state = ""
    for unit, (limit, remaining, reset) in _UNITS:
        told = _told(unit, standings)
        if told is None:
            continue
        rate, verdict = told
        found += (
            (limit, b"%d" % rate.amount),
            (remaining, b"%d" % verdict.remaining),
            (reset, duration(verdict.reset_s).encode()),
        )
        comma = ", " if policy else ""
        policy += f'{comma}"{unit}";q={rate.amount};w={math.ceil(rate.period_s)}'
        state += f'{comma}"{unit}";r={verdict.remaining};t={math.ceil(verdict.reset_s)}'
    if policy:
        found += ((b"ratelimit-policy", policy.encode()), (b"ratelimit", state.encode()))
    return tuple(found)


def duration(seconds: float) -> str:
    """Write a time as Go does, in milliseconds rounded up: `6m0s`, `1.5s`, `12ms`."""
    milliseconds = math.ceil(seconds * 1_000)
    if milliseconds < 1_000:  # noqa: PLR2004 - a second
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1_000:g}s"
    if not minutes:
        return text
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"


def _told(unit: Unit, standings: tuple[Standing, ...]) -> tuple[Rate, Verdict] | None:
    for standing in reversed(standings):
        told = standing.tightest(unit)
        if told is not None:
            return told
    return None
