"""A server at rest: nothing in flight, nothing held, and the books balanced."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from forebay.drill.findings import Gate, exactly
from forebay.drill.server import Server

_NAP_S: Final = 0.02
GAUGES: Final = (
    *("llm_requests_running", "llm_requests_waiting"),
    *("llm_engine_sequences_running", "llm_engine_sequences_waiting"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What the ledger and the metrics say, once nothing moves any more."""

    after_s: float
    """Seconds until nothing was held, or until we stopped waiting."""
    received: int
    in_flight: int
    imbalance: int
    outcomes: Mapping[str, int]
    held: Mapping[str, int]
    """Amounts that are not 0, by kind, and gauges that are not 0, by name."""
    counted: int
    """Sum of `llm_requests_total`."""

    def gates(self) -> list[Gate]:
        """Return what has to be true of every server at rest."""
        return [
            exactly("received less outcomes and in flight", self.imbalance, 0),
            exactly("in flight at rest", self.in_flight, 0),
            exactly("held at rest", sum(self.held.values()), 0),
            exactly(
                "requests in the ledger less in the metrics",
                sum(self.outcomes.values()) - self.counted,
                0,
            ),
        ]


def until_rest(server: Server, wait_s_max: float) -> Rest:
    """Wait until nothing is held; return what is, then or at the end of the wait."""
    began = time.monotonic()
    while True:
        rest = _read(server, began)
        if not (rest.held or rest.in_flight) or rest.after_s >= wait_s_max:
            return rest
        time.sleep(_NAP_S)


def _read(server: Server, began: float) -> Rest:
    page = server.ledger()
    after_s = time.monotonic() - began
    held = {kind: found["amount"] for kind, found in page["held"].items() if found["amount"]}
    held |= {name: int(value) for name in GAUGES if (value := server.metric(name))}
    return Rest(
        after_s=after_s,
        received=page["received"],
        in_flight=page["in_flight"],
        imbalance=page["imbalance"],
        outcomes={name: count for name, count in page["outcomes"].items() if count},
        held=held,
        counted=int(server.metric("llm_requests_total")),
    )
