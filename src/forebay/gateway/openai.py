"""The two OpenAI dialects: parse, pipeline, encode.  And the models that may be asked."""

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from forebay import __version__
from forebay.core.errors import Gone, Invalid
from forebay.core.request import (
    NO_REUSE,
    Events,
    Prompt,
    Request,
    Reuse,
    Route,
    Sampling,
    Text,
    mark,
)
from forebay.engine.protocol import EngineInfo
from forebay.gateway import parameters
from forebay.gateway.answers import Model, ModelList
from forebay.gateway.calls import Converter
from forebay.gateway.capabilities import capabilities
from forebay.gateway.config import GatewayConfig
from forebay.gateway.encoding import USAGE_SHAPE, ChatEncoder, Label, TextEncoder
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.ops import Reply
from forebay.gateway.parameters import Surface
from forebay.gateway.reading import Reader
from forebay.gateway.schemas import Call, ChatCall, TextCall
from forebay.gateway.shedding import Shedding
from forebay.gateway.sse import CACHE_HEADER, EventStream
from forebay.gateway.wishes import Wishes, last_event_id, tenant, wishes
from forebay.serve.cache import CacheConfig
from forebay.serve.lanes import Lane, Lanes

_NO_PROMPT: Final = Text(text="")
_NO_SAMPLING: Final = Sampling()
_REUSE: Final = Reuse(read=True, write=True)
_CACHE_HEADERS: Final[dict[bool, tuple[Header, ...]]] = {
    True: ((CACHE_HEADER, b"miss"),),
    False: ((CACHE_HEADER, b"bypass"),),
}

MODELS_PATH: Final = "/v1/models/"
STREAMS_PATH: Final = "/v1/streams/"


class Completes(Protocol):
    """What makes completions: the pipeline."""

    def complete(self, request: Request) -> Events:
        """Return a completion's events; raises ServingError as they are read."""

    def reopen(self, request: Request) -> Events:
        """Return the events of an answer that was begun before, by its `completion_id`."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a lane's engine can be asked: made once, used for each of its calls."""

    info: EngineInfo
    chat: Surface
    text: Surface
    converter: Converter
    fingerprint: str


class OpenAI:
    """Serves `/v1/chat/completions`, `/v1/completions` and what describes them."""

    def __init__(
        self,
        *,
        pipeline: Completes,
        lanes: Lanes,
        shedding: Shedding,
        config: GatewayConfig,
        cache: CacheConfig,
    ) -> None:
        """Serve the models of `lanes` through `pipeline`."""
        self._pipeline = pipeline
        self._lanes = lanes
        self._shedding = shedding
        self._config = config
        self._cache = cache
        self._chat_reader = Reader(ChatCall)
        self._text_reader = Reader(TextCall)
        # The whole mutable state: an offer per lane, made when its first call comes.
        self._offers: dict[str, Offer] = {}

    async def chat(self, exchange: Exchange) -> None:
        """Answer `POST /v1/chat/completions`."""
        call = self._chat_reader.read(await exchange.body())
        lane = self._lanes.find(call.model)
        exchange.model, offer = lane.name, self._offer(lane)
        warnings = offer.chat.check(call)
        self._shedding.check(exchange, call, lane, converter=offer.converter)
        prompt = offer.converter.chat(call)  # it bounds the messages
        warnings += parameters.message_warnings(call.messages)
        await self._serve(exchange, call, offer=offer, prompt=prompt, warnings=warnings)

    async def text(self, exchange: Exchange) -> None:
        """Answer `POST /v1/completions`."""
        call = self._text_reader.read(await exchange.body())
        lane = self._lanes.find(call.model)
        exchange.model, offer = lane.name, self._offer(lane)
        warnings = offer.text.check(call)
        self._shedding.check(exchange, call, lane, converter=offer.converter)
        prompt = offer.converter.prompt(call)
        await self._serve(exchange, call, offer=offer, prompt=prompt, warnings=warnings)

    async def reopen(self, exchange: Exchange) -> None:
        """Answer `GET /v1/streams/{id}`: go on after the event that `Last-Event-ID` names."""
        resume_after, resume_of = last_event_id(exchange.headers)
        completion_id = exchange.path.removeprefix(STREAMS_PATH)
        if resume_of not in {"", mark(completion_id)}:
            message = "Last-Event-ID: it is of another stream. Ask for this one without it."
            raise Gone(message, param="Last-Event-ID", status=410)
        request = Request(
            id=exchange.id,
            route=Route.STREAMS,
            model="",
            prompt=_NO_PROMPT,
            sampling=_NO_SAMPLING,
            received=exchange.received,
            deadline=exchange.received + self._config.request_s_max,
            stream=True,
            tenant=tenant(exchange.headers),
            completion_id=completion_id,
            resume_after=resume_after,
        )
        await EventStream(
            events=self._pipeline.reopen(request),
            encoder=ChatEncoder(_label(request)),  # until the answer says how it was begun
            choices=1,
            stream=True,
            resume_after=resume_after,
        ).serve(exchange)

    async def _serve(
        self, exchange: Exchange, call: Call, *, offer: Offer, prompt: Prompt, warnings: list[str]
    ) -> None:
        wished = wishes(exchange.headers, wall_s=time.time(), longest_s=self._config.request_s_max)
        request = self._request(exchange, call, offer=offer, prompt=prompt, wished=wished)
        label = _label(request)
        warnings += wished.ignored
        await EventStream(
            events=self._pipeline.complete(request),
            encoder=ChatEncoder(label) if isinstance(call, ChatCall) else TextEncoder(label),
            choices=request.sampling.choices,
            stream=request.stream,
            headers=_CACHE_HEADERS[request.reuse.read] + _warning_headers(warnings),
            resume_after=request.resume_after,
        ).serve(exchange)

    def _request(
        self, exchange: Exchange, call: Call, *, offer: Offer, prompt: Prompt, wished: Wishes
    ) -> Request:
        chat = isinstance(call, ChatCall)
        stream = call.stream or False
        if wished.resume_after is not None and not (stream and wished.key is not None):
            message = "Last-Event-ID: it goes with stream: true and an Idempotency-Key only."
            raise Invalid(message, param="Last-Event-ID")
        # A client's own id may come twice; what a key stands for has a name of its own.
        name = exchange.id if wished.key is None else secrets.token_hex(12)
        # Who declines what was made before wants an answer of its own, not one under way either.
        own = wished.reuse is not None and not wished.reuse.read
        repeatable = not own and (call.seed is not None or call.temperature == 0)
        usage = call.stream_options is not None and call.stream_options.include_usage
        time_left_s = min(wished.time_left_s, self._config.request_s_max)
        return Request(
            id=exchange.id,
            route=Route.CHAT_COMPLETIONS if chat else Route.COMPLETIONS,
            model=exchange.model,
            prompt=prompt,
            sampling=offer.converter.sampling(call),
            received=exchange.received,
            deadline=exchange.received + time_left_s,
            stream=stream,
            tenant=wished.tenant,
            priority=wished.priority,
            completion_id=("chatcmpl-" if chat else "cmpl-") + name,
            created=int(time.time()),
            shape=USAGE_SHAPE if usage else "",
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
        )

    def _reuse(self, wished: Wishes, *, repeatable: bool) -> Reuse:
        """Decide whether answers made before serve: what the client says, or what is the rule."""
        if wished.key is not None or not self._cache.enabled:
            return NO_REUSE
        if wished.reuse is not None:
            return wished.reuse
        return _REUSE if repeatable or self._cache.scope == "all" else NO_REUSE

    def _offer(self, lane: Lane) -> Offer:
        offer = self._offers.get(lane.name)
        info = lane.engine.info  # a worker that was replaced may bring another
        if offer is None or (offer.info is not info and offer.info != info):
            offer = self._offers[lane.name] = self._open(lane)
        return offer

    def _open(self, lane: Lane) -> Offer:
        info = lane.engine.info
        facts = f"{__version__} {info.name} {lane.name} {info.detail}"
        return Offer(
            info,
            Surface(ChatCall, info.supports),
            Surface(TextCall, info.supports),
            Converter(self._config, info, lane.advice),
            "fp_" + hashlib.sha256(facts.encode()).hexdigest()[:10],
        )

    def models(self, _: Exchange) -> Reply:
        """Answer `GET /v1/models`."""
        return Reply(body=msgspec.json.encode(ModelList(data=[_model(x) for x in self._lanes])))

    def model(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/models/{id}`; an id may contain slashes."""
        lane = self._lanes.find(exchange.path.removeprefix(MODELS_PATH))
        return Reply(body=msgspec.json.encode(_model(lane)))

    def capabilities(self, _: Exchange) -> Reply:
        """Answer `GET /v1/capabilities`."""
        models = {
            lane.name: capabilities(lane.engine.info, self._config, lane.advice)
            for lane in self._lanes
        }
        return Reply(body=msgspec.json.encode({"models": models}))


def _label(request: Request) -> Label:
    return Label(
        id=request.completion_id,
        created=request.created,
        model=request.model,
        fingerprint=request.imprint,
        choices=request.sampling.choices,
        usage=request.shape == USAGE_SHAPE,
    )


def _warning_headers(names: list[str]) -> tuple[Header, ...]:
    """Name what was accepted and has no effect; the names come from our own tables."""
    return ((b"x-forebay-warning", ", ".join(names).encode()),) if names else ()


def _model(lane: Lane) -> Model:
    return Model(id=lane.name, created=lane.created, owned_by="forebay")
