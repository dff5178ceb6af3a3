"""What vLLM says of a sequence after a step, as a worker takes it."""

import math
from typing import Any, Final

from forebay.core.request import FinishReason, Sampling
from forebay.engine.protocol import SequenceId, StepOutput

_NOT_FINITE: Final = "The model's numbers overflowed on this sequence; try another precision."
_FAILED: Final = "The engine could not go on with the answer."
_BAD_GRAMMAR: Final = "The engine could not compile the grammar."


def read_output(told: Any, sampling: Sampling) -> StepOutput:  # noqa: ANN401 - the library's
    """Return what a `RequestOutput` of new tokens says; the ids are whole numbers, written."""
    id = SequenceId(int(told.request_id))
    (made,) = told.outputs
    token_ids = list(made.token_ids)
    odds: list[float] = []
    if sampling.logprobs:
        odds = [made.logprobs[place][token].logprob for place, token in enumerate(token_ids)]
    if not all(map(math.isfinite, odds)):
        return StepOutput(id, (), failure=_NOT_FINITE)
    match made.finish_reason:
        case None:
            return StepOutput(id, token_ids, logprobs=odds)
        case "length":
            return StepOutput(id, token_ids, FinishReason.LENGTH, odds)
        case "stop":
            # The library knows no stop texts and no tokens but those that end an answer.
            return StepOutput(id, token_ids[:-1], FinishReason.STOP, odds[:-1], tokens_hidden=1)
        case _:
            failure = _FAILED if sampling.grammar is None else _BAD_GRAMMAR
            return StepOutput(id, (), failure=failure)
