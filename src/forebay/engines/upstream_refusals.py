"""What an upstream says instead of an answer, as the error that a client may see."""

import re
from typing import Any, Final

import msgspec

from forebay.core.errors import Invalid, Overloaded, ServingError
from forebay.engines.upstream_fault import Fault, Reason

MESSAGE_CHARS_MAX: Final = 500
_RETRY_S_MAX: Final = 3_600.0
_PARAM: Final = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
_INVALID: Final = frozenset({400, 409, 411, 413, 414, 415, 422})
_KEY: Final = frozenset({401, 402, 403, 407})
_TOO_LARGE: Final = 413
_NOT_FOUND: Final = frozenset({404, 405, 410})
_BUSY: Final = frozenset({503, 529})
_LIMITED: Final = 429


def shown(data: bytes) -> str:
    """Return an upstream's words within bounds, and without what steers a terminal."""
    text = data[: 4 * MESSAGE_CHARS_MAX].decode("utf-8", "replace")[:MESSAGE_CHARS_MAX]
    return "".join(char if char.isprintable() else " " for char in text).strip()


def refusal(status: int, body: bytes, retry_after: str) -> ServingError | Fault:
    """Return what a status other than 200 means: to the client, or to us."""
    message, param = _said(body)
    if status in _INVALID:
        words = message or "The upstream refused the request without a reason."
        return Invalid(words, param=param, status=status if status == _TOO_LARGE else None)
    if status == _LIMITED:
        words = "The upstream takes no more requests for now."
        return Overloaded(words, retry_after_s=retry_after_s(retry_after))
    if status in _BUSY:
        return Fault(Reason.BUSY, f"status {status}", retry_after_s=retry_after_s(retry_after))
    # Its words may hold what a client wrote, and prompts are not logged.
    return Fault(_reason(status), f"status {status}")


def _reason(status: int) -> Reason:
    if status in _KEY:
        return Reason.KEY_REFUSED
    if status in _NOT_FOUND:
        return Reason.NOT_FOUND
    return Reason.REDIRECT if 300 <= status < 400 else Reason.FAILED  # noqa: PLR2004 - a class


def retry_after_s(text: str) -> float:
    """Return the seconds of a Retry-After; 1 where it has none that we read."""
    try:
        seconds = float(text)
    except ValueError:
        return 1.0
    return min(max(seconds, 0.0), _RETRY_S_MAX) if seconds == seconds else 1.0  # noqa: PLR0124 - NaN


def _said(body: bytes) -> tuple[str, str | None]:
    """Return the message and the field of an error, in any of the shapes in use."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return shown(body), None
    if not isinstance(found, dict):
        return shown(body), None
    error = found.get("error", found)
    if isinstance(error, str):
        return shown(error.encode("utf-8", "replace")), None
    if not isinstance(error, dict):
        return shown(body), None
    message, param = error.get("message", error.get("detail")), error.get("param")
    text = message.encode("utf-8", "replace") if isinstance(message, str) else body
    known = isinstance(param, str) and _PARAM.fullmatch(param)
    return shown(text), param if known else None
