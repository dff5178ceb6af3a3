"""How requests end: the one table of outcomes, and the exceptions that name them.

Status, error code, retry advice, metric label, SLO class and `docs/errors.md` are all read
from `OUTCOMES`.  429 means *you* are over *your* limit, 503 means *we* are over ours.
"""

import enum
from dataclasses import dataclass
from typing import Final


class Outcome(enum.StrEnum):
    """How a request ended.  Every request has exactly one."""

    OK = "ok"
    INVALID = "invalid"
    REFUSED = "refused"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    UNKNOWN_MODEL = "unknown_model"
    CONFLICT = "conflict"
    RATE_LIMITED = "rate_limited"
    OVER_BUDGET = "over_budget"
    OVERLOADED = "overloaded"
    EXPIRED = "expired"
    DRAINING = "draining"
    TIMED_OUT = "timed_out"
    ENGINE_ERROR = "engine_error"
    INTERNAL_ERROR = "internal_error"
    CANCELLED = "cancelled"


class Retry(enum.StrEnum):
    """What a client should do next."""

    NOT_NEEDED = "not needed"
    NO = "no"
    LATER = "after Retry-After"
    ELSEWHERE = "after Retry-After, elsewhere"


class Blame(enum.StrEnum):
    """Whose fault an ending is: it decides whether the objective counts it."""

    NOBODY = "nobody"
    CALLER = "caller"
    US = "us"


class Objective(enum.StrEnum):
    """How the availability objective counts an ending."""

    GOOD = "good"
    BAD = "bad"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """One row of the table: what an outcome means to everybody who reads it."""

    status: int
    code: str
    type: str
    retry: Retry
    blame: Blame
    objective: Objective
    meaning: str


_INVALID, _SERVER = "invalid_request_error", "server_error"


def _caller(status: int, code: str, meaning: str, *, type_: str = _INVALID) -> Ending:
    return Ending(
        status=status,
        code=code,
        type=type_,
        retry=Retry.NO,
        blame=Blame.CALLER,
        objective=Objective.IGNORED,
        meaning=meaning,
    )


def _ours(status: int, code: str, meaning: str, *, retry: Retry = Retry.NO) -> Ending:
    return Ending(
        status=status,
        code=code,
        type=_SERVER,
        retry=retry,
        blame=Blame.US,
        objective=Objective.BAD,
        meaning=meaning,
    )


OUTCOMES: Final[dict[Outcome, Ending]] = {
    Outcome.OK: Ending(
        status=200,
        code="",
        type="",
        retry=Retry.NOT_NEEDED,
        blame=Blame.NOBODY,
        objective=Objective.GOOD,
        meaning="The completion was made and delivered.",
    ),
    Outcome.INVALID: _caller(
        400, "invalid_request", "The request is malformed or asks for what cannot be honoured."
    ),
    Outcome.REFUSED: _caller(400, "content_refused", "A content rule refused the request."),
    Outcome.UNAUTHENTICATED: _caller(
        401, "invalid_api_key", "No valid credential was presented.", type_="authentication_error"
    ),
    Outcome.FORBIDDEN: _caller(
        403, "forbidden", "The credential does not allow this.", type_="permission_error"
    ),
    Outcome.UNKNOWN_MODEL: _caller(404, "model_not_found", "No such model is served here."),
    Outcome.CONFLICT: _caller(
        422, "idempotency_conflict", "The idempotency key was used with another body."
    ),
    Outcome.RATE_LIMITED: Ending(
        status=429,
        code="rate_limit_exceeded",
        type="rate_limit_error",
        retry=Retry.LATER,
        blame=Blame.CALLER,
        objective=Objective.IGNORED,
        meaning="The caller is over its own rate.",
    ),
    Outcome.OVER_BUDGET: _caller(
        429, "insufficient_quota", "The caller's budget is spent.", type_="insufficient_quota"
    ),
    Outcome.OVERLOADED: _ours(
        503, "overloaded", "The queue is full; nothing was started.", retry=Retry.LATER
    ),
    Outcome.EXPIRED: _ours(
        503, "queue_timeout", "The request waited too long for a place.", retry=Retry.LATER
    ),
    Outcome.DRAINING: Ending(
        status=503,
        code="draining",
        type=_SERVER,
        retry=Retry.ELSEWHERE,
        blame=Blame.US,
        objective=Objective.IGNORED,
        meaning="The server is stopping and takes nothing new.",
    ),
    Outcome.TIMED_OUT: _ours(504, "deadline_exceeded", "The deadline passed while it ran."),
    Outcome.ENGINE_ERROR: _ours(500, "engine_error", "The engine failed or was lost."),
    Outcome.INTERNAL_ERROR: _ours(500, "internal_error", "A defect of this server."),
    Outcome.CANCELLED: _caller(499, "client_closed_request", "The client went away first."),
}


class ServingError(Exception):
    """A request's ending, raised.  It knows its outcome; its message is a fixed, safe text."""

    outcome: Outcome = Outcome.INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        ticket: str | None = None,
    ) -> None:
        """Take what the reader needs: message, the field at fault, seconds until a retry helps.

        `ticket` is what a client may send back with that retry, to be known as the one who waited.
        """
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        self.ticket = ticket
        self._status = status

    @property
    def ending(self) -> Ending:
        """The row of the outcome table."""
        return OUTCOMES[self.outcome]

    @property
    def status(self) -> int:
        """The HTTP status: the table's, or a sharper one of the same class (405, 413, 415)."""
        return self._status or self.ending.status


class Invalid(ServingError):
    """The request is wrong; `param` names the field."""

    outcome = Outcome.INVALID


class Gone(Invalid):
    """What the request refers to was kept for a time, and is no more (410)."""


class Conflict(ServingError):
    """The key stands for another body; or, with status 409, runs and must not be joined."""

    outcome = Outcome.CONFLICT


class Unauthenticated(ServingError):
    """No valid credential was presented."""

    outcome = Outcome.UNAUTHENTICATED


class Forbidden(ServingError):
    """This is not for whoever asks."""

    outcome = Outcome.FORBIDDEN


class UnknownModel(ServingError):
    """No such model is served."""

    outcome = Outcome.UNKNOWN_MODEL


class Refused(ServingError):
    """A content rule refused what was asked, or what was about to be answered."""

    outcome = Outcome.REFUSED


class RateLimited(ServingError):
    """The caller is over a limit of its own; `retry_after_s` says when it will not be."""

    outcome = Outcome.RATE_LIMITED


class OverBudget(ServingError):
    """A budget of the caller's does not hold what the request may cost."""

    outcome = Outcome.OVER_BUDGET


class Overloaded(ServingError):
    """The queue is full."""

    outcome = Outcome.OVERLOADED


class QueueTimeout(ServingError):
    """The request waited too long for a place."""

    outcome = Outcome.EXPIRED


class Draining(ServingError):
    """The server is stopping."""

    outcome = Outcome.DRAINING


class DeadlineExceeded(ServingError):
    """The deadline passed while the request ran."""

    outcome = Outcome.TIMED_OUT


class EngineError(ServingError):
    """The engine failed, or was lost and the request could not be run again."""

    outcome = Outcome.ENGINE_ERROR
