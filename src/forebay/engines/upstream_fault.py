"""What may go wrong between us and an upstream, by name."""

import enum


class Reason(enum.StrEnum):
    """A closed set: it stands in logs."""

    UNREACHABLE = "unreachable"
    """No connection could be made."""
    STALE = "stale"
    """An idle connection had been closed before it was asked again."""
    CLOSED = "closed"
    """It closed the connection before its answer was whole."""
    SILENT = "silent"
    NOT_HTTP = "not_http"
    UNASKED = "unasked"
    """Bytes that nobody had asked for, such as after the end of an answer."""
    TOO_LONG = "too_long"
    REDIRECT = "redirect"
    KEY_REFUSED = "key_refused"
    NOT_FOUND = "not_found"
    FAILED = "failed"
    """A status of 500 and more, or an error in a stream."""
    BUSY = "busy"
    """A status of 503 and its like: not a failure, but another may be free."""
    WRONG_TYPE = "wrong_type"
    NOT_JSON = "not_json"
    NONSENSE = "nonsense"
    """JSON that answers something else than what was asked."""
    CUT = "cut"
    """The answer ended before each choice had."""


class Fault(Exception):
    """An upstream did not answer as it should.  The detail is for the log."""

    def __init__(
        self, reason: Reason, detail: str = "", *, retry_after_s: float | None = None
    ) -> None:
        """Name what went wrong; `retry_after_s` is what a busy one asks for."""
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s
