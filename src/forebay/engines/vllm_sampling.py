"""How a request's sampling is said to vLLM, and what it says of one that it does not take."""

from collections.abc import Collection
from typing import Any, Final

from forebay.core.request import Grammar, Sampling
from forebay.engine.protocol import Refused
from forebay.engines.sampling_bounds import schema_of

TEMPERATURE_MAX: Final = 2.0
"""OpenAI's own bound, which the gateway keeps as well."""

_SEED_MAX: Final = 2**63 - 1
_SEED_STRIDE: Final = 0x9E37_79B9_7F4A_7C15
"""Odd, so that each count of tokens made has a seed of its own."""
_SAID_CHARACTERS_MAX: Final = 300
_TEMPERATURE_MIN: Final = 0.01
"""The library raises what is below; greedy is nearer to what was asked."""


def sampling_params(sampling: Sampling, *, ends: Collection[int], made: int) -> Any:  # noqa: ANN401 - the library's
    """Return the library's form of `sampling`, or raise Refused for what it does not take.

    `ends` are the token ids that end a sequence unless they are to be ignored; `made` is how
    many tokens another engine has made of it.
    """
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


def _structured(grammar: Grammar | None) -> Any:  # noqa: ANN401 - the library's
    """Return the library's form of a grammar."""
    if grammar is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams  # noqa: PLC0415 - heavy

    return StructuredOutputsParams(json=schema_of(grammar))
