"""A typed call -> what the core understands, or an error that names the field.

The bounds that depend on configuration or on the engine are checked here; those that never
change stand in `schemas.py`.
"""

from typing import Final

import msgspec
from msgspec import Raw

from forebay.core.errors import Invalid
from forebay.core.request import (
    Chat,
    Grammar,
    JsonObject,
    JsonSchema,
    Message,
    Prompt,
    Role,
    Sampling,
    SamplingAdvice,
    Text,
    TokenIds,
)
from forebay.engine import json_schema
from forebay.engine.protocol import EngineInfo, Feature
from forebay.gateway.config import GatewayConfig
from forebay.gateway.parameters import is_given, part_extras
from forebay.gateway.reading import shown
from forebay.gateway.schemas import (
    Call,
    ChatCall,
    ChatMessage,
    Part,
    ResponseFormat,
    SchemaFormat,
    TextCall,
)
from forebay.gateway.tool_prompt import in_words
from forebay.gateway.tools import Toolbox, Tools
from forebay.policy.forecast import tooling_bytes

_TEXT_TOKENS: Final = 16
"""OpenAI's own default of `max_tokens` for `/v1/completions`."""


OPENAIS: Final = SamplingAdvice()
"""Defaults of a model whose makers advise nothing."""


class Converter:
    """Turns calls for one engine into prompts and sampling, within one configuration."""

    def __init__(
        self, config: GatewayConfig, info: EngineInfo, advice: SamplingAdvice = OPENAIS
    ) -> None:
        """Check against the bounds of `config` and the abilities in `info`."""
        self._config = config
        self._info = info
        self._advice = advice
        self._tools = Tools(config, info)

    def toolbox(self, call: ChatCall) -> Toolbox | None:
        """Return what the model may, or must, call; None where it is nothing."""
        if call.tools is None and call.tool_choice is None:
            return None
        return self._tools.read(call)

    @property
    def offers_tools(self) -> bool:
        """Whether conversations may have to do with tools."""
        return self._tools.offered

    def chat(self, call: ChatCall, toolbox: Toolbox | None = None) -> Chat:
        """Return the conversation; developers' turns become the system's."""
        messages = call.messages
        if not messages:
            raise Invalid("messages: empty; send at least one message.", param="messages")
        if len(messages) > self._config.messages_max:
            found, limit = len(messages), self._config.messages_max
            message = f"messages: {found} messages, at most {limit} are taken."
            raise Invalid(message, param="messages")
        turns = tuple(self._turn(index, message) for index, message in enumerate(messages))
        size = sum(len(turn.content.encode()) for turn in turns)
        self._check_prompt(size, "messages")
        if toolbox is None and not any(m.tool_calls or m.tool_call_id for m in messages):
            return Chat(messages=turns)
        return self._with_tools(turns, call, toolbox=toolbox, size=size)

    def _with_tools(
        self, turns: tuple[Message, ...], call: ChatCall, *, toolbox: Toolbox | None, size: int
    ) -> Chat:
        """Return a conversation that has to do with tools."""
        if not self._tools.offered:
            return Chat(messages=turns)  # what messages say of tools is judged as they are
        tooling = self._tools.tooling(call.messages, toolbox)
        self._check_prompt(size + tooling_bytes(tooling), "messages")
        if self._tools.generic:
            return Chat(messages=in_words(turns, tooling))
        return Chat(messages=turns, tooling=tooling)

    def _turn(self, index: int, message: ChatMessage) -> Message:
        # Templates know no developer: to a model that role is the system's newer name.
        role = Role.SYSTEM if message.role is Role.DEVELOPER else message.role
        match message.content:
            case str() as text:
                return Message(role=role, content=text)
            case None if message.tool_calls:
                return Message(role=role, content="")
            case None:
                param = f"messages[{index}].content"
                raise Invalid(f"{param}: missing; send a text.", param=param)
            case parts:
                return Message(role=role, content=self._joined(index, parts))

    def _joined(self, index: int, parts: list[Part]) -> str:
        """Join text parts by line feeds, as other servers do for models that read one text."""
        where = f"messages[{index}].content"
        if not parts:
            raise Invalid(f"{where}: empty; send a text.", param=where)
        if len(parts) > self._config.parts_max:
            message = f"{where}: {len(parts)} parts, at most {self._config.parts_max} are taken."
            raise Invalid(message, param=where)
        texts = []
        for number, part in enumerate(parts):
            param = f"{where}[{number}]"
            if part.type != "text":
                message = f"{param}.type: only text is taken here, found '{shown(part.type)}'."
                raise Invalid(message, param=f"{param}.type")
            if part.text is None:
                raise Invalid(f"{param}.text: missing; it is required.", param=f"{param}.text")
            for extra in part_extras(part):
                message = f"{param}.{extra}: a part of type text has no such field."
                raise Invalid(message, param=f"{param}.{extra}")
            texts.append(part.text)
        return "\n".join(texts)

    def prompt(self, call: TextCall) -> Prompt:
        """Return the one text or the one array of token ids of a call."""
        match call.prompt:
            case str() as text:
                return self._text(text)
            case [str() as text]:
                return self._text(text)
            case [[*ids]]:
                return self._ids(ids)
            case [int(), *_] as ids:
                return self._ids(ids)
            case []:
                raise Invalid("prompt: empty; send a text.", param="prompt")
        raise Invalid("prompt: one text or one array of token ids per request.", param="prompt")

    def _text(self, text: str) -> Text:
        if Feature.TEXT not in self._info.supports:
            raise Invalid("prompt: this model takes no plain text.", param="prompt")
        if not text:
            raise Invalid("prompt: empty; send a text.", param="prompt")
        self._check_prompt(len(text.encode()), "prompt")
        return Text(text=text)

    def _ids(self, values: list[str | int | list[int]] | list[int]) -> TokenIds:
        if Feature.TOKEN_IDS not in self._info.supports:
            raise Invalid("prompt: this model takes no token ids; send a text.", param="prompt")
        if len(values) > self._info.context_tokens_max:
            found, limit = len(values), self._info.context_tokens_max
            message = f"prompt: {found} token ids, the model's context holds {limit}."
            raise Invalid(message, param="prompt")
        ids = tuple(value for value in values if isinstance(value, int))
        if not ids or len(ids) != len(values):
            raise Invalid("prompt: an array of token ids, and nothing else.", param="prompt")
        size = self._info.vocabulary_size
        if min(ids) < 0 or (size and max(ids) >= size):
            bound = f"from 0 to {size - 1}" if size else "0 or more"
            raise Invalid(f"prompt: token ids are {bound}.", param="prompt")
        return TokenIds(ids=ids)

    def _check_prompt(self, found: int, param: str) -> None:
        limit = self._config.prompt_bytes_max
        if found > limit:
            message = f"{param}: {found} bytes of text, at most {limit} are taken."
            raise Invalid(message, param=param)

    def sampling(self, call: Call, toolbox: Toolbox | None = None) -> Sampling:
        """Return how tokens are chosen and when they end."""
        forced = None if toolbox is None else toolbox.grammar
        tokens_max = self._tokens_max(call)
        tokens_min = call.min_tokens or 0
        if tokens_max is not None and tokens_min > tokens_max:
            message = f"min_tokens: {tokens_min} is more than max_tokens, {tokens_max}."
            raise Invalid(message, param="min_tokens")
        return Sampling(
            tokens_max=tokens_max,
            tokens_min=tokens_min,
            temperature=(
                self._advice.temperature if call.temperature is None else call.temperature
            ),
            top_p=self._advice.top_p if call.top_p is None else call.top_p,
            top_k=max(call.top_k or 0, 0),
            min_p=call.min_p or 0.0,
            seed=call.seed,
            stop=self._stop(call),
            choices=self._choices(call),
            presence_penalty=call.presence_penalty or 0.0,
            frequency_penalty=call.frequency_penalty or 0.0,
            logprobs=_logprobs(call),
            grammar=forced or self._grammar(call.response_format),
            ignore_eos=call.ignore_eos or False,
        )

    def _tokens_max(self, call: Call) -> int | None:
        """Return the most tokens that a call asks for, per choice; None: it does not say."""
        name, found = "max_tokens", call.max_tokens
        if isinstance(call, TextCall):
            found = _TEXT_TOKENS if found is None else found
        elif call.max_completion_tokens is not None:
            name = "max_completion_tokens"
            if found is not None and found != call.max_completion_tokens:
                message = f"{name}: {call.max_completion_tokens} differs from max_tokens, {found}."
                raise Invalid(f"{message} Send one of them.", param=name)
            found = call.max_completion_tokens
        limit = self._info.context_tokens_max
        if found is not None and found > limit:
            message = f"{name}: {found} is more than the model's context, {limit} tokens."
            raise Invalid(message, param=name)
        return found

    def _stop(self, call: Call) -> tuple[str, ...]:
        match call.stop:
            case None:
                return ()
            case str() as text:
                texts = [text]
            case texts:
                pass
        if len(texts) > self._config.stops_max:
            found, limit = len(texts), self._config.stops_max
            raise Invalid(f"stop: {found} texts, at most {limit} are taken.", param="stop")
        for index, text in enumerate(texts):
            size, limit = len(text.encode()), self._config.stop_bytes_max
            if not 0 < size <= limit:
                param = "stop" if isinstance(call.stop, str) else f"stop[{index}]"
                message = f"{param}: {size} bytes; a stop text has 1 to {limit}."
                raise Invalid(message, param=param)
        return tuple(texts)

    def _choices(self, call: Call) -> int:
        choices = 1 if call.n is None else call.n
        if choices > self._config.n_max:
            message = f"n: {choices} choices, at most {self._config.n_max} are taken."
            raise Invalid(message, param="n")
        if isinstance(call, TextCall) and call.best_of not in (None, choices):
            message = f"best_of: {call.best_of} differs from n, {choices}; leave it out."
            raise Invalid(message, param="best_of")
        return choices

    def _grammar(self, form: ResponseFormat | None) -> Grammar | None:
        if form is None:
            return None
        if form.json_schema is not None and form.type != "json_schema":
            param = "response_format.json_schema"
            raise Invalid(f"{param}: it needs type json_schema.", param=param)
        match form.type:
            case "text":
                return None
            case "json_object":
                self._require(Feature.JSON_OBJECT)
                return JsonObject()
            case "json_schema":
                self._require(Feature.JSON_SCHEMA)
                return self._schema(form.json_schema)
        param = "response_format.type"
        message = f"{param}: expected text, json_object or json_schema."
        raise Invalid(message, param=param)

    def _require(self, feature: Feature) -> None:
        if feature not in self._info.supports:
            param = "response_format.type"
            message = f"{param}: not supported. The engine of this model cannot do {feature}."
            raise Invalid(message, param=param)

    def _schema(self, form: SchemaFormat | None) -> JsonSchema:
        param = "response_format.json_schema"
        if form is None:
            raise Invalid(f"{param}: missing; it is required.", param=param)
        param += ".schema"
        if not isinstance(form.schema, Raw) or not is_given(form.schema):
            raise Invalid(f"{param}: missing; it is required.", param=param)
        text, limit = bytes(form.schema), self._config.schema_bytes_max
        if len(text) > limit:
            message = f"{param}: {len(text)} bytes, at most {limit} are taken."
            raise Invalid(message, param=param)
        try:
            json_schema.check(msgspec.json.decode(text))
        except msgspec.DecodeError:
            message = f"{param}: it holds a number that no JSON reader can take."
            raise Invalid(message, param=param) from None
        except RecursionError:
            raise Invalid(f"{param}: nested too deeply.", param=param) from None
        except json_schema.SchemaRefused as error:
            where = f"{param}.{shown(error.path)}" if error.path else param
            raise Invalid(f"{where}: {error}", param=where) from None
        # Without blanks: a body that is only laid out otherwise is the same request.  The order of
        # its keys stays, for answers keep to it.
        return JsonSchema(schema=msgspec.json.format(text, indent=-1).decode())


def _logprobs(call: Call) -> bool:
    """Whether to report odds; raises Invalid for alternatives, which nobody computes."""
    if isinstance(call, ChatCall):
        return call.logprobs or False
    if call.logprobs:
        message = "logprobs: only the chosen tokens' odds are known; send 0 or nothing."
        raise Invalid(message, param="logprobs")
    return call.logprobs is not None
