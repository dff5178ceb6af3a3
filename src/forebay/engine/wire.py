"""What gateway and worker say to each other: typed messages, msgpack, length before each frame.

`Down` goes to the worker, `Up` comes from it.  Durations cross the border, moments never do.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final, Generic, TypeVar, assert_never

import msgspec

from forebay.core.errors import Outcome
from forebay.core.request import (
    Chat,
    FinishReason,
    Grammar,
    JsonObject,
    JsonSchema,
    Made,
    Message,
    Prompt,
    Sampling,
    Text,
    TokenId,
    TokenIds,
    TokenLogprob,
)
from forebay.core.tooling import Tooling
from forebay.engine.protocol import EngineInfo, StepStats

PROTOCOL_VERSION: Final = 4
_LENGTH_BYTES: Final = 4


class ChatPrompt(msgspec.Struct, array_like=True, tag="chat", frozen=True):
    """A conversation, as it travels."""

    messages: tuple[Message, ...]
    tooling: Tooling | None = None


class TextPrompt(msgspec.Struct, array_like=True, tag="text", frozen=True):
    """A plain prompt, as it travels."""

    text: str


class TokensPrompt(msgspec.Struct, array_like=True, tag="ids", frozen=True):
    """A tokenized prompt, as it travels."""

    ids: tuple[TokenId, ...]


WirePrompt = ChatPrompt | TextPrompt | TokensPrompt


class WireSampling(msgspec.Struct, array_like=True, frozen=True):
    """`Sampling` as it travels: the same fields; the grammar is its text, and the last."""

    tokens_max: int | None
    tokens_min: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int | None
    stop: tuple[str, ...]
    choices: int
    presence_penalty: float
    frequency_penalty: float
    logprobs: bool
    ignore_eos: bool
    adapter: str
    embed: bool
    grammar: str | None
    """A JSON schema; empty for any JSON object; None for any text."""


class Load(msgspec.Struct, array_like=True, tag="load", frozen=True):
    """Make this engine; the first message to a worker."""

    engine: str
    options: dict[str, object]
    model: str | None
    beat_s: float
    adapters: dict[str, str] = {}
    """Name -> folder of each LoRA adapter that it begins with."""


class Submit(msgspec.Struct, array_like=True, tag="submit", frozen=True):
    """Answer this request within `time_left_s`."""

    id: int
    prompt: WirePrompt
    sampling: WireSampling
    stream: bool
    time_left_s: float
    made: tuple[Made, ...] = ()
    """Per choice, where to go on; empty: from the beginning."""


class Abort(msgspec.Struct, array_like=True, tag="abort", frozen=True):
    """Forget a request; an unknown id is no error."""

    id: int


class LoadAdapter(msgspec.Struct, array_like=True, tag="adapt", frozen=True):
    """Load a LoRA adapter under a name; `Adapted` answers."""

    name: str
    folder: str


class UnloadAdapter(msgspec.Struct, array_like=True, tag="unadapt", frozen=True):
    """Forget a LoRA adapter; an unknown name is no error."""

    name: str


class Stop(msgspec.Struct, array_like=True, tag="stop", frozen=True):
    """Close the engine and exit."""


class Hello(msgspec.Struct, array_like=True, tag="hello", frozen=True):
    """The first message of a worker."""

    pid: int
    protocol_version: int


class Ready(msgspec.Struct, array_like=True, tag="ready", frozen=True):
    """The engine is loaded."""

    info: EngineInfo


class Piece(msgspec.Struct, array_like=True, gc=False):
    """New text of one choice of request `id`: a `Delta` as it travels."""

    id: int
    text: str
    tokens: int = 1
    choice: int = 0
    finish_reason: FinishReason | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    token_ids: tuple[TokenId, ...] = ()
    """Of a stream: what was made since the last piece, so that another worker can go on."""


class Taken(msgspec.Struct, array_like=True, gc=False):
    """Request `id` was tokenized and is in the engine."""

    id: int
    prompt_tokens: int


class End(msgspec.Struct, array_like=True, gc=False):
    """Every choice of request `id` has ended.  Durations as in `EngineTiming`."""

    id: int
    prompt_tokens: int
    completion_tokens: int
    first_token_s: float | None
    decode_s: float | None
    embedding: bytes = b""


class Freed(msgspec.Struct, array_like=True, gc=False):
    """Request `id` was aborted, and the engine holds nothing of it any more."""

    id: int
    prompt_tokens: int
    tokens_made: int
    """Of all choices; 0 where it had not got beyond its prompt, or had ended by itself."""


class Kept(msgspec.Struct, array_like=True, gc=False):
    """Tokens of a choice of request `id` that is answered whole: nothing of it is handed out."""

    id: int
    choice: int
    token_ids: tuple[TokenId, ...]


class Step(msgspec.Struct, array_like=True, tag="step"):
    """What one turn of the loop made, of all requests together, in this order."""

    taken: Sequence[Taken]
    pieces: Sequence[Piece]
    ends: Sequence[End]
    tokens_made: int
    """Since the worker's start; it never falls."""
    stats: StepStats | None = None
    """The engine's gauges, where they have changed."""
    freed: Sequence[Freed] = ()
    slow: bool = False
    """The next steps may take as long as `EngineInfo.step_s_max`."""
    kept: Sequence[Kept] = ()


class Beat(msgspec.Struct, array_like=True, tag="beat"):
    """The loop has turned, and there was nothing else to say."""

    tokens_made: int
    stats: StepStats
    slow: bool = False


class Adapted(msgspec.Struct, array_like=True, tag="adapted"):
    """A LoRA adapter is loaded, or cannot be: `error` says why, with the fix."""

    name: str
    error: str = ""


class Fault(msgspec.Struct, array_like=True, tag="fault"):
    """Request `id` has failed with this outcome; without an id, the whole engine has."""

    id: int | None
    outcome: Outcome
    message: str
    param: str | None = None


Down = Load | Submit | Abort | LoadAdapter | UnloadAdapter | Stop
Up = Hello | Ready | Step | Beat | Adapted | Fault

T = TypeVar("T")
_ENCODER: Final = msgspec.msgpack.Encoder()


class Garbage(Exception):
    """Bytes that are no frame of this protocol."""


def frame(message: Down | Up) -> bytes:
    """Return a message ready to send."""
    body = _ENCODER.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


class FrameReader(Generic[T]):
    """Bytes in, messages out.  Mutable state: a frame that has begun, and the bytes it needs."""

    def __init__(self, kinds: type[T], bytes_max: int) -> None:
        """Accept messages of these kinds in frames of at most `bytes_max` bytes."""
        self._decode = msgspec.msgpack.Decoder(kinds).decode
        self._bytes_max = bytes_max
        self._rest = bytearray()
        self._needed = _LENGTH_BYTES

    def feed(self, data: bytes) -> list[T]:
        """Return the messages that are complete; raises Garbage, and is of no use after that."""
        if not self._rest:
            return self._read(data)
        self._rest += data
        return self._read(self._rest) if len(self._rest) >= self._needed else []

    def _read(self, data: bytes | bytearray) -> list[T]:
        view, size, start = memoryview(data), len(data), 0
        found: list[T] = []
        self._needed = _LENGTH_BYTES
        while size - start >= _LENGTH_BYTES:
            body = start + _LENGTH_BYTES
            length = int.from_bytes(view[start:body], "big")
            if length > self._bytes_max:
                raise Garbage("a frame is too long")
            if size - body < length:
                self._needed = _LENGTH_BYTES + length
                break
            start = body + length
            try:
                found.append(self._decode(view[body:start]))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise Garbage("a frame cannot be read") from error
        self._rest = bytearray(view[start:])
        return found


def pack_prompt(prompt: Prompt) -> WirePrompt:
    """Return a prompt as it travels."""
    match prompt:
        case Chat():
            return ChatPrompt(prompt.messages, prompt.tooling)
        case Text():
            return TextPrompt(prompt.text)
        case TokenIds():
            return TokensPrompt(prompt.ids)
        case _:
            assert_never(prompt)


_SAMPLING_FIELDS: Final = WireSampling.__struct_fields__
_plain_values: Final = attrgetter(*_SAMPLING_FIELDS[:-1])
_all_values: Final = attrgetter(*_SAMPLING_FIELDS)


def pack_sampling(sampling: Sampling) -> WireSampling:
    """Return sampling as it travels."""
    return WireSampling(*(*_plain_values(sampling), _pack_grammar(sampling.grammar)))


def unpack_sampling(travelled: WireSampling, **changed: int) -> Sampling:
    """Return what was packed, with some fields changed."""
    values: dict[str, Any] = dict(zip(_SAMPLING_FIELDS, _all_values(travelled), strict=True))
    values["grammar"] = _unpack_grammar(travelled.grammar)
    values.update(changed)
    return Sampling(**values)


def _pack_grammar(grammar: Grammar | None) -> str | None:
    match grammar:
        case None:
            return None
        case JsonObject():
            return ""
        case JsonSchema():
            return grammar.schema
        case _:
            assert_never(grammar)


def _unpack_grammar(text: str | None) -> Grammar | None:
    if text is None:
        return None
    return JsonSchema(schema=text) if text else JsonObject()
