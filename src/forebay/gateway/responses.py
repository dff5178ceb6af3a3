"""`/v1/responses`, its stateless core, on the same line as chat completions.

Nothing is stored: a conversation is sent whole, and `GET`ting an answer again is not offered.
"""

from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET, Raw

from forebay.core.errors import Invalid
from forebay.core.request import Route, begun
from forebay.gateway import parameters
from forebay.gateway.encoding import Label
from forebay.gateway.exchange import Exchange
from forebay.gateway.parameters import is_given
from forebay.gateway.reading import Reader
from forebay.gateway.requesting import (
    Asked,
    Completes,
    Offer,
    Requests,
    answer_headers,
    is_repeatable,
)
from forebay.gateway.responses_answers import ChoiceEcho, Echo, FormatEcho, TextEcho, ToolEcho
from forebay.gateway.responses_calls import Translation
from forebay.gateway.responses_encoding import Events, Plan, ResponsesEncoder
from forebay.gateway.responses_schemas import FunctionChoice, ResponsesCall, TextOptions
from forebay.gateway.schemas import NULL, Skipped
from forebay.gateway.shedding import Shedding
from forebay.gateway.sse import EventStream
from forebay.gateway.tool_encoding import Calling


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """Serves `/v1/responses`."""

    pipeline: Completes
    requests: Requests
    shedding: Shedding
    _reader: Reader[ResponsesCall] = field(default_factory=lambda: Reader(ResponsesCall))

    async def respond(self, exchange: Exchange) -> None:
        """Answer `POST /v1/responses`."""
        call = self._reader.read(await exchange.body())
        lane = await self.requests.lane(exchange, call.model)
        offer = self.requests.offer(lane)
        warnings = _check(call, offer)
        translation = Translation(call)
        try:
            self.shedding.check(
                exchange,
                translation.chat,
                lane,
                converter=offer.converter,
                route=Route.RESPONSES,
            )
            await self._serve(exchange, call, offer, translation=translation, warnings=warnings)
        except Invalid as error:
            renamed = translation.renamed(error)
            if renamed is error:
                raise
            raise renamed from error

    async def _serve(
        self,
        exchange: Exchange,
        call: ResponsesCall,
        offer: Offer,
        *,
        translation: Translation,
        warnings: list[str],
    ) -> None:
        chat, converter = translation.chat, offer.converter
        warnings += [translation.warned(name) for name in offer.chat.check(chat)]
        toolbox = converter.toolbox(chat)
        prompt = converter.chat(chat, toolbox)
        parameters.message_warnings(chat.messages, tools=converter.offers_tools)
        sampling = converter.sampling(chat, toolbox)
        calling = None
        if toolbox is not None:
            calling = Calling.of_toolbox(toolbox, usage=False)
            warnings += [translation.warned(name) for name in toolbox.warnings]
        echo = _echo(call, temperature=sampling.temperature, top_p=sampling.top_p)
        plan = Plan(echo=echo, calling=calling)
        asked = Asked(
            route=Route.RESPONSES,
            prefix="resp_",
            prompt=prompt,
            sampling=sampling,
            stream=call.stream or False,
            repeatable=is_repeatable(chat),
            shape=plan.shape(),
        )
        request, ignored = self.requests.request(exchange, asked, offer)
        events = Events()
        exchange.failure = events.failure
        await EventStream(
            events=self.pipeline.complete(request),
            encoder=ResponsesEncoder(Label.of(begun(request)), plan, events),
            choices=1,
            stream=request.stream,
            headers=answer_headers(request, [*warnings, *ignored]),
            resume_after=request.resume_after,
        ).serve(exchange)


def _check(call: ResponsesCall, offer: Offer) -> list[str]:
    """Return the names that have no effect; raises Invalid for what cannot be honoured."""
    warnings = offer.responses.judge(call)
    if call.stream_options is not None:
        if not call.stream:
            message = "stream_options: only together with stream: true."
            raise Invalid(message, param="stream_options")
        if not call.stream_options.include_obfuscation:
            warnings.remove("stream_options")
    return warnings


def _echo(call: ResponsesCall, *, temperature: float, top_p: float) -> Echo:
    choice = call.tool_choice
    return Echo(
        instructions=call.instructions,
        max_output_tokens=call.max_output_tokens,
        parallel_tool_calls=call.parallel_tool_calls is not False,
        temperature=temperature,
        text=_text(call.text),
        tool_choice=(
            ChoiceEcho(name=choice.name or "")
            if isinstance(choice, FunctionChoice)
            else choice or "auto"
        ),
        tools=[
            ToolEcho(
                name=tool.name or "",
                description=tool.description,
                parameters=_compact(tool.parameters),
                strict=tool.strict,
            )
            for tool in call.tools or ()
        ],
        top_p=top_p,
    )


def _text(options: TextOptions | None) -> TextEcho:
    form = None if options is None else options.format
    if form is None:
        return TextEcho(format=FormatEcho(type="text"))
    schema = UNSET if form.type != "json_schema" else _compact(form.schema)
    return TextEcho(
        format=FormatEcho(type=form.type, name=form.name, schema=schema, strict=form.strict)
    )


def _compact(schema: Skipped) -> Raw:
    """Return a schema, or null, without blanks: laid out otherwise, it is the same call."""
    if not isinstance(schema, Raw) or not is_given(schema):
        return NULL
    return Raw(msgspec.json.format(bytes(schema), indent=-1))
