"""The two OpenAI dialects: parse, pipeline, encode.  And the models that may be asked."""

import hashlib
import time
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from forebay import __version__
from forebay.core.clock import Clock
from forebay.core.request import Events, Prompt, Request, Route
from forebay.engine.protocol import EngineInfo
from forebay.gateway import parameters
from forebay.gateway.answers import Model, ModelList
from forebay.gateway.calls import Converter
from forebay.gateway.capabilities import capabilities
from forebay.gateway.config import GatewayConfig
from forebay.gateway.encoding import ChatEncoder, Encoder, Label, TextEncoder
from forebay.gateway.exchange import Exchange, Header
from forebay.gateway.ops import Reply
from forebay.gateway.parameters import Surface
from forebay.gateway.reading import Reader
from forebay.gateway.schemas import Call, ChatCall, TextCall
from forebay.gateway.sse import EventStream
from forebay.serve.lanes import Lane, Lanes

MODELS_PATH: Final = "/v1/models/"
_IDEMPOTENCY: Final = b"idempotency-key"


class Completes(Protocol):
    """What makes completions: the pipeline."""

    def complete(self, request: Request) -> Events:
        """Return a completion's events; raises ServingError as they are read."""


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
        self, *, pipeline: Completes, lanes: Lanes, now: Clock, config: GatewayConfig
    ) -> None:
        """Serve the models of `lanes` through `pipeline`."""
        self._pipeline = pipeline
        self._lanes = lanes
        self._now = now
        self._config = config
        self._chat_reader = Reader(ChatCall)
        self._text_reader = Reader(TextCall)
        # The whole mutable state: an offer per lane, made when its first call comes.
        self._offers: dict[str, Offer] = {}

    async def chat(self, exchange: Exchange) -> None:
        """Answer `POST /v1/chat/completions`."""
        call = self._chat_reader.read(await exchange.body())
        exchange.model = self._lanes.find(call.model).name
        offer = self._offer(call.model)
        warnings = offer.chat.check(call)
        prompt = offer.converter.chat(call)  # it bounds the messages
        warnings += parameters.message_warnings(call.messages)
        request = self._request(exchange, call, offer=offer, prompt=prompt)
        encoder = ChatEncoder(_label("chatcmpl-", call, request=request, offer=offer))
        await self._serve(exchange, request, encoder, warnings=warnings)

    async def text(self, exchange: Exchange) -> None:
        """Answer `POST /v1/completions`."""
        call = self._text_reader.read(await exchange.body())
        exchange.model = self._lanes.find(call.model).name
        offer = self._offer(call.model)
        warnings = offer.text.check(call)
        prompt = offer.converter.prompt(call)
        request = self._request(exchange, call, offer=offer, prompt=prompt)
        encoder = TextEncoder(_label("cmpl-", call, request=request, offer=offer))
        await self._serve(exchange, request, encoder, warnings=warnings)

    async def _serve(
        self,
        exchange: Exchange,
        request: Request,
        encoder: Encoder,
        *,
        warnings: list[str],
    ) -> None:
        if _IDEMPOTENCY in exchange.headers:
            warnings.append("idempotency-key")
        await EventStream(
            events=self._pipeline.complete(request),
            encoder=encoder,
            choices=request.sampling.choices,
            stream=request.stream,
            headers=_warning_headers(warnings),
        ).serve(exchange)

    def _request(self, exchange: Exchange, call: Call, *, offer: Offer, prompt: Prompt) -> Request:
        chat = isinstance(call, ChatCall)
        return Request(
            id=exchange.id,
            route=Route.CHAT_COMPLETIONS if chat else Route.COMPLETIONS,
            model=exchange.model,
            prompt=prompt,
            sampling=offer.converter.sampling(call),
            received=exchange.received,
            deadline=exchange.received + self._config.request_s_max,
            stream=call.stream or False,
        )

    def _offer(self, model: str) -> Offer:
        lane = self._lanes.find(model)
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


def _label(prefix: str, call: Call, *, request: Request, offer: Offer) -> Label:
    return Label(
        id=prefix + request.id,
        created=int(time.time()),
        model=request.model,
        fingerprint=offer.fingerprint,
        choices=request.sampling.choices,
        usage=bool(call.stream_options and call.stream_options.include_usage),
    )


def _warning_headers(names: list[str]) -> tuple[Header, ...]:
    """Name what was accepted and has no effect; the names come from our own tables."""
    return ((b"x-forebay-warning", ", ".join(names).encode()),) if names else ()


def _model(lane: Lane) -> Model:
    return Model(id=lane.name, created=lane.created, owned_by="forebay")
