"""How a request's sampling is said to vLLM, and what of it is refused first."""

from collections.abc import Collection
from typing import Any, Final, assert_never

from forebay.core.request import Grammar, JsonObject, JsonSchema, Sampling
from forebay.engine import json_schema
from forebay.engine.protocol import Refused

_SEED_MAX: Final = 2**63 - 1
_SEED_STRIDE: Final = 0x9E37_79B9_7F4A_7C15
"""Odd, so that each count of tokens made has a seed of its own."""
_SAID_CHARACTERS_MAX: Final = 300
_PENALTY_MAX: Final = 2.0
_TEMPERATURE_MAX: Final = 2.0
_TEMPERATURE_MIN: Final = 0.01
"""The library raises what is below; greedy is nearer to what was asked."""


def sampling_params(sampling: Sampling, *, ends: Collection[int], made: int) -> Any:  # noqa: ANN401 - the library's
    """Return the library's form of `sampling`, or raise Refused for what it cannot honour.

    `ends` are the token ids that end a sequence unless they are to be ignored; `made` is how
    many tokens another engine has made of it.
    """
    _check(sampling)
    from vllm import SamplingParams  # noqa: PLC0415 - heavy
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415 - heavy

    greedy = sampling.temperature < _TEMPERATURE_MIN
    try:
        return SamplingParams(
            max_tokens=sampling.tokens_max,
            min_tokens=0 if sampling.ignore_eos else sampling.tokens_min,
            temperature=0.0 if greedy else sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            # A generator cannot be handed on, and must not draw the same numbers again.
            seed=((sampling.seed or 0) + made * _SEED_STRIDE) & _SEED_MAX,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logprobs=0 if sampling.logprobs else None,
            ignore_eos=sampling.ignore_eos,
            stop_token_ids=[] if sampling.ignore_eos else sorted(ends),
            structured_outputs=_structured(sampling.grammar),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            skip_clone=True,
        )
    except refusals() as error:
        raise refusal(error) from error


def refusals(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what the library raises where it does not take something, and others."""
    from vllm.exceptions import VLLMError  # noqa: PLC0415 - heavy

    return (ValueError, VLLMError, *others)


def refusal(error: Exception) -> Refused:
    """Return what the library said of a request that it does not take."""
    param = getattr(error, "parameter", None)
    said = str(error.args[0]) if error.args else type(error).__name__
    return Refused(
        f"The engine does not take this request: {said[:_SAID_CHARACTERS_MAX]}",
        param=param if isinstance(param, str) else None,
    )


def _check(sampling: Sampling) -> None:
    """Refuse what has no meaning, in our words."""
    bounds = (
        ("temperature", sampling.temperature, 0.0, _TEMPERATURE_MAX),
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
    if sampling.grammar is not None and (sampling.ignore_eos or sampling.tokens_min):
        raise Refused(
            "A grammar says where the answer ends, so ignore_eos and min_tokens cannot be "
            "combined with response_format.",
            param="ignore_eos" if sampling.ignore_eos else "min_tokens",
        )


def _structured(grammar: Grammar | None) -> Any:  # noqa: ANN401 - the library's
    """Return the library's form of a grammar."""
    if grammar is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415 - heavy

    return StructuredOutputsParams(json=_schema(grammar))


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
