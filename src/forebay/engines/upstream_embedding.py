"""How upstreams are asked for a vector, and what they answer: their own numbers, as they are."""

import binascii
import math
import struct
from base64 import b64decode
from typing import Final, assert_never

import msgspec
from msgspec import Struct

from forebay.core.request import Chat, Finished, Prompt, Text, TokenIds, Usage
from forebay.engines.upstream_fault import Fault, Reason

PATH: Final = "/v1/embeddings"
_NUMBERS_MAX: Final = 1 << 20
_TOKENS_MAX: Final = 1_000_000_000


class _Wish(Struct):
    model: str
    input: str | tuple[int, ...]
    encoding_format: str = "float"
    """Every server can; base64 would be shorter, and some pass over the wish in silence."""


class _Vector(Struct):
    embedding: list[float] | str


class _Usage(Struct):
    prompt_tokens: int = 0


class _Answer(Struct):
    data: list[_Vector]
    usage: _Usage | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode


def body_of(model: str, prompt: Prompt) -> bytes:
    """Return the body that asks for the vector of a prompt."""
    match prompt:
        case Text(text=text):
            return msgspec.json.encode(_Wish(model, text))
        case TokenIds(ids=ids):
            return msgspec.json.encode(_Wish(model, ids))
        case Chat():
            return msgspec.json.encode(_Wish(model, prompt.messages[-1].content))
        case _:
            assert_never(prompt)


def finished(body: bytes) -> Finished:
    """Read an answer to that; raises Fault."""
    try:
        answer = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Fault(Reason.NOT_JSON, str(error)[:200]) from None
    if len(answer.data) != 1:
        raise Fault(Reason.NONSENSE, f"{len(answer.data)} vectors where one was asked for")
    usage = answer.usage or _Usage()
    if not 0 <= usage.prompt_tokens <= _TOKENS_MAX:
        raise Fault(Reason.NONSENSE, f"a usage of {str(usage.prompt_tokens)[:20]} tokens")
    vector = _packed(answer.data[0].embedding)
    return Finished(Usage(usage.prompt_tokens, 0), embedding=vector)


def _packed(numbers: list[float] | str) -> bytes:
    """Return a vector as little-endian float32; raises Fault for what is none."""
    try:
        if isinstance(numbers, str):
            vector = b64decode(numbers, validate=True)
            numbers = list(struct.unpack(f"<{len(vector) // 4}f", vector))
        else:
            vector = struct.pack(f"<{len(numbers)}f", *numbers)
    except (binascii.Error, struct.error, OverflowError, ValueError):
        raise Fault(Reason.NONSENSE, "a vector that is none") from None
    if not 0 < len(numbers) <= _NUMBERS_MAX or not math.isfinite(sum(numbers)):
        raise Fault(Reason.NONSENSE, f"a vector of {len(numbers)} numbers, or not finite")
    return vector
