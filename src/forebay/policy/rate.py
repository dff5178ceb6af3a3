"""Rates as people write them: `5/minute`, `100 per hour`, `250000/2 minutes`."""

import re
from typing import Final

from forebay.core.caller import Rate

_UNITS_S: Final = {"second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "m": 60} | {
    "hour": 3_600,
    "h": 3_600,
    "day": 86_400,
    "d": 86_400,
}
_RATE: Final = re.compile(
    r"\s*([0-9][0-9_]{0,14})\s*(?:/|per)\s*([0-9]{0,4})\s*([a-z]{1,6}?)s?\s*", re.IGNORECASE
)
AMOUNT_MAX: Final = 1_000_000_000_000
PERIOD_S_MAX: Final = 31 * 86_400.0
FORM: Final = "a number per second, minute, hour or day, such as 5/minute"


def parse_rate(text: str) -> Rate | None:
    """Return a rate, or None for an empty text; raises ValueError that says what is taken."""
    if not text.strip():
        return None
    parts = _RATE.fullmatch(text)
    unit_s = _UNITS_S.get(parts[3].lower()) if parts else None
    if parts is None or unit_s is None:
        raise ValueError(f"expected {FORM}")
    amount, period_s = int(parts[1].replace("_", "")), int(parts[2] or 1) * float(unit_s)
    if not 0 < amount <= AMOUNT_MAX:
        raise ValueError(f"expected {FORM}, with a number from 1 to {AMOUNT_MAX}")
    if not 0 < period_s <= PERIOD_S_MAX:
        raise ValueError(f"expected {FORM}, over at most 31 days")
    return Rate(amount=amount, period_s=period_s)


def shown_rate(rate: Rate) -> str:
    """Write a rate as `parse_rate` reads it."""
    for unit, unit_s in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        times, rest = divmod(rate.period_s, unit_s)
        if times and not rest:
            return f"{rate.amount}/{unit}" if times == 1 else f"{rate.amount}/{times:g} {unit}s"
    return f"{rate.amount}/{rate.period_s:g} seconds"
