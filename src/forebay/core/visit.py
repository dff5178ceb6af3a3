"""Where a request came from, and the stations it passed outside the line of its events.

The gateway makes one for each HTTP exchange and whoever has to do with the request adds what it
knows; readers look at it when the record is written, or when the exchange is over.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from forebay.core.value import value

if TYPE_CHECKING:
    from forebay.core.record import Timeline


@value
class TraceContext:
    """A place in a distributed trace, by W3C Trace Context."""

    trace_id: str
    """32 hexadecimal digits, not all zero."""
    parent_id: str = ""
    """The caller's span, 16 hexadecimal digits; empty: the trace begins here."""
    sampled: bool = False
    """This trace is to be kept, whatever happens: so says one who is trusted, or our share."""
    state: str = ""
    """`tracestate`, to be passed on as it came."""
    span_id: str = ""
    """The span of this exchange, 16 hexadecimal digits; empty: no span is made of it."""

    def onward(self) -> bytes:
        """Return the lines of a request's head that lead a server behind us to this place."""
        span_id = self.span_id or self.parent_id
        if not span_id:
            return b""
        head = f"traceparent: 00-{self.trace_id}-{span_id}-{self.sampled:02x}\r\n"
        return (f"{head}tracestate: {self.state}\r\n" if self.state else head).encode()


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
    looked: bool = False
    """An answer that was made before, or is being made, might have served."""
    making: float | None = None
    """When its own making began: none did."""
    screened: float | None = None
    """When the guard let it pass."""
    asleep: float | None = None
    """When it began to wait for its model, before it was understood."""
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
    failovers: tuple[str, ...] = ()
    """Why it was taken from each worker that it lost."""
    cost_nanos: int | None = None
    """What it cost, billionths of the currency; None: nobody counts."""
    reserved_tokens: int | None = None
    """What was reserved of its accounts' budgets; None: they have none."""
    limit: str = ""
    """The limit that it was refused by: `user requests`."""
    guard: str = ""
    """What the guard found: `flagged override`; empty: it was not asked."""
    tenant: str = ""
    """Whose it is, once it was let in."""
    items: int = 0
    """How many requests it was, each with a record of its own; 0: it is one, or a page."""
    of: str = ""
    """The exchange that this is a part of; empty: it is one itself."""
    timeline: "Timeline | None" = None
    """The stations of the answer, once somebody makes it."""


def part(visit: Visit | None, id: str, received: float) -> Visit | None:
    """Return the visit of one of several requests that came by one exchange.

    Its clock begins when it begins: what lay before was for all of them.
    """
    if visit is None:
        return None
    return replace(
        visit,
        id=id,
        of=visit.id,
        items=0,
        received=received,
        wait_s=0.0,
        let_in=received,
        understood=received,
        asleep=None,
        awake=None,
    )


VisitHook = Callable[[Visit], None]
"""A reader of visits whose exchange is over.  It must not raise and must not block."""
