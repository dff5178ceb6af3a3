"""What a client wishes beside the body: its headers, checked by name.

Absent headers cost one set operation.  A header that cannot be honoured as it stands is
refused with its name and the fix, and never guessed at.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from forebay.core.errors import Invalid
from forebay.core.request import NO_REUSE, Priority, Reuse

KEY_CHARACTERS_MAX: Final = 255
"""Longest `Idempotency-Key`: what the IETF draft's users (Stripe) take."""

_TICKET_CHARACTERS_MAX: Final = 64
_EVENTS_MAX: Final = 1_000_000_000

_KEY: Final = re.compile(rb"[\x20-\x7e]{1,255}")
_NUMBER: Final = re.compile(rb"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_EVENT_ID: Final = re.compile(rb"([0-9]{1,10})(?:-([0-9a-f]{8}))?")
_TICKET: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_BLANKS: Final = b" \t"
_FALSE: Final = (b"false", b"0", b"no")
_TRUE: Final = (b"true", b"1", b"yes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the headers of a completion ask for."""

    key: str | None = None
    attach: bool = True
    resume_after: int | None = None
    resume_of: str = ""
    time_left_s: float = math.inf
    """From the request's receipt to its deadline."""
    priority: Priority = Priority.INTERACTIVE
    reuse: Reuse | None = None
    """None: nothing was said about answers made before."""
    ticket: str | None = None
    ignored: tuple[str, ...] = ()
    """What was said and has no effect."""


_PLAIN: Final = Wishes()


def wishes(headers: Mapping[bytes, bytes], *, wall_s: float, longest_s: float) -> Wishes:
    """Read the headers; raises Invalid with the header's name.

    `wall_s` is the Unix time, for a deadline that is a moment; `longest_s` the most that a
    request may ask for.
    """
    if _NAMES.isdisjoint(headers):
        return _PLAIN
    # Blanks at a value's end are no part of it (RFC 9110), and the parser leaves them there.
    headers = {name: headers[name].rstrip(_BLANKS) for name in _NAMES if name in headers}
    reuse, ignored = _reuse(headers.get(b"cache-control", b""))
    resume_after, resume_of = last_event_id(headers)
    return Wishes(
        key=_key(headers.get(b"idempotency-key")),
        attach=_flag("x-forebay-attach", headers.get(b"x-forebay-attach", b"true")),
        resume_after=resume_after,
        resume_of=resume_of,
        time_left_s=_time_left_s(headers, wall_s=wall_s, longest_s=longest_s),
        priority=_priority(headers.get(b"x-priority")),
        reuse=reuse,
        ticket=_ticket(headers.get(b"x-forebay-ticket")),
        ignored=ignored,
    )


def last_event_id(headers: Mapping[bytes, bytes]) -> tuple[int | None, str]:
    """Return how many of a stream's events the client has, and the stream's mark if it says so.

    Raises Invalid.
    """
    given = headers.get(b"last-event-id")
    if given is None:
        return None, ""
    parts = _EVENT_ID.fullmatch(given.rstrip(_BLANKS))
    if parts is None or int(parts[1]) > _EVENTS_MAX:
        raise _bad("Last-Event-ID", "expected the last `id:` line, such as 17-3f2a9c1d")
    return int(parts[1]), (parts[2] or b"").decode()


def _key(given: bytes | None) -> str | None:
    if given is None:
        return None
    if len(given) > 1 and given[:1] == given[-1:] == b'"':
        given = given[1:-1]  # a structured field's string, as the IETF draft has it
    if not _KEY.fullmatch(given):
        allowed = f"expected 1 to {KEY_CHARACTERS_MAX} printable ASCII characters"
        raise _bad("Idempotency-Key", f"{allowed}, got {len(given)} bytes; a UUID will do")
    return given.decode("ascii")


def _time_left_s(headers: Mapping[bytes, bytes], *, wall_s: float, longest_s: float) -> float:
    left_s = math.inf
    timeout = headers.get(b"x-request-timeout")
    if timeout is not None:
        name, fix = "X-Request-Timeout", f"expected seconds, more than 0 and at most {longest_s:g}"
        left_s = _number(name, timeout, fix)
        if not 0 < left_s <= longest_s:
            raise _bad(name, fix)
    moment = headers.get(b"x-request-deadline-ms")
    if moment is not None:
        name, fix = "X-Request-Deadline-Ms", "expected a moment as Unix time in milliseconds"
        until_s = _number(name, moment, fix) / 1000 - wall_s
        if until_s <= 0:
            raise _bad(name, f"the moment has passed; {fix}; X-Request-Timeout takes a duration")
        if until_s > longest_s:
            raise _bad(name, f"{fix}, at most {longest_s:g} seconds from now")
        left_s = min(left_s, until_s)
    return left_s


def _number(name: str, given: bytes, fix: str) -> float:
    if not _NUMBER.fullmatch(given):
        raise _bad(name, fix)
    return float(given)


def _priority(given: bytes | None) -> Priority:
    if given is None:
        return Priority.INTERACTIVE
    try:
        return Priority[given.decode("ascii", "replace").strip().upper()]
    except KeyError:
        allowed = " or ".join(priority.name.lower() for priority in Priority)
        raise _bad("X-Priority", f"expected {allowed}") from None


def _flag(name: str, given: bytes) -> bool:
    if given.lower() in _TRUE:
        return True
    if given.lower() in _FALSE:
        return False
    raise _bad(name, "expected true or false")


def _ticket(given: bytes | None) -> str | None:
    if given is None:
        return None
    if not _TICKET.fullmatch(given):
        allowed = f"expected the header of the refusal, at most {_TICKET_CHARACTERS_MAX} characters"
        raise _bad("x-forebay-ticket", allowed)
    return given.decode("ascii")


def _reuse(given: bytes) -> tuple[Reuse | None, tuple[str, ...]]:
    """Read `Cache-Control`; whoever names an age asks for an answer made before, of any kind."""
    reuse: Reuse | None = None
    ignored: list[str] = []
    for directive in filter(None, (part.strip().lower() for part in given.split(b","))):
        name, _, value = directive.partition(b"=")
        match name:
            case b"no-store":
                return NO_REUSE, ()
            case b"no-cache":
                reuse = replace(reuse or Reuse(write=True), read=False, write=True)
            case b"max-age":
                if not value.isdigit():
                    raise _bad("Cache-Control", "max-age takes whole seconds")
                read = reuse is None or reuse.read
                age_s_max = float(value.lstrip(b"0")[:12] or 0)
                reuse = Reuse(read=read, write=True, age_s_max=age_s_max)
            case _:
                ignored.append("cache-control")
    return reuse, tuple(ignored[:1])


def _bad(name: str, message: str) -> Invalid:
    return Invalid(f"{name}: {message}.", param=name)


_NAMES: Final = frozenset(
    {
        b"cache-control",
        b"idempotency-key",
        b"last-event-id",
        b"x-forebay-attach",
        b"x-forebay-ticket",
        b"x-priority",
        b"x-request-deadline-ms",
        b"x-request-timeout",
    }
)
