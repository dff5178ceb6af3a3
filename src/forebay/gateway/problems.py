"""Endings told over HTTP: status, headers and body of every error.

Under `/v1` an error has OpenAI's shape; elsewhere it is an RFC 9457 problem.  After the
status line has been sent an error is one more event of the stream.
"""

import math
from typing import Final

import msgspec
from msgspec import Struct

from forebay.core.errors import Invalid, Outcome, Retry, ServingError
from forebay.gateway.exchange import Header

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"
DONE: Final = b"data: [DONE]\n\n"

_DETAIL_CHARACTERS_MAX: Final = 1_000
_RETRY_S: Final = 1.0
"""Advice where the ending says "later" and nobody has forecast when, in seconds."""


class Detail(Struct, kw_only=True):
    """What went wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(Struct, kw_only=True):
    """An error as OpenAI's clients read it."""

    error: Detail


class ProblemBody(Struct, kw_only=True, omit_defaults=True):
    """An error as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    param: str | None = None
    """The field at fault."""
    retry_after_ms: int | None = None
    """When a retry helps; also in the headers, where the error has its own."""


class WrongMethod(Invalid):
    """The path is known, but not for this method."""

    def __init__(self, allowed: str) -> None:
        """Name the methods that the path takes."""
        super().__init__(f"This path takes {allowed} only.", status=405)
        self.allowed = allowed


def headers(error: ServingError) -> list[Header]:
    """Return the advice to the client: whether, and when, to try again."""
    wait_s = _wait_s(error)
    if wait_s is None:
        more = [(b"allow", error.allowed.encode())] if isinstance(error, WrongMethod) else []
        if error.outcome is Outcome.UNAUTHENTICATED:
            more.append((b"www-authenticate", b"Bearer"))
        return [(b"x-should-retry", b"false"), *more]
    advice = [
        (b"retry-after", b"%d" % math.ceil(wait_s)),
        (b"retry-after-ms", b"%d" % math.ceil(wait_s * 1000)),
        (b"x-should-retry", b"true"),
    ]
    if error.ticket is not None:
        advice.append((b"x-forebay-ticket", error.ticket.encode()))
    if error.outcome is Outcome.DRAINING:
        advice.append((b"connection", b"close"))
    return advice


def _wait_s(error: ServingError) -> float | None:
    """Return the seconds until a retry helps; None where none does."""
    if error.retry_after_s is not None:
        return max(error.retry_after_s, 0.001)
    return _RETRY_S if error.ending.retry in (Retry.LATER, Retry.ELSEWHERE) else None


def openai_body(error: ServingError) -> bytes:
    """Encode an error in OpenAI's shape."""
    ending = error.ending
    detail = Detail(
        message=error.message[:_DETAIL_CHARACTERS_MAX],
        type=ending.type,
        param=error.param,
        code=ending.code,
    )
    return msgspec.json.encode(ErrorBody(error=detail))


def problem(error: ServingError, request_id: str) -> ProblemBody:
    """Return an error as an RFC 9457 problem."""
    ending, wait_s = error.ending, _wait_s(error)
    return ProblemBody(
        type="about:blank",
        title=ending.meaning,
        status=error.status,
        detail=error.message[:_DETAIL_CHARACTERS_MAX],
        code=ending.code,
        request_id=request_id,
        param=error.param,
        retry_after_ms=None if wait_s is None else math.ceil(wait_s * 1000),
    )


def problem_body(error: ServingError, request_id: str) -> bytes:
    """Encode an error as an RFC 9457 problem."""
    return msgspec.json.encode(problem(error, request_id))


def frame(error: ServingError) -> bytes:
    """Encode an error as the last event of a stream that has begun."""
    return b"data: " + openai_body(error) + b"\n\n" + DONE
