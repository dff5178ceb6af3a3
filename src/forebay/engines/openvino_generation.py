"""How a request's sampling is said to OpenVINO GenAI."""

from typing import Any

from forebay.core.request import Sampling
from forebay.engines.sampling_bounds import TEMPERATURE_MIN, schema_of


def generation_config(sampling: Sampling, ends: frozenset[int]) -> Any:  # noqa: ANN401 - the library's
    """Return the library's form of `sampling`, or raise Refused for a schema it cannot keep.

    `ends` are the token ids that end a sequence unless they are to be ignored.
    """
    import openvino_genai  # noqa: PLC0415 - heavy

    generation = openvino_genai.GenerationConfig()
    generation.max_new_tokens = sampling.tokens_max
    generation.min_new_tokens = sampling.tokens_min
    generation.ignore_eos = sampling.ignore_eos
    generation.stop_token_ids = set() if sampling.ignore_eos else set(ends)
    generation.do_sample = sampling.temperature >= TEMPERATURE_MIN
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
            json_schema=schema_of(sampling.grammar)
        )
    return generation
