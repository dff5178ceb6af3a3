"""A checked call, and the headers beside it -> the Request that the pipeline gets: any dialect."""

import hashlib
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from forebay import __version__
from forebay.core.caller import Caller
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Invalid, UnknownModel
from forebay.core.request import NO_REUSE, Events, Prompt, Request, Reuse, Route, Sampling
from forebay.core.value import value
from forebay.engine.protocol import EngineInfo
from forebay.gateway.calls import Converter
from forebay.gateway.config import GatewayConfig
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.parameters import Rows, Surface
from forebay.gateway.responses_parameters import RESPONSES
from forebay.gateway.responses_schemas import ResponsesCall
from forebay.gateway.schemas import Call, ChatCall, TextCall
from forebay.gateway.sse import CACHE_HEADER
from forebay.gateway.tools import offered
from forebay.gateway.wishes import Wishes, wishes
from forebay.serve.cache import CacheConfig
from forebay.serve.lanes import Asleep, Lane, Lanes, Listing
from forebay.serve.routes import Routes

_REUSE: Final = Reuse(read=True, write=True)
_CACHE_HEADERS: Final[dict[bool, tuple[Header, ...]]] = {
    True: ((CACHE_HEADER, b"miss"),),
    False: ((CACHE_HEADER, b"bypass"),),
}


_NOT_YOURS: Final = (
    "No model of that name is served here, or this credential may not ask it; GET /v1/models lists"
    " those that it may."
)


class Completes(Protocol):
    """What makes completions: the pipeline."""

    def complete(self, request: Request) -> Events:
        """Return a completion's events; raises ServingError as they are read."""

    def reopen(self, request: Request) -> Events:
        """Return the events of an answer that was begun before, by its `completion_id`."""


Charge = Callable[[Exchange, int], Awaitable[None]]
"""Counts so many requests more of a caller's; raises ServingError where they are too many."""
AtOnce = Callable[[Caller, int], int]
"""Says how many of so many requests a caller may have at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a lane's engine can be asked: made once, used for each of its calls."""

    info: EngineInfo
    adapter: str
    chat: Surface
    text: Surface
    responses: Rows
    converter: Converter
    fingerprint: str


@value
class Asked:
    """What a call comes to, whatever its dialect."""

    route: Route
    prefix: str
    """What its answer's name begins with."""
    prompt: Prompt
    sampling: Sampling
    stream: bool = False
    repeatable: bool = False
    """The same answer is asked for every time."""
    shape: str = ""


class Requests:
    """Finds the lane that a call is for, and makes the call a request."""

    def __init__(
        self,
        lanes: Lanes,
        *,
        config: GatewayConfig,
        cache: CacheConfig,
        routes: Routes | None = None,
    ) -> None:
        """Ask the models of `lanes`, by `routes` too, within the bounds of `config`."""
        self._lanes = lanes
        self._routes = routes or None  # nobody is asked where there are none
        self._config = config
        self._cache = cache
        # The whole mutable state: an offer per lane, made when its first call comes.
        self._offers: dict[str, Offer] = {}

    def listings(self, caller: Caller) -> tuple[Listing, ...]:
        """Return what is on offer to a caller, in order."""
        return tuple(each for each in self._lanes.listings if caller.may_ask(*each.names))

    def routes(self, caller: Caller) -> tuple[str, ...]:
        """Return the names that lead a caller to one of several models."""
        return tuple(route.name for route in self._routes or () if caller.may_ask(route.name))

    async def lane(self, exchange: Exchange, model: str | None) -> Lane:
        """Return the lane of a model, or of the one that a route of that name leads to.

        Without a name, of the first that is served.  A model that is not in memory is loaded, as
        long as the client waits.  Raises ServingError.
        """
        name = self.default(exchange.caller) if model is None else model
        self.check(exchange.caller, name)
        if self._routes is not None and (route := self._routes.get(name)) is not None:
            exchange.via = name
            name = exchange.model = route.choose(
                exchange.caller.tenant,
                _key(exchange),
                exchange.id,
                offered=self._lanes.offers,
            )
        try:
            lane = self._lanes.find(name)
        except Asleep:
            exchange.model = self._lanes.listing(name).own_name(name)
            ends = exchange.received + self._patience_s(exchange)
            exchange.visit.asleep = MONOTONIC()
            with exchange.watching():  # a client that has left waits for nothing
                lane = await self._lanes.awake(name, ends)
            exchange.visit.awake = MONOTONIC()
        exchange.model = lane.name
        return lane

    def _patience_s(self, exchange: Exchange) -> float:
        longest_s = self._config.request_s_max
        wished = wishes(exchange.headers, wall_s=time.time(), longest_s=longest_s)
        return min(wished.time_left_s, longest_s)

    def default(self, caller: Caller) -> str:
        """Return the name of the model that answers whoever names none; raises UnknownModel."""
        for listing in self.listings(caller):
            return listing.name
        raise UnknownModel("No model is served here.", param="model")

    def check(self, caller: Caller, name: str) -> None:
        """Raise UnknownModel for a name that is not a caller's to ask.

        Who may ask a model may ask it by each of its names, and each version of it.
        """
        if caller.models is None or caller.may_ask(name):
            return
        listing = self._lanes.listing(name) if self._lanes.offers(name) else None
        if listing is None or not caller.may_ask(listing.name, *listing.aliases):
            raise UnknownModel(_NOT_YOURS, param="model")

    def offer(self, lane: Lane) -> Offer:
        """Return what a lane can be asked."""
        offer = self._offers.get(lane.name)
        info = lane.engine.info  # a worker that was replaced may bring another
        if (
            offer is None
            or offer.adapter != lane.adapter  # of the same name, and another content
            or (offer.info is not info and offer.info != info)
        ):
            for name in [name for name in self._offers if not self._lanes.offers(name)]:
                del self._offers[name]
            offer = self._offers[lane.name] = self._open(lane)
        return offer

    def _open(self, lane: Lane) -> Offer:
        info = lane.engine.info
        supports = offered(info, self._config)
        facts = f"{__version__} {info.name} {lane.name} {info.detail} {lane.content} {lane.adapter}"
        return Offer(
            info=info,
            adapter=lane.adapter,
            chat=Surface(ChatCall, supports),
            text=Surface(TextCall, info.supports),
            responses=Rows(ResponsesCall, RESPONSES, supports),
            converter=Converter(self._config, info, lane.advice),
            fingerprint="fp_" + hashlib.sha256(facts.encode()).hexdigest()[:10],
        )

    def request(
        self, exchange: Exchange, asked: Asked, offer: Offer
    ) -> tuple[Request, tuple[str, ...]]:
        """Make a request of a call and of the headers; and name the headers without effect.

        Raises Invalid for a header that cannot be honoured.
        """
        longest_s = self._config.request_s_max
        wished = wishes(exchange.headers, wall_s=time.time(), longest_s=longest_s)
        if wished.resume_after is not None and not (asked.stream and wished.key is not None):
            message = "Last-Event-ID: it goes with a stream and an Idempotency-Key only."
            raise Invalid(message, param="Last-Event-ID")
        # A client's own id may come twice; what a key stands for has a name of its own.
        name = exchange.id if wished.key is None else secrets.token_hex(12)
        # Who declines what was made before wants an answer of its own, not one under way either.
        own = wished.reuse is not None and not wished.reuse.read
        repeatable = asked.repeatable and not own
        sampling = asked.sampling
        request = Request(
            id=exchange.id,
            route=asked.route,
            model=exchange.model,
            prompt=asked.prompt,
            sampling=replace(sampling, adapter=offer.adapter) if offer.adapter else sampling,
            received=exchange.received,
            deadline=exchange.received + min(wished.time_left_s, longest_s),
            stream=asked.stream,
            tenant=exchange.caller.tenant,
            caller=exchange.caller,
            priority=wished.priority,
            completion_id=asked.prefix + name,
            created=int(time.time()),
            via=exchange.via,
            shape=asked.shape,
            imprint=offer.fingerprint,
            key=wished.key,
            attach=wished.attach,
            resume_after=wished.resume_after,
            resume_of=wished.resume_of,
            repeatable=repeatable,
            reuse=self._reuse(wished, repeatable=repeatable),
            ticket=wished.ticket,
            body_bytes=exchange.body_bytes,
            body_sign=exchange.body_sign,
            visit=exchange.visit,
        )
        exchange.visit.understood = MONOTONIC()
        return request, wished.ignored

    def _reuse(self, wished: Wishes, *, repeatable: bool) -> Reuse:
        """Decide whether answers made before serve: what the client says, or what is the rule."""
        if wished.key is not None or not self._cache.enabled:
            return NO_REUSE
        if wished.reuse is not None:
            return wished.reuse
        return _REUSE if repeatable or self._cache.scope == "all" else NO_REUSE


def _key(exchange: Exchange) -> str | None:
    """Return what a client calls its request; only whether it is the same matters here."""
    given = exchange.headers.get(b"idempotency-key")
    return None if given is None else given.decode("latin-1")


def is_repeatable(call: Call) -> bool:
    """Whether a call asks for the same answer every time: greedy, or with a seed."""
    return call.seed is not None or call.temperature == 0


def answer_headers(request: Request, warnings: list[str]) -> tuple[Header, ...]:
    """Return what an answer's head says of how it was asked for.

    The names of what was accepted and has no effect come from our own tables.
    """
    named = ((b"x-forebay-warning", ", ".join(warnings).encode()),) if warnings else ()
    return _CACHE_HEADERS[request.reuse.read] + named
