"""How a request is said to llama.cpp's server, and how what it says of the answer is read.

Everything that has a default there is sent: its own defaults sample with top_k 40, top_p 0.95
and min_p 0.05.  What it cannot honour is refused before it is asked.
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, assert_never

import msgspec

from forebay.core.request import Grammar, JsonObject, JsonSchema, Sampling, TokenId
from forebay.engine import json_schema
from forebay.engine.protocol import Refused

_SEED_MAX: Final = 2**63 - 1
_SEEDS: Final = 2**32 - 1
"""The library's seeds are 32 bits, and the last one of them means any."""
_FREQUENCY_MAX: Final = 2.0
_TEMPERATURE_MIN: Final = 1e-4
"""Below it, sampling is greedy to any precision."""

_SPACE: Final = "( |\\n {0,16})?"

_OFF: Final[dict[str, object]] = {
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "dry_multiplier": 0.0,
    "xtc_probability": 0.0,
    "mirostat": 0,
    "dynatemp_range": 0.0,
    "n_probs": 0,
    "t_max_predict_ms": -1,
}
_SAID: Final[dict[str, object]] = {
    "stream": True,
    # Token ids stand in the part that is otherwise for debugging; its end is cut to these.
    "verbose": True,
    "return_tokens": True,
    "response_fields": ["stop_type", "tokens_predicted"],
    # A sign of life after each part of a prompt: where nothing is said, nothing can be aborted.
    "return_progress": True,
}


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    tokens: tuple[TokenId, ...] = ()
    tokens_predicted: int = 0
    content: str = ""
    stop_type: str | None = None
    prompt_progress: dict[str, float] | None = None


class _Fault(msgspec.Struct, frozen=True, kw_only=True):
    code: int = 500
    type: str = ""


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    said: _Said | None = msgspec.field(default=None, name="__verbose")
    error: _Fault | None = None


_LINES: Final = msgspec.json.Decoder(_Line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one line tells of an answer."""

    token_ids: Sequence[TokenId] = ()
    made: int = 0
    """Tokens so far, also those of which no line tells the id; 0: nothing is said of tokens."""
    text: str = ""
    """What has become certain of the text since the line before."""
    stop_type: str | None = None
    """Set in the last line: `eos` or `limit`."""
    failure: str | None = None
    """Set where it has failed: for the log, without anything that a client wrote."""


def read_line(line: bytes) -> Told:
    """Return what a line tells."""
    try:
        found = _LINES.decode(line)
    except msgspec.DecodeError:
        return Told(failure="a line that is not understood")
    if found.error is not None:
        return Told(failure=f"{found.error.code} {found.error.type[:64]}")
    said = found.said
    if said is None or said.prompt_progress is not None:
        return Told()
    return Told(
        token_ids=said.tokens,
        made=said.tokens_predicted,
        text=said.content,
        stop_type=said.stop_type,
    )


def check_sampling(sampling: Sampling) -> None:
    """Refuse values that have no meaning, and what the library cannot honour."""
    bounds = (
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("top_p", sampling.top_p, 1e-6, 1.0),
        ("top_k", sampling.top_k, 0, 2**31 - 1),
        ("min_p", sampling.min_p, 0.0, 0.999),
        ("seed", sampling.seed or 0, 0, _SEED_MAX),
        ("presence_penalty", sampling.presence_penalty, 0.0, 0.0),
        ("frequency_penalty", sampling.frequency_penalty, -_FREQUENCY_MAX, _FREQUENCY_MAX),
        ("logprobs", int(sampling.logprobs), 0, 0),
    )
    for name, value, low, high in bounds:
        if not low <= value <= high:  # NaN is refused too: no comparison with it holds
            allowed = f"{low} to {high}" if low != high else f"{low}: the engine has no other"
            raise Refused(f"{name} must be {allowed}.", param=name)
    if sampling.adapter:
        raise Refused("model: this engine has no adapters; ask for the base model.", param="model")
    if sampling.grammar is not None and (sampling.ignore_eos or sampling.tokens_min):
        raise Refused(
            "A grammar says where the answer ends, so ignore_eos and min_tokens cannot be "
            "combined with response_format.",
            param="ignore_eos" if sampling.ignore_eos else "min_tokens",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call of the library: a prompt, and how to go on from it."""

    prompt: Sequence[TokenId]
    made: Sequence[TokenId]
    """The part of the answer that is there already."""
    tokens_max: int
    endless: bool
    """No token may end it."""
    schema: str | None
    """The JSON schema that holds the answer; None: any text."""


def wish(
    asked: Asked, sampling: Sampling, *, ends: Collection[TokenId], prefix_cache: bool
) -> bytes:
    """Return the body of a completion request; `ends` are the tokens that end an answer."""
    greedy = sampling.temperature < _TEMPERATURE_MIN
    chain = ["penalties", "temperature"]
    body: dict[str, Any] = (
        _OFF
        | _SAID
        | {
            "prompt": [*asked.prompt, *asked.made],
            "n_predict": asked.tokens_max,
            "cache_prompt": prefix_cache,
            "ignore_eos": asked.endless,
            "temperature": 0.0 if greedy else sampling.temperature,
            "top_k": 0 if greedy else sampling.top_k,
            "top_p": 1.0 if greedy else sampling.top_p,
            "min_p": 0.0 if greedy else sampling.min_p,
            "samplers": chain if greedy else [*chain, "top_k", "top_p", "min_p"],
            "seed": fold_seed(sampling.seed or 0, len(asked.made)),
            "frequency_penalty": sampling.frequency_penalty,
            "repeat_last_n": len(asked.prompt) + len(asked.made) + asked.tokens_max,
            "logit_bias": _biases(asked, sampling, ends),
        }
    )
    if asked.schema is not None:
        body["json_schema"] = msgspec.Raw(asked.schema.encode())
    return msgspec.json.encode(body)


def _biases(
    asked: Asked, sampling: Sampling, ends: Collection[TokenId]
) -> list[tuple[TokenId, float | bool]]:
    biases: dict[TokenId, float | bool] = {}
    if sampling.frequency_penalty:
        # The library counts the prompt's tokens as well; OpenAI counts the answer's only.
        for token, times in Counter(asked.prompt).items():
            biases[token] = times * sampling.frequency_penalty
    if asked.endless:
        biases |= dict.fromkeys(ends, False)  # false is its word for: never
    return list(biases.items())


def fold_seed(seed: int, made: int) -> int:
    """Return a seed of 32 bits; an answer that goes on does not draw the same numbers again."""
    return (seed ^ (seed >> 32) ^ (made * 0x9E3779B1)) % _SEEDS


def schema_of(grammar: Grammar | None) -> str | None:
    """Return the JSON schema that a grammar means, or raise Refused."""
    match grammar:
        case None:
            return None
        case JsonObject():
            return _spaced(json_schema.ANY_OBJECT)
        case JsonSchema(schema=text):
            try:
                return _spaced(json_schema.grammar_schema(text))
            except json_schema.SchemaRefused as error:
                param = "response_format.json_schema.schema"
                where = f"{param}.{error.path}" if error.path else param
                raise Refused(f"{where}: {error}", param=where) from error
        case _:
            assert_never(grammar)


def _spaced(schema: str) -> str:
    """Return a schema that lets no more than a line's indent stand between two values.

    Left to itself the grammar library takes any white space, and small models write nothing else.
    """
    compiled = json.loads(schema)
    if not isinstance(compiled, dict):
        return schema
    return json.dumps(compiled | {"x-guidance": {"whitespace_pattern": _SPACE}})
