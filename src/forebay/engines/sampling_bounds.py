"""What an engine refuses of a request before its library sees it, in one set of words.

Libraries check some values in the middle of a step, where an exception loses every running
sequence, and some not at all: a token id beyond the vocabulary reads foreign memory.
"""

from collections.abc import Sequence
from typing import Final, assert_never

from forebay.core.request import Grammar, JsonObject, JsonSchema, Sampling, TokenId
from forebay.engine import json_schema
from forebay.engine.protocol import EngineInfo, Feature, Refused

TEMPERATURE_MIN: Final = 1e-4
"""Below it, sampling is greedy to any precision, and dividing by it may overflow."""

_TEMPERATURE_MAX: Final = 100.0
"""By choice; an engine whose library takes less says so."""
_SEED_MAX: Final = 2**63 - 1
_PENALTY_MAX: Final = 2.0


def check_request(
    prompt: Sequence[TokenId],
    sampling: Sampling,
    info: EngineInfo,
    *,
    temperature_max: float = _TEMPERATURE_MAX,
) -> None:
    """Refuse what an engine of these facts cannot honour; what was made already is its prompt."""
    check_prompt(prompt, sampling, info)
    check_sampling(sampling, info.supports, temperature_max=temperature_max)


def check_prompt(prompt: Sequence[TokenId], sampling: Sampling, info: EngineInfo) -> None:
    """Refuse a prompt that does not fit, or would lead the library astray."""
    if not prompt:
        raise Refused("The prompt has no tokens; at least one is needed.", param="prompt")
    if not (min(prompt) >= 0 and max(prompt) < info.vocabulary_size):
        raise Refused(
            f"A token id is out of range; this model has 0 to {info.vocabulary_size - 1}.",
            param="prompt",
        )
    wanted = sampling.tokens_max or 0
    if sampling.embed and len(prompt) <= info.context_tokens_max:
        return
    if not 1 <= wanted <= info.context_tokens_max - len(prompt):
        raise Refused(
            f"{len(prompt)} prompt tokens and {wanted} new ones do not fit: the context holds "
            f"{info.context_tokens_max}, and at least one must be new.",
            param="max_tokens",
        )
    if not 0 <= sampling.tokens_min <= wanted:
        raise Refused(f"min_tokens must be 0 to {wanted}, like max_tokens.", param="min_tokens")


def check_sampling(
    sampling: Sampling, supports: frozenset[Feature], *, temperature_max: float = _TEMPERATURE_MAX
) -> None:
    """Refuse values that have no meaning, and what is not among the features."""
    presence = _PENALTY_MAX if Feature.PRESENCE_PENALTY in supports else 0.0
    frequency = _PENALTY_MAX if Feature.FREQUENCY_PENALTY in supports else 0.0
    bounds = (
        ("temperature", sampling.temperature, 0.0, temperature_max),
        ("top_p", sampling.top_p, 1e-6, 1.0),
        ("top_k", sampling.top_k, 0, 2**31 - 1),
        ("min_p", sampling.min_p, 0.0, 0.999),
        ("seed", sampling.seed or 0, 0, _SEED_MAX),
        ("presence_penalty", sampling.presence_penalty, -presence, presence),
        ("frequency_penalty", sampling.frequency_penalty, -frequency, frequency),
        ("logprobs", int(sampling.logprobs), 0, int(Feature.LOGPROBS in supports)),
    )
    for name, value, low, high in bounds:
        if not low <= value <= high:  # NaN is refused too: no comparison with it holds
            allowed = f"{low} to {high}" if low != high else f"{high}: the engine has no other"
            raise Refused(f"{name} must be {allowed}.", param=name)
    if sampling.adapter and Feature.ADAPTERS not in supports:
        raise Refused("model: this engine has no adapters; ask for the base model.", param="model")
    if sampling.embed and Feature.EMBEDDINGS not in supports:
        raise Refused("model: this engine makes no embeddings.", param="model")
    _check_grammar(sampling, supports)


def _check_grammar(sampling: Sampling, supports: frozenset[Feature]) -> None:
    if sampling.grammar is None:
        return
    object_only = isinstance(sampling.grammar, JsonObject)
    if (Feature.JSON_OBJECT if object_only else Feature.JSON_SCHEMA) not in supports:
        message = "response_format: this engine has no such grammars; ask for text."
        raise Refused(message, param="response_format")
    if sampling.ignore_eos or sampling.tokens_min:
        raise Refused(
            "A grammar says where the answer ends, so ignore_eos and min_tokens cannot be "
            "combined with response_format.",
            param="ignore_eos" if sampling.ignore_eos else "min_tokens",
        )


def schema_of(grammar: Grammar) -> str:
    """Return the JSON schema that a grammar means, or raise Refused for one that cannot be kept."""
    match grammar:
        case JsonObject():
            return json_schema.ANY_OBJECT
        case JsonSchema(schema=text):
            try:
                return json_schema.grammar_schema(text)
            except json_schema.SchemaRefused as error:
                param = "response_format.json_schema.schema"
                where = f"{param}.{error.path}" if error.path else param
                raise Refused(f"{where}: {error}", param=where) from error
        case _:
            assert_never(grammar)
