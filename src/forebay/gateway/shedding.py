"""The step before a call is converted: in a storm, most are turned away here.

What a call asks for is known, its prompt has not been looked at.  `policy/storm.py` decides; this
says who is none of its business: whoever has a key, a promise or a deadline, and whatever may be
answered without a place.
"""

import time
from typing import Final

from forebay.core.request import Request, Route, Sampling, Text
from forebay.gateway.calls import Converter
from forebay.gateway.config import GatewayConfig
from forebay.gateway.exchange import Exchange
from forebay.gateway.schemas import Call
from forebay.gateway.wishes import wishes
from forebay.serve.cache import CacheConfig
from forebay.serve.lanes import Lane
from forebay.serve.lifecycle import Lifecycle, State

_UNREAD: Final = Text(text="")
_DECIDING: Final = frozenset(
    {
        b"cache-control",
        b"idempotency-key",
        b"last-event-id",
        b"x-forebay-attach",
        b"x-forebay-ticket",
        b"x-request-deadline-ms",
        b"x-request-timeout",
    }
)
"""Headers by which a request may fare better, or worse, than others that are like it."""


class Shedding:
    """Turns calls away that the door would refuse as it has just refused others."""

    def __init__(self, lifecycle: Lifecycle, config: GatewayConfig, cache: CacheConfig) -> None:
        """Leave alone what `cache` may answer, and everybody once `lifecycle` takes no more."""
        self._lifecycle = lifecycle
        self._config = config
        self._remembers_all = cache.enabled and cache.scope == "all"

    def check(
        self,
        exchange: Exchange,
        call: Call,
        lane: Lane,
        *,
        converter: Converter,
        route: Route,
    ) -> None:
        """Raise Overloaded for a call that is not to be read any further.

        Raises Invalid for one whose sampling is: no waiting would cure it.
        """
        if not lane.admission.in_storm or self._lifecycle.state >= State.DRAINING:
            return
        repeatable = call.seed is not None or call.temperature == 0
        if repeatable or self._remembers_all or not _DECIDING.isdisjoint(exchange.headers):
            return
        sampling = converter.sampling(call)
        exchange.request = self._request(exchange, call, sampling=sampling, route=route)
        lane.admission.shed(exchange.request)
        exchange.request = None  # it goes on, and whoever reads it makes a better one

    def _request(
        self, exchange: Exchange, call: Call, *, sampling: Sampling, route: Route
    ) -> Request:
        longest_s = self._config.request_s_max
        wished = wishes(exchange.headers, wall_s=time.time(), longest_s=longest_s)
        return Request(
            id=exchange.id,
            route=route,
            model=exchange.model,
            prompt=_UNREAD,
            sampling=sampling,
            received=exchange.received,
            deadline=exchange.received + longest_s,
            stream=call.stream or False,
            tenant=exchange.caller.tenant,
            caller=exchange.caller,
            priority=wished.priority,
            body_bytes=exchange.body_bytes,
            body_sign=exchange.body_sign,
        )
