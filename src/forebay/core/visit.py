"""Where a request came from, and the stations it passed outside the line of its events.

The gateway makes one for each HTTP exchange and whoever has to do with the request adds what it
knows; readers look at it when the record is written, or when the exchange is over.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from forebay.core.value import value


@value
class TraceContext:
    """A place in a distributed trace, by W3C Trace Context."""

    trace_id: str
    """32 hexadecimal digits, not all zero."""
    parent_id: str = ""
    """The caller's span, 16 hexadecimal digits; empty: the trace begins here."""
    sampled: bool = False
    """Somebody before us, who is trusted with that, keeps this trace."""
    state: str = ""
    """`tracestate`, to be passed on as it came."""


@dataclass(slots=True, kw_only=True, eq=False)
class Visit:
    """An exchange: its head, its size, its stations.  Moments are monotonic seconds.

    The stations of the answer itself stand in `core/record.py`'s Timeline.
    """

    id: str
    method: str
    path: str
    received: float
    route: str = ""
    """Which of our routes it was, once the exchange is over: a value of `Route`."""
    client: str = ""
    """The client's address, beyond trusted proxies; empty: unknown."""
    wait_s: float = 0.0
    """How long the bytes of its head lay here before the event loop came to them."""
    let_in: float | None = None
    """When it was known who asks, and that it may."""
    understood: float | None = None
    """When its body had come and was a request."""
    screened: float | None = None
    """When the guard let it pass."""
    awake: float | None = None
    """When its model was in memory; None where it was all along."""
    ended: float | None = None
    """When the exchange was over: the last byte is written, or nobody reads any more."""
    status: int = 0
    """What the client was told; 0: nothing."""
    body_bytes: int = 0
    answer_bytes: int = 0
    """Bytes of the answer's body."""
    trace: TraceContext | None = None
    workers: tuple[int, ...] = ()
    """The workers that had it, in order: more than one where one was lost."""
    cost_nanos: int | None = None
    """What it cost, billionths of the currency; None: nobody counts."""


def part(visit: Visit | None, id: str, received: float) -> Visit | None:
    """Return the visit of one of several requests that came by one exchange.

    Its clock begins when it begins: what lay before was for all of them.
    """
    if visit is None:
        return None
    return replace(
        visit, id=id, received=received, wait_s=0.0, let_in=received, understood=received
    )


VisitHook = Callable[[Visit], None]
"""A reader of visits whose exchange is over.  It must not raise and must not block."""
