"""How a request is said to llama.cpp's server, and how what it says of the answer is read.

Everything that has a default there is sent: its own defaults sample with top_k 40, top_p 0.95
and min_p 0.05.
"""

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from forebay.core.request import Grammar, Sampling, TokenId
from forebay.engines.sampling_bounds import TEMPERATURE_MIN, schema_of

_SEEDS: Final = 2**32 - 1
"""The library's seeds are 32 bits, and the last one of them means any."""

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
    greedy = sampling.temperature < TEMPERATURE_MIN
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


def spaced_schema_of(grammar: Grammar | None) -> str | None:
    """Return the JSON schema that a grammar means to the library, or raise Refused."""
    return None if grammar is None else _spaced(schema_of(grammar))


def _spaced(schema: str) -> str:
    """Return a schema that lets no more than a line's indent stand between two values.

    Left to itself the grammar library takes any white space, and small models write nothing else.
    """
    compiled = json.loads(schema)
    if not isinstance(compiled, dict):
        return schema
    return json.dumps(compiled | {"x-guidance": {"whitespace_pattern": _SPACE}})
