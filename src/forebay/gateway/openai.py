"""The two OpenAI dialects: parse, pipeline, encode.  And the models that may be asked."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec

from forebay.core.clock import MONOTONIC
from forebay.core.errors import Gone
from forebay.core.request import Prompt, Request, Route, Sampling, Text, begun, mark
from forebay.gateway import parameters
from forebay.gateway.answers import Model, ModelList
from forebay.gateway.capabilities import capabilities
from forebay.gateway.config import GatewayConfig
from forebay.gateway.encoders import Reopened
from forebay.gateway.encoding import USAGE_SHAPE, ChatEncoder, Encoder, Label, TextEncoder
from forebay.gateway.exchange import Exchange
from forebay.gateway.native_encoding import NativeEncoder, Stopwatch, generated
from forebay.gateway.ops import Reply
from forebay.gateway.reading import Reader
from forebay.gateway.requesting import (
    Asked,
    Completes,
    Offer,
    Requests,
    answer_headers,
    is_repeatable,
)
from forebay.gateway.schemas import Call, ChatCall, TextCall
from forebay.gateway.shedding import Shedding
from forebay.gateway.sse import EventStream
from forebay.gateway.tool_encoding import Calling, ToolChatEncoder
from forebay.gateway.wishes import last_event_id
from forebay.serve.lanes import Lanes

_NO_PROMPT: Final = Text(text="")
_NO_SAMPLING: Final = Sampling()
MODELS_PATH: Final = "/v1/models/"
STREAMS_PATH: Final = "/v1/streams/"


class OpenAI:
    """Serves `/v1/chat/completions`, `/v1/completions` and what describes them."""

    def __init__(
        self,
        *,
        pipeline: Completes,
        lanes: Lanes,
        requests: Requests,
        shedding: Shedding,
        config: GatewayConfig,
    ) -> None:
        """Serve the models of `lanes` through `pipeline`."""
        self._pipeline = pipeline
        self._lanes = lanes
        self._requests = requests
        self._shedding = shedding
        self._config = config
        self._chat_reader = Reader(ChatCall)
        self._text_reader = Reader(TextCall)

    async def chat(self, exchange: Exchange) -> None:
        """Answer `POST /v1/chat/completions`."""
        call = self._chat_reader.read(await exchange.body())
        lane = await self._requests.lane(exchange, call.model)
        offer = self._requests.offer(lane)
        warnings = offer.chat.check(call)
        self._shedding.check(
            exchange, call, lane, converter=offer.converter, route=Route.CHAT_COMPLETIONS
        )
        toolbox = offer.converter.toolbox(call)
        prompt = offer.converter.chat(call, toolbox)  # it bounds the messages
        tools = offer.converter.offers_tools
        warnings += parameters.message_warnings(call.messages, tools=tools)
        if toolbox is None:
            asked = _asked(call, prompt, offer.converter.sampling(call))
            await self._serve(exchange, asked, offer, warnings=warnings, write=ChatEncoder)
            return
        calling = Calling.of_toolbox(toolbox, usage=_wants_usage(call))
        asked = replace(
            _asked(call, prompt, offer.converter.sampling(call, toolbox)), shape=calling.shape()
        )
        warnings += toolbox.warnings
        write = partial(ToolChatEncoder, calling=calling)
        await self._serve(exchange, asked, offer, warnings=warnings, write=write)

    async def text(self, exchange: Exchange) -> None:
        """Answer `POST /v1/completions`."""
        call = self._text_reader.read(await exchange.body())
        lane = await self._requests.lane(exchange, call.model)
        offer = self._requests.offer(lane)
        warnings = offer.text.check(call)
        self._shedding.check(
            exchange, call, lane, converter=offer.converter, route=Route.COMPLETIONS
        )
        prompt = offer.converter.prompt(call)
        asked = _asked(call, prompt, offer.converter.sampling(call))
        await self._serve(exchange, asked, offer, warnings=warnings, write=TextEncoder)

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
            tenant=exchange.caller.tenant,
            caller=exchange.caller,
            completion_id=completion_id,
            resume_after=resume_after,
            visit=exchange.visit,
        )
        stopwatch = Stopwatch(request, MONOTONIC)
        await EventStream(
            events=stopwatch.timing(self._pipeline.reopen(request)),
            # Until the answer says how it was begun.
            encoder=Reopened(NativeEncoder(Label.of(begun(request)), stopwatch, generated)),
            choices=1,
            stream=True,
            resume_after=resume_after,
        ).serve(exchange)

    async def _serve(
        self,
        exchange: Exchange,
        asked: Asked,
        offer: Offer,
        *,
        warnings: list[str],
        write: Callable[[Label], Encoder],
    ) -> None:
        request, ignored = self._requests.request(exchange, asked, offer)
        await EventStream(
            events=self._pipeline.complete(request),
            encoder=write(Label.of(begun(request))),
            choices=request.sampling.choices,
            stream=request.stream,
            headers=answer_headers(request, [*warnings, *ignored]),
            resume_after=request.resume_after,
        ).serve(exchange)

    def models(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/models`: models in memory or not, their versions, and routes."""
        listings = self._requests.listings(exchange.caller)
        data = [_model(name, listing.created) for listing in listings for name in listing.own_names]
        data += [_model(name, 0) for name in self._requests.routes(exchange.caller)]
        return Reply(body=msgspec.json.encode(ModelList(data=data)))

    def model(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/models/{id}`; an id may contain slashes."""
        name = exchange.path.removeprefix(MODELS_PATH)
        if name in self._requests.routes(exchange.caller):
            return Reply(body=msgspec.json.encode(_model(name, 0)))
        self._requests.check(exchange.caller, name)
        listing = self._lanes.listing(name)
        return Reply(body=msgspec.json.encode(_model(listing.own_name(name), listing.created)))

    def capabilities(self, exchange: Exchange) -> Reply:
        """Answer `GET /v1/capabilities`; of a model that is not in memory one cannot tell yet."""
        models: dict[str, object] = {}
        for listing in self._requests.listings(exchange.caller):
            lane = self._lanes.get(listing.name)
            models[listing.name] = (
                {"engine": listing.engine, "loaded": False}
                if lane is None
                else capabilities(lane.engine.info, self._config, lane.advice)
            )
        return Reply(body=msgspec.json.encode({"models": models}))


def _asked(call: Call, prompt: Prompt, sampling: Sampling) -> Asked:
    chat = isinstance(call, ChatCall)
    return Asked(
        route=Route.CHAT_COMPLETIONS if chat else Route.COMPLETIONS,
        prefix="chatcmpl-" if chat else "cmpl-",
        prompt=prompt,
        sampling=sampling,
        stream=call.stream or False,
        repeatable=is_repeatable(call),
        shape=USAGE_SHAPE if _wants_usage(call) else "",
    )


def _wants_usage(call: Call) -> bool:
    options = call.stream_options
    return options is not None and bool(options.include_usage)


def _model(name: str, created: int) -> Model:
    return Model(id=name, created=created, owned_by="forebay")
