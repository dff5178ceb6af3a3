"""Where a request stands in a distributed trace: W3C Trace Context, read strictly.

What cannot be read is as good as absent: the trace begins here, and the client is told nothing.
A trace id is taken from anybody.  Whether the trace is kept, and the state that other systems
steer themselves by, are taken from whoever is trusted: a stranger must not be able to make this
server, or those behind it, write down more than they would.
"""

import random
import re
from collections.abc import Callable, Mapping
from typing import Final

from forebay.core.request import Route
from forebay.core.visit import TraceContext
from forebay.telemetry.sampling import limit_of

_VERSION_00: Final = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_LATER: Final = re.compile(
    rb"(?!00|ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_SAMPLED: Final = 0x01

STATE_CHARACTERS_MAX: Final = 512
"""What the standard asks everybody to pass on; members beyond it are left out, the last first."""
_MEMBERS_MAX: Final = 32
_LONG_MEMBER: Final = 128
_MEMBER: Final = re.compile(
    r"(?P<key>[a-z0-9][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)

_BITS: Final = 192
"""Of a trace's id and a span's together."""
_LAST: Final = (1 << 64) - 1

_UNTRACED: Final = (Route.PROBE, Route.UNMATCHED)
"""Routes whose exchanges become no spans: pages, and what is nowhere.  A tuple: its members are
compared by identity, where a set would ask for their hash, which enumerations compute slowly."""


class Contexts:
    """Gives each exchange its place in a trace."""

    def __init__(
        self,
        *,
        spans: bool = False,
        trusts: bool = False,
        ratio: float = 0.0,
        dice: Callable[[int], int] = random.getrandbits,
    ) -> None:
        """`spans`: spans are made here; `trusts`: callers may say which traces are kept."""
        self._spans = spans
        self._trusts = trusts
        self._dice = dice
        self._limit = limit_of(ratio)

    def keep(self, ratio: float) -> None:
        """Keep this share of the traces that begin from now on."""
        self._limit = limit_of(ratio)

    def of(self, headers: Mapping[bytes, bytes], route: Route) -> TraceContext | None:
        """Return an exchange's place, or None where there is no trace and none begins."""
        given = headers.get(b"traceparent")
        makes = self._spans and route not in _UNTRACED
        if given is None:
            return self._begun() if makes else None
        found = parsed(given, headers.get(b"tracestate", b""))
        if not makes:
            return None if found is None else self._passed(found)
        return self._begun() if found is None else self._continued(found)

    def _begun(self) -> TraceContext:
        # Unique, not secret, as the ids of requests are.
        ids = self._dice(_BITS) | 1
        digits = f"{ids:048x}"
        return TraceContext(
            trace_id=digits[16:], sampled=ids & _LAST < self._limit, span_id=digits[:16]
        )

    def _continued(self, found: TraceContext) -> TraceContext:
        span = self._dice(64) or 1
        # A stranger chose the trace id, perhaps such that it is in the share: ours is judged.
        return TraceContext(
            trace_id=found.trace_id,
            parent_id=found.parent_id,
            sampled=found.sampled if self._trusts else span < self._limit,
            state=found.state if self._trusts else "",
            span_id=f"{span:016x}",
        )

    def _passed(self, found: TraceContext) -> TraceContext:
        if self._trusts:
            return found
        return TraceContext(trace_id=found.trace_id, parent_id=found.parent_id)


def parsed(traceparent: bytes, tracestate: bytes = b"") -> TraceContext | None:
    """Return the place that the headers name, or None if `traceparent` is not valid."""
    match = _VERSION_00.fullmatch(traceparent) or _LATER.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, parent_id, flags = match.groups()
    if trace_id == _NO_TRACE or parent_id == _NO_SPAN:
        return None
    return TraceContext(
        trace_id=trace_id.decode(),
        parent_id=parent_id.decode(),
        sampled=bool(int(flags, 16) & _SAMPLED),
        state=state_of(tracestate) if tracestate else "",
    )


def state_of(tracestate: bytes) -> str:
    """Return a valid `tracestate`, at most as long as must be passed on; else an empty text."""
    members: dict[str, str] = {}
    for part in tracestate.decode("latin-1").split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _MEMBER.fullmatch(member)
        if match is None or match["key"] in members:
            return ""
        members[match["key"]] = member
    if len(members) > _MEMBERS_MAX:
        return ""
    return _shortened(list(members.values()))


def _shortened(members: list[str]) -> str:
    """Leave members out until the rest is short enough: long ones first, then from the end."""
    text = ",".join(members)
    if len(text) > STATE_CHARACTERS_MAX:
        members = [member for member in members if len(member) <= _LONG_MEMBER]
        while len(",".join(members)) > STATE_CHARACTERS_MAX:
            members.pop()
        text = ",".join(members)
    return text
