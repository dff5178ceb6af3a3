"""`Server-Timing`: where an answer's time went, as far as it is known when its head is sent.

Names and meanings are those of receipts (`telemetry/receipt.py`); `total` is all of it so far.  Of
a stream the head goes out with the first token, so what comes after is in the receipt only.
"""

from typing import Final

from forebay.core.clock import MONOTONIC
from forebay.gateway.exchange import Exchange, Header
from forebay.telemetry.receipt import Part, passed

_NAME: Final = b"server-timing"


def timing(exchange: Exchange, *, stream: bool) -> tuple[Header, ...]:
    """Return the header, or nothing where the configuration does not want it."""
    if not exchange.config.server_timing:
        return ()
    visit, now = exchange.visit, MONOTONIC()
    stations, _ = passed(visit, visit.timeline, stream=stream, ended=now, ok=True)
    at = began = visit.received - visit.wait_s
    spent: dict[Part, float] = {}
    for part, end in stations[:-1]:  # the last goes on
        spent[part] = spent.get(part, 0.0) + end - at
        at = end
    told = [f"{part};dur={s * 1_000:.3f}" for part, s in spent.items()]
    told.append(f"total;dur={(now - began) * 1_000:.3f}")
    return ((_NAME, ", ".join(told).encode()),)
