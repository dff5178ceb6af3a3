"""A typed call of `/generate` and its kin -> the call of OpenAI's that means the same.

So both kinds are checked by one table, sampled by one converter and shed by one rule.  Here are the
words that OpenAI's dialects lack: `do_sample`, `max_new_tokens`, `raw`.
"""

from typing import Final

import msgspec
from msgspec import Raw

from forebay.core.errors import Invalid
from forebay.core.request import Chat, Message, Prompt, Role, SamplingAdvice, Text
from forebay.engine.protocol import EngineInfo, Feature
from forebay.gateway.config import GatewayConfig
from forebay.gateway.native_schemas import Generation, StreamCall
from forebay.gateway.schemas import Call, ChatCall, TextCall

_UNIFORM: Final = 1.0
"""The temperature that leaves a model's odds as they are."""
_OFF: Final[dict[str, tuple[float, ...]]] = {
    "temperature": (0,),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
}
"""Fields that choose among tokens, and the values at which greedy choice agrees with them."""


class Translator:
    """Translates calls for one engine, within one configuration."""

    def __init__(self, config: GatewayConfig, info: EngineInfo, advice: SamplingAdvice) -> None:
        """Check against the bounds of `config` and the abilities in `info`."""
        self._config = config
        self._info = info
        self._advice = advice

    def is_chat(self, call: Generation) -> bool:
        """Whether prompts are a user's turns, or texts to be continued as they are."""
        supports = self._info.supports
        if supports.isdisjoint({Feature.CHAT, Feature.TEXT}):
            raise Invalid("prompt: this model takes no text.", param="prompt")
        raw = self._config.generate_prompts == "raw" if call.raw is None else call.raw
        if raw and Feature.TEXT not in supports and call.raw is not None:
            raise Invalid("raw: this model takes no plain text; send false.", param="raw")
        if not raw and Feature.CHAT not in supports and call.raw is not None:
            message = "raw: this model has no chat template; send true, or leave it out."
            raise Invalid(message, param="raw")
        return Feature.CHAT in supports and not (raw and Feature.TEXT in supports)

    def prompt(self, text: str | None, *, chat: bool, param: str = "prompt") -> Prompt:
        """Return one prompt; raises Invalid for an empty or a too long one."""
        if not text:
            found = "missing" if text is None else "empty"
            raise Invalid(f"{param}: {found}; send a text.", param=param)
        size, limit = len(text.encode()), self._config.prompt_bytes_max
        if size > limit:
            message = f"{param}: {size} bytes of text, at most {limit} are taken."
            raise Invalid(message, param=param)
        if chat:
            return Chat(messages=(Message(role=Role.USER, content=text),))
        return Text(text=text)

    def call(self, call: Generation, *, model: str, chat: bool) -> tuple[Call, list[str]]:
        """Return OpenAI's call that samples alike, without prompt, and what has no effect."""
        stream = isinstance(call, StreamCall)
        if call.stream is not None and call.stream is not stream:
            fix = "POST /generate answers whole" if stream else "POST /generate_stream streams"
            message = f"stream: this route cannot do {str(call.stream).lower()}; {fix}."
            raise Invalid(message, param="stream")
        sampling, ignored = self._choosing(call)
        fields = {
            "model": model,
            "frequency_penalty": call.frequency_penalty,
            "ignore_eos": call.ignore_eos,
            "max_tokens": self._tokens_max(call),
            "min_tokens": call.min_tokens,
            "presence_penalty": call.presence_penalty,
            "seed": call.seed,
            "stop": call.stop,
            "stream": stream,
            **sampling,
        }
        if chat:
            return ChatCall(messages=[], **fields), ignored  # type: ignore[arg-type]  # by name
        return TextCall(prompt="", **fields), ignored  # type: ignore[arg-type]  # by name

    def _tokens_max(self, call: Generation) -> int:
        """Return the most tokens to make; without a word of the client's, the configured ones."""
        name, found = "max_new_tokens", call.max_new_tokens
        if found is None:
            name, found = "max_tokens", call.max_tokens
        elif call.max_tokens not in {None, found}:
            message = f"{name}: {found} differs from max_tokens, {call.max_tokens}."
            raise Invalid(f"{message} Send one of them.", param=name)
        limit = self._info.context_tokens_max
        if found is None:
            least = call.min_tokens or 0
            return min(max(self._config.generate_tokens, least), limit)
        if found > limit:
            message = f"{name}: {found} is more than the model's context, {limit} tokens."
            raise Invalid(message, param=name)
        return found

    def _choosing(self, call: Generation) -> tuple[dict[str, float | None], list[str]]:
        """Return the fields that choose among tokens, and those that `do_sample` switches off."""
        given = {name: getattr(call, name) for name in _OFF}
        if call.do_sample is False:
            ignored = [n for n, v in given.items() if v is not None and v not in _OFF[n]]
            return {"temperature": 0.0}, ignored
        if call.do_sample:
            if given["temperature"] == 0:
                message = "do_sample: true, and temperature 0 takes the likeliest token each time."
                raise Invalid(f"{message} Send one of them.", param="do_sample")
            if given["temperature"] is None:
                given["temperature"] = self._advice.temperature or _UNIFORM
        return given, []


def text_of(prompt: Raw, index: int) -> str:
    """Return one of a batch's prompts; raises Invalid if it is no text."""
    try:
        return _text.decode(prompt)
    except msgspec.DecodeError:
        param = f"prompts[{index}]"
        raise Invalid(f"{param}: expected a string.", param=param) from None


_text: Final = msgspec.json.Decoder(str)
