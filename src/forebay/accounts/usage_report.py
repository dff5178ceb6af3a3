"""What is asked of the usage ledger, and how its answers are written.  Loads no database."""

import csv
import enum
import io
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from forebay.accounts.prices import shown_money
from forebay.accounts.spending import Period, window_of
from forebay.core.value import value


class By(enum.StrEnum):
    """What totals are kept apart by."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    MODEL = "model"
    KEY = "key"
    USER = "user"
    TENANT = "tenant"


BY_MAX: Final = 3
"""Most columns that one report is kept apart by."""
ROWS_MAX: Final = 10_000
"""Most totals on one page."""
YEAR_MAX: Final = 2_100
_FORM: Final = "a day such as 2026-11-21, or a moment such as 2026-11-21T13:00:00Z"
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a table program takes for the beginning of a formula."""


@value
class Question:
    """Whose usage, of when, and how it is kept apart."""

    since: int
    until: int
    """Unix seconds; `until` is not in it."""
    by: tuple[By, ...] = (By.DAY,)
    tenant: str | None = None
    user: str | None = None
    key: str | None = None
    """None: anybody's."""
    rows_max: int = 1_000
    offset: int = 0
    """Totals of the pages before."""


@value
class Total:
    """What was used by those who share these words."""

    of: tuple[str, ...]
    """One per `by`: `2026-11-21`, a name."""
    requests: int
    prompt_tokens: int
    completion_tokens: int
    nanos: int


@value
class Page:
    """Some of the totals, in order."""

    totals: tuple[Total, ...]
    more: bool


def parse_by(text: str) -> tuple[By, ...]:
    """Read `day` or `day,model`; raises ValueError with what is taken."""
    words = [word.strip() for word in text.split(",")]
    known = {each.value: each for each in By}
    if not set(words) <= set(known) or len(set(words)) < len(words) or len(words) > BY_MAX:
        raise ValueError(
            f"expected one to {BY_MAX} of {', '.join(By)}, each once, separated by commas"
        )
    return tuple(known[word] for word in words)


def parse_moment(text: str) -> int:
    """Read a day or a moment as Unix seconds, UTC; raises ValueError with what is taken."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expected {_FORM}") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if not datetime.fromtimestamp(0, UTC).year <= moment.year <= YEAR_MAX:
        raise ValueError(f"expected {_FORM}, of a year from 1970 to {YEAR_MAX}")
    return max(0, int(moment.timestamp()))


def month_start(at: int) -> int:
    """Return where the month of a moment begins: what is shown where nobody says since when."""
    return window_of(Period.MONTH, at).start


def shown_moment(at: int) -> str:
    """Write a moment as people and `parse_moment` read it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def shown_bucket(by: By, found: str | int) -> str:
    """Write what a total is of: a day, a name."""
    match by:
        case By.HOUR:
            return f"{datetime.fromtimestamp(int(found), UTC):%Y-%m-%dT%H:00Z}"
        case By.DAY:
            return f"{datetime.fromtimestamp(int(found), UTC):%Y-%m-%d}"
        case By.MONTH | By.MODEL | By.KEY | By.USER | By.TENANT:
            return str(found)


def as_csv(by: Iterable[By], totals: Iterable[Total], currency: str) -> str:
    """Write totals as RFC 4180 has it, under a line of names.

    A name that a table program would take for a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    counts = ("requests", "prompt_tokens", "completion_tokens", "cost", "currency")
    writer.writerow([*(each.value for each in by), *counts])
    for total in totals:
        words = [f"'{word}" if word.startswith(_FORMULA) else word for word in total.of]
        cost = shown_money(total.nanos)
        tokens = (total.prompt_tokens, total.completion_tokens)
        writer.writerow([*words, total.requests, *tokens, cost, currency])
    return out.getvalue()
