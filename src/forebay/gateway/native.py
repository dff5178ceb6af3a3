"""`/generate` and its kin: the source documents' endpoints, on the same line as OpenAI's."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from msgspec import Raw

from forebay.core.clock import Clock
from forebay.core.errors import Invalid, UnknownModel
from forebay.core.record import Hook
from forebay.core.request import Priority, Prompt, Request, Route, Text, begun
from forebay.gateway.config import GatewayConfig
from forebay.gateway.encoding import Label
from forebay.gateway.exchange import Exchange
from forebay.gateway.native_batch import Batch, Batches, base_of
from forebay.gateway.native_calls import Translator
from forebay.gateway.native_encoding import (
    OWN_VERSION,
    Answer,
    NativeEncoder,
    Stopwatch,
    generated,
    inferred,
)
from forebay.gateway.native_schemas import (
    BatchCall,
    GenerateCall,
    Generation,
    InferCall,
    StreamCall,
)
from forebay.gateway.reading import Reader
from forebay.gateway.requesting import (
    Asked,
    AtOnce,
    Charge,
    Completes,
    Offer,
    Requests,
    answer_headers,
    is_repeatable,
)
from forebay.gateway.schemas import Call, ChatCall
from forebay.gateway.shedding import Shedding
from forebay.gateway.sse import EventStream
from forebay.serve.lanes import Lane
from forebay.serve.ledger import Ledger

_PREFIX: Final = "gen-"
_NO_PROMPT: Final = Text(text="")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A call that has found its lane, in OpenAI's words."""

    route: Route
    lane: Lane
    offer: Offer
    translator: Translator
    chat: bool
    call: Call
    warnings: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Native:
    """Serves `/generate`, `/generate_stream`, `/generate_batch` and `/infer`."""

    pipeline: Completes
    requests: Requests
    shedding: Shedding
    ledger: Ledger
    hooks: tuple[Hook, ...]
    config: GatewayConfig
    now: Clock
    charge: Charge
    at_once: AtOnce
    _generate: Reader[GenerateCall] = field(default_factory=lambda: Reader(GenerateCall))
    _stream: Reader[StreamCall] = field(default_factory=lambda: Reader(StreamCall))
    _batch: Reader[BatchCall] = field(default_factory=lambda: Reader(BatchCall))
    _infer: Reader[InferCall] = field(default_factory=lambda: Reader(InferCall))

    async def generate(self, exchange: Exchange) -> None:
        """Answer `POST /generate`: one prompt, or a batch."""
        call = self._generate.read(await exchange.body())
        if call.prompts is not None:
            if call.prompt is not None:
                message = "prompts: it comes together with prompt. Send one of them."
                raise Invalid(message, param="prompts")
            await self._serve_batch(exchange, call, call.model, prompts=call.prompts)
            return
        wanted = await self._wanted(exchange, call, call.model, route=Route.GENERATE)
        prompt = self._prompt(exchange, call.prompt, wanted)
        self.ledger.opened(exchange.id)
        exchange.counted = True
        await self._serve(exchange, wanted, prompt, write=generated)

    async def generate_stream(self, exchange: Exchange) -> None:
        """Answer `POST /generate_stream`."""
        call = self._stream.read(await exchange.body())
        wanted = await self._wanted(exchange, call, call.model, route=Route.GENERATE_STREAM)
        prompt = self._prompt(exchange, call.prompt, wanted)
        await self._serve(exchange, wanted, prompt, write=generated)

    async def generate_batch(self, exchange: Exchange) -> None:
        """Answer `POST /generate_batch`."""
        call = self._batch.read(await exchange.body())
        await self._serve_batch(exchange, call, call.model, prompts=call.prompts)

    async def infer(self, exchange: Exchange) -> None:
        """Answer `POST /infer`."""
        call = self._infer.read(await exchange.body())
        base = (
            self.requests.default(exchange.caller) if call.base_model is None else call.base_model
        )
        version = call.adapter_version
        name = base if version in {None, OWN_VERSION} else f"{base}:{version}"
        try:
            wanted = await self._wanted(exchange, call, name, route=Route.INFER)
        except UnknownModel as error:
            param = "base_model" if version is None else "adapter_version"
            raise UnknownModel(f"{param}: {error.message}", param=param) from None
        prompt = self._prompt(exchange, call.prompt, wanted)
        await self._serve(exchange, wanted, prompt, write=inferred)

    async def _wanted(
        self, exchange: Exchange, call: Generation, model: str | None, *, route: Route
    ) -> _Wanted:
        """Find the lane, and say the call in OpenAI's words; raises ServingError."""
        lane = await self.requests.lane(exchange, model)
        offer = self.requests.offer(lane)
        translator = Translator(self.config, offer.info, lane.advice)
        chat = translator.is_chat(call)
        asked, ignored = translator.call(call, model=lane.name, chat=chat)
        surface = offer.chat if isinstance(asked, ChatCall) else offer.text
        return _Wanted(
            route=route,
            lane=lane,
            offer=offer,
            translator=translator,
            chat=chat,
            call=asked,
            warnings=[*ignored, *surface.check(asked)],
        )

    def _prompt(self, exchange: Exchange, text: str | None, wanted: _Wanted) -> Prompt:
        """Read the one prompt, unless the door turns its like away."""
        self.shedding.check(
            exchange,
            wanted.call,
            wanted.lane,
            converter=wanted.offer.converter,
            route=wanted.route,
        )
        return wanted.translator.prompt(text, chat=wanted.chat)

    def _request(
        self, exchange: Exchange, wanted: _Wanted, prompt: Prompt
    ) -> tuple[Request, tuple[str, ...]]:
        asked = Asked(
            route=wanted.route,
            prefix=_PREFIX,
            prompt=prompt,
            sampling=wanted.offer.converter.sampling(wanted.call),
            stream=wanted.call.stream or False,
            repeatable=is_repeatable(wanted.call),
        )
        return self.requests.request(exchange, asked, wanted.offer)

    async def _serve(
        self,
        exchange: Exchange,
        wanted: _Wanted,
        prompt: Prompt,
        *,
        write: Callable[[Answer], bytes],
    ) -> None:
        request, ignored = self._request(exchange, wanted, prompt)
        stopwatch = Stopwatch(request, self.now)
        await EventStream(
            events=stopwatch.timing(self.pipeline.complete(request)),
            encoder=NativeEncoder(Label.of(begun(request)), stopwatch, write),
            choices=1,
            stream=request.stream,
            headers=answer_headers(request, [*wanted.warnings, *ignored]),
            resume_after=request.resume_after,
        ).serve(exchange)

    async def _serve_batch(
        self, exchange: Exchange, call: Generation, model: str | None, *, prompts: list[Raw]
    ) -> None:
        limit = self.config.batch_prompts_max
        if not prompts:
            raise Invalid("prompts: empty; send at least one text.", param="prompts")
        if len(prompts) > limit:
            message = f"prompts: {len(prompts)} prompts, at most {limit} are taken at once"
            raise Invalid(f"{message}; send several batches.", param="prompts", status=413)
        if len(prompts) > 1:  # the call itself was counted
            await self.charge(exchange, len(prompts) - 1)
        wanted = await self._wanted(exchange, call, model, route=Route.GENERATE_BATCH)
        request, ignored = self._request(exchange, wanted, _NO_PROMPT)
        if request.ticket is not None:  # it was promised to one request
            ignored += ("x-forebay-ticket",)
        # Others go first, unless the client says what class its batch is of.
        said = b"x-priority" in exchange.headers
        base = base_of(request, prompts, priority=request.priority if said else Priority.BATCH)
        batch = Batch(
            base=base,
            prompts=prompts,
            chat=wanted.chat,
            translator=wanted.translator,
            running_max=self.at_once(
                exchange.caller,
                min(self.config.batch_running_max, wanted.offer.info.running_max),
            ),
            headers=answer_headers(base, [*wanted.warnings, *ignored]),
        )
        await Batches(self.pipeline, self.ledger, self.hooks, now=self.now).serve(exchange, batch)
