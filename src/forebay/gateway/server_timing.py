"""`Server-Timing`: where an answer's time went, as far as it is known when its head is sent.

Names and meanings are those of receipts (`telemetry/stations.py`); `total` is all of it so far.  Of
a stream the head goes out with the first token, so what comes after is in the receipt only.
"""

from functools import lru_cache
from typing import Final

from forebay.core.clock import MONOTONIC
from forebay.gateway.exchange import Exchange, Header
from forebay.telemetry.stations import after, before

_NAME: Final = b"server-timing"


def timing(exchange: Exchange, *, stream: bool) -> tuple[Header, ...]:
    """Return the header, or nothing where the configuration does not want it."""
    if not exchange.config.server_timing:
        return ()
    visit, now = exchange.visit, MONOTONIC()
    ends, timeline = before(visit), visit.timeline
    if timeline is not None:
        ends += after(visit, timeline, timeline.first_token_at(stream=stream))
    at = began = visit.received - visit.wait_s
    spent: dict[str, float] = {}  # the reading may come twice, around the loading of a model
    for part, end in ends:
        spent[part] = spent.get(part, 0.0) + max(0.0, end - at) * 1_000
        at = max(at, end)
    spent["total"] = (now - began) * 1_000
    return ((_NAME, (_form(tuple(spent)) % tuple(spent.values())).encode()),)


@lru_cache(maxsize=64)
def _form(names: tuple[str, ...]) -> str:
    """Return what durations are put into: formatting them one by one takes twice as long."""
    return ", ".join(f"{name};dur=%.3f" for name in names)
