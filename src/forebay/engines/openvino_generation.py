"""How a request's sampling is said to OpenVINO GenAI, and what of it is refused first.

The library checks some values in the middle of a step, where an exception loses every running
sequence, and some not at all: a token id beyond the vocabulary reads foreign memory.
"""

from collections.abc import Sequence
from typing import Any, Final, assert_never

from forebay.core.request import Grammar, JsonObject, JsonSchema, Sampling, TokenId
from forebay.engine import json_schema
from forebay.engine.protocol import EngineInfo, Refused

_SEED_MAX: Final = 2**63 - 1
_PENALTY_MAX: Final = 2.0
_TEMPERATURE_MIN: Final = 1e-4
"""Below it, sampling is greedy to any precision, and the library's division overflows."""


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
    if not 1 <= wanted <= info.context_tokens_max - len(prompt):
        raise Refused(
            f"{len(prompt)} prompt tokens and {wanted} new ones do not fit: the context holds "
            f"{info.context_tokens_max}, and at least one must be new.",
            param="max_tokens",
        )
    if not 0 <= sampling.tokens_min <= wanted:
        raise Refused(f"min_tokens must be 0 to {wanted}, like max_tokens.", param="min_tokens")


def _check_sampling(sampling: Sampling) -> None:
    """Refuse what the library would refuse in the middle of a step, or not at all."""
    bounds = (
        ("temperature", sampling.temperature, 0.0, 100.0),
        ("top_p", sampling.top_p, 1e-6, 1.0),
        ("top_k", sampling.top_k, 0, 2**31 - 1),
        ("min_p", sampling.min_p, 0.0, 0.999),
        ("seed", sampling.seed or 0, 0, _SEED_MAX),
        ("presence_penalty", sampling.presence_penalty, -_PENALTY_MAX, _PENALTY_MAX),
        ("frequency_penalty", sampling.frequency_penalty, -_PENALTY_MAX, _PENALTY_MAX),
    )
    for name, value, low, high in bounds:
        if not low <= value <= high:  # NaN is refused too: no comparison with it holds
            raise Refused(f"{name} must be {low} to {high}.", param=name)
    if sampling.grammar is None:
        return
    if sampling.ignore_eos or sampling.tokens_min:
        raise Refused(
            "A grammar says where the answer ends, so ignore_eos and min_tokens cannot be "
            "combined with response_format.",
            param="ignore_eos" if sampling.ignore_eos else "min_tokens",
        )


def generation_config(sampling: Sampling, ends: frozenset[int]) -> Any:  # noqa: ANN401 - the library's
    """Return the library's form of `sampling`, or raise Refused for what it cannot honour.

    `ends` are the token ids that end a sequence unless they are to be ignored.
    """
    _check_sampling(sampling)
    import openvino_genai  # noqa: PLC0415 - heavy

    generation = openvino_genai.GenerationConfig()
    generation.max_new_tokens = sampling.tokens_max
    generation.min_new_tokens = sampling.tokens_min
    generation.ignore_eos = sampling.ignore_eos
    generation.stop_token_ids = set() if sampling.ignore_eos else set(ends)
    generation.do_sample = sampling.temperature >= _TEMPERATURE_MIN
    if generation.do_sample:
        generation.temperature = sampling.temperature
        generation.top_p = sampling.top_p
        generation.min_p = sampling.min_p
        generation.rng_seed = sampling.seed or 0
        if sampling.top_k:
            generation.top_k = sampling.top_k
    generation.presence_penalty = sampling.presence_penalty
    generation.frequency_penalty = sampling.frequency_penalty
    generation.logprobs = 1 if sampling.logprobs else 0
    if sampling.grammar is not None:
        generation.structured_output_config = openvino_genai.StructuredOutputConfig(
            json_schema=_schema(sampling.grammar)
        )
    return generation


def _schema(grammar: Grammar) -> str:
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
