"""What upstreams can be asked, by the program they run, and how a request is said to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from forebay.core.request import (
    Chat,
    Grammar,
    JsonObject,
    JsonSchema,
    Prompt,
    Request,
    Role,
    Text,
    TokenIds,
)
from forebay.engine.protocol import CannotLoad, Feature
from forebay.policy.affinity import mark_of

CHAT_PATH: Final = "/v1/chat/completions"
TEXT_PATH: Final = "/v1/completions"

_OPENAI: Final = frozenset(
    {
        *(Feature.CHAT, Feature.TEXT, Feature.TOKEN_IDS, Feature.TEMPERATURE, Feature.TOP_P),
        *(Feature.SEED, Feature.STOP, Feature.CHOICES, Feature.PRESENCE_PENALTY),
        *(Feature.FREQUENCY_PENALTY, Feature.LOGPROBS, Feature.JSON_OBJECT, Feature.JSON_SCHEMA),
    }
)
_SAMPLERS: Final = frozenset({Feature.TOP_K, Feature.MIN_P})
_EXACT: Final = frozenset({Feature.IGNORE_EOS, Feature.TOKENS_MIN})
_SAYABLE: Final = _OPENAI | _SAMPLERS | _EXACT | {Feature.EMBEDDINGS}
"""What a `Speaker`, or `upstream_embedding`, has words for.

Whatever else was offered would be dropped in silence.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one program makes of OpenAI's surface."""

    features: frozenset[Feature]
    tokens_name: str = "max_tokens"
    """The limit of a chat's answer; OpenAI itself has come to want max_completion_tokens."""
    text_logprobs: int = 1
    """What asks `/v1/completions` for the odds of the chosen tokens, and no others."""


DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai": Dialect(features=_OPENAI, tokens_name="max_completion_tokens"),
    "vllm": Dialect(features=_OPENAI | _SAMPLERS | _EXACT, text_logprobs=0),
    "sglang": Dialect(features=_OPENAI | _SAMPLERS | _EXACT),
    # Its chat knows neither; whatever it does not know it passes over in silence.
    "tgi": Dialect(features=_OPENAI - {Feature.CHOICES, Feature.TOKEN_IDS}),
    # With several choices it counts the tokens of one (seen in build 11549): usage would be wrong.
    "llama-server": Dialect(
        features=(_OPENAI | _SAMPLERS | {Feature.IGNORE_EOS}) - {Feature.CHOICES}
    ),
    "ollama": Dialect(
        features=_OPENAI - {Feature.CHOICES, Feature.TOKEN_IDS, Feature.LOGPROBS},
    ),
    "forebay": Dialect(features=_OPENAI | _SAMPLERS | _EXACT, text_logprobs=0),
    "other": Dialect(features=_OPENAI - {Feature.TOKEN_IDS}),
}
OWNERS: Final[Mapping[str, str]] = {
    "vllm": "vllm",
    "sglang": "sglang",
    "llamacpp": "llama-server",
    "library": "ollama",
    "forebay": "forebay",
    "openai": "openai",
    "system": "openai",
}
"""What `owned_by` says in a server's list of models, and which program that is."""


def adjusted(features: frozenset[Feature], changes: str) -> frozenset[Feature]:
    """Return features with `+added` and `-removed` ones; raises CannotLoad with the fix."""
    known = {feature.value: feature for feature in _SAYABLE}
    for text in filter(None, (change.strip() for change in changes.split(","))):
        name = text[1:]
        if text[0] not in "+-" or name not in known:
            unsaid = name in set(Feature)
            why = "is never passed on to an upstream" if unsaid else "changes nothing"
            fix = f"Write +NAME or -NAME, of: {', '.join(sorted(known))}."
            raise CannotLoad(f"upstream.features: '{text[:40]}' {why}. {fix}")
        features = features | {known[name]} if text[0] == "+" else features - {known[name]}
    return features


class _Turn(Struct):
    role: Role
    content: str


class _StreamOptions(Struct):
    include_usage: bool = True


class _Wish(Struct, omit_defaults=True):
    """A body of either route; what is UNSET is not sent."""

    model: str
    temperature: float | UnsetType = UNSET
    top_p: float | UnsetType = UNSET
    messages: list[_Turn] | UnsetType = UNSET
    prompt: str | tuple[int, ...] | UnsetType = UNSET
    max_tokens: int | UnsetType = UNSET
    max_completion_tokens: int | UnsetType = UNSET
    min_tokens: int | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    min_p: float | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    stop: tuple[str, ...] | UnsetType = UNSET
    n: int | UnsetType = UNSET
    presence_penalty: float | UnsetType = UNSET
    frequency_penalty: float | UnsetType = UNSET
    logprobs: bool | int | UnsetType = UNSET
    ignore_eos: bool | UnsetType = UNSET
    response_format: dict[str, Any] | UnsetType = UNSET
    stream: bool | UnsetType = UNSET
    stream_options: _StreamOptions | UnsetType = UNSET


_STREAM_OPTIONS: Final = _StreamOptions()
_encode: Final = msgspec.json.Encoder().encode


class Speaker:
    """Says requests in one dialect, to servers that call the model by one name."""

    def __init__(self, dialect: Dialect, model: str) -> None:
        """Name the model as they do."""
        self._dialect = dialect
        self.model: Final = model
        supports = dialect.features
        # Off is said where it can be, because some servers have defaults of their own.
        self._says_top_k = Feature.TOP_K in supports
        self._says_min_p = Feature.MIN_P in supports
        self._says_temperature = Feature.TEMPERATURE in supports
        self._says_top_p = Feature.TOP_P in supports

    def body(self, request: Request) -> bytes:
        """Return the body that asks for what a request asks."""
        sampling, is_chat = request.sampling, isinstance(request.prompt, Chat)
        wish = _Wish(self.model)
        _set_prompt(wish, request.prompt)
        if self._says_temperature:
            wish.temperature = sampling.temperature
        if self._says_top_p:
            wish.top_p = sampling.top_p
        if self._says_top_k:
            wish.top_k = sampling.top_k or -1
        if self._says_min_p:
            wish.min_p = sampling.min_p
        if sampling.tokens_max is not None:
            if is_chat and self._dialect.tokens_name != "max_tokens":
                wish.max_completion_tokens = sampling.tokens_max
            else:
                wish.max_tokens = sampling.tokens_max
        if request.stream:
            wish.stream, wish.stream_options = True, _STREAM_OPTIONS
        if sampling.logprobs:
            wish.logprobs = True if is_chat else self._dialect.text_logprobs
        if sampling.seed is not None:
            wish.seed = sampling.seed
        _set_rare(wish, request)
        return _encode(wish)


def _set_prompt(wish: _Wish, prompt: Prompt) -> None:
    match prompt:
        case Chat(messages=messages):
            wish.messages = [_Turn(turn.role, turn.content) for turn in messages]
        case Text(text=text):
            wish.prompt = text
        case TokenIds(ids=ids):
            wish.prompt = ids
        case _:
            assert_never(prompt)


def _set_rare(wish: _Wish, request: Request) -> None:
    sampling = request.sampling
    if sampling.stop:
        wish.stop = sampling.stop
    if sampling.choices > 1:
        wish.n = sampling.choices
    if sampling.tokens_min:
        wish.min_tokens = sampling.tokens_min
    if sampling.presence_penalty:
        wish.presence_penalty = sampling.presence_penalty
    if sampling.frequency_penalty:
        wish.frequency_penalty = sampling.frequency_penalty
    if sampling.ignore_eos:
        wish.ignore_eos = True
    if sampling.grammar is not None:
        wish.response_format = _form(sampling.grammar)


def _form(grammar: Grammar) -> dict[str, Any]:
    match grammar:
        case JsonObject():
            return {"type": "json_object"}
        case JsonSchema(schema=schema):
            named = {"name": "answer", "strict": True, "schema": Raw(schema.encode())}
            return {"type": "json_schema", "json_schema": named}
        case _:
            assert_never(grammar)


def beginning_of(prompt: Prompt, bytes_max: int) -> int:
    """Return the mark of the first bytes of a prompt."""
    match prompt:
        case Chat(messages=messages):
            texts, left = [], bytes_max
            for turn in messages:
                texts.append(f"{turn.role.value}\0{turn.content[:left]}\0")
                left -= len(turn.content)
                if left <= 0:
                    break
            text = "".join(texts)
        case Text(text=whole):
            text = whole[:bytes_max]
        case TokenIds(ids=ids):
            text = repr(ids[: bytes_max // 4])
        case _:
            assert_never(prompt)
    return mark_of(text.encode("utf-8", "surrogatepass")[:bytes_max])
