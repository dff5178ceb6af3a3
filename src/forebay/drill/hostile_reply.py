"""Reading answers from bytes, and what must never be in one."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from forebay.drill.hostile_case import Case, Kind

_END: Final = b"\r\n\r\n"
_OPENAI: Final = frozenset({"message", "type", "param", "code"})
_PROBLEM: Final = frozenset({"type", "title", "status", "detail", "code", "request_id"})
_DELIBERATE: Final = frozenset(
    {"overloaded", "queue_timeout", "draining", "deadline_exceeded", "no_budget_store"}
)
_LEAKS: Final = re.compile(
    rb"Traceback|site-packages|\.py\b|0x[0-9a-f]{6}|object at|sqlite|sqlalchemy|psycopg"
    rb"|/home/|/usr/|/tmp/|<class |Exception\b",
    re.IGNORECASE,
)
_PROXY: Final = b"<center>nginx"
_PROXYS_OWN: Final = range(400, 506)
_NO_HTTP: Final = 400
_OURS: Final = 500
_THEIRS: Final = (501, 505)
"""Of this class, and yet the client's doing: a coding, or a version, that nobody speaks here."""
_MESSAGE_MAX: Final = 1_000


class Unreadable(Exception):
    """Bytes that are no answer of HTTP/1.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    """Names in lower case; a header that came twice is joined by a comma."""
    body: bytes

    @property
    def kind(self) -> str:
        """The media type."""
        return self.headers.get("content-type", "").partition(";")[0]

    @property
    def proxys(self) -> bool:
        """Whether it is nginx's own."""
        return _PROXY in self.body

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return "close" in self.headers.get("connection", "")


def replies(seen: bytes, *, headless: bool) -> tuple[list[Reply], bytes]:
    """Return the whole answers at the start of `seen` and what is left over.

    `headless`: a HEAD was asked, so that an answer may have a length and no body.  Raises
    Unreadable.
    """
    found: list[Reply] = []
    while _END in seen:
        head, _, rest = seen.partition(_END)
        status, headers = _head(head)
        if status == HTTPStatus.CONTINUE:
            seen = rest
            continue
        taken = _body(headers, rest, headless=headless)
        if taken is None:
            break
        body, seen = taken
        found.append(Reply(status=status, headers=headers, body=body))
    return found, seen


def _head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.[01] ([1-5]\d\d) [ -~]*", first)
    if match is None:
        raise Unreadable(f"status line {first[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if (
            not colon
            or not re.fullmatch(r"[!-9;-~]+", name)
            or re.search(r"[\x00-\x08\n\r]", value)
        ):
            raise Unreadable(f"header {line[:80]!r}")
        known = headers.get(name.lower())
        headers[name.lower()] = value.strip() if known is None else f"{known}, {value.strip()}"
    if "content-length" in headers and "transfer-encoding" in headers:
        raise Unreadable("an answer with a length and a coding")
    return int(match[1]), headers


def _body(headers: dict[str, str], rest: bytes, *, headless: bool) -> tuple[bytes, bytes] | None:
    """Return the body and what follows it; None while it is not whole."""
    if headless and (not rest or rest.startswith(b"HTTP/1.")):
        return b"", rest
    if "transfer-encoding" not in headers:
        length = int(headers.get("content-length", "0"))
        return None if len(rest) < length else (rest[:length], rest[length:])
    body = b""
    while True:
        size, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        count = int(size, 16)
        if len(rest) < count + 2:
            return None
        body, rest = body + rest[:count], rest[count + 2 :]
        if not count:
            return body, rest


def faults(case: Case, found: list[Reply], *, closed: bool) -> Iterator[str]:
    """Yield what is wrong with the answers to a case.

    `closed`: the server asks for credentials, so that an impostor must not be served.
    """
    if case.replies_max is not None and len(found) > case.replies_max:
        yield f"{len(found)} answers where at most {case.replies_max} may be"
    for reply in found:
        if reply.proxys:
            if reply.status not in _PROXYS_OWN or reply.status == HTTPStatus.BAD_GATEWAY:
                yield f"nginx answers {reply.status}"
            continue
        yield from _wrong(case, reply)
        if closed and case.impostor and reply.status < HTTPStatus.BAD_REQUEST:
            yield f"a wrong credential was let in with {reply.status}"


def _wrong(case: Case, reply: Reply) -> Iterator[str]:
    if reply.status < HTTPStatus.BAD_REQUEST:
        if reply.status >= HTTPStatus.MULTIPLE_CHOICES:
            yield f"status {reply.status}, which we never send"
        return
    if any(name.startswith("x-injected") for name in reply.headers):
        yield "a header of the client's making"
    if leak := _LEAKS.search(reply.body):
        yield f"an error tells {leak[0].decode('latin-1')!r}"
    if not reply.body:
        return  # a HEAD was asked
    shape = _shape(reply)
    if shape is None:
        yield f"an error {reply.status} of no shape of ours"
        return
    kind, code = shape
    if reply.status >= _OURS and reply.status not in _THEIRS and code not in _DELIBERATE:
        yield f"an undeliberate {reply.status} ({code})"
    # What is no HTTP at all is refused by the parser, which knows no paths.
    if case.path is None or (case.kind is Kind.CREDENTIAL and reply.status == _NO_HTTP):
        return
    if kind != ("openai" if case.path.startswith("/v1/") else "problem"):
        yield f"an error of the other shape ({kind})"


def _shape(reply: Reply) -> tuple[str, str] | None:
    """Return the name of an error's shape and its code; None where it has none of ours."""
    try:
        body: Any = json.loads(reply.body)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict) and set(error) == _OPENAI and reply.kind == "application/json":
        fits = isinstance(error["message"], str) and 0 < len(error["message"]) <= _MESSAGE_MAX
        return ("openai", str(error["code"])) if fits else None
    if body.keys() >= _PROBLEM and reply.kind == "application/problem+json":
        fits = body["status"] == reply.status and 0 < len(body["detail"]) <= _MESSAGE_MAX
        return ("problem", str(body["code"])) if fits else None
    return None
