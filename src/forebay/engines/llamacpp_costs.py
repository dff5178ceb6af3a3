"""What a step of llama.cpp costs on this machine: measured while it loads, in about two seconds.

Its steps are its own, so they are not timed one by one: the time between a sequence's tokens tells
what a step costs, and the time to its first what reading costs.
"""

import statistics
import time
from dataclasses import dataclass
from typing import Final

from forebay.core.request import Sampling
from forebay.engine.protocol import SequenceId, StepEngine
from forebay.policy.step_costs import StepCosts

_SHORT_TOKENS: Final = 32
_LONG_TOKENS: Final = 256
_READ_S_MAX: Final = 1.0
_SEQUENCES: Final = 16
_STEPS: Final = 4
_STRIDE: Final = 7_919
"""A prime, so that the tokens differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """Seconds, of some prompts at once."""

    first_s: float
    """Until each had its first token."""
    step_s: float
    """Of a step after that: the time between two tokens of a sequence."""


def measure(engine: StepEngine) -> StepCosts:
    """Read and make some tokens; the engine is at rest before and after."""
    short = min(_SHORT_TOKENS, engine.info.context_tokens_max // 2)
    found = _run(engine, prompts=1, prompt_tokens=short)  # memory is touched for the first time
    # A large model on a small machine reads 50 tokens a second: it is not to load for longer.
    affordable = int(_READ_S_MAX / found.first_s * short)
    long = min(_LONG_TOKENS, max(short, affordable), engine.info.context_tokens_max // 2)
    alone = _run(engine, prompts=1, prompt_tokens=long)
    sequences = min(_SEQUENCES, engine.info.running_max, long)
    together_s = alone.step_s
    if sequences > 1:
        together_s = _run(engine, prompts=sequences, prompt_tokens=long // sequences).step_s
    sequence_s = max(0.0, together_s - alone.step_s) / max(1, sequences - 1)
    return StepCosts(
        step_s=max(0.0, alone.step_s - sequence_s),
        sequence_s=sequence_s,
        read_s=max(0.0, alone.first_s - alone.step_s) / long,
    )


def _run(engine: StepEngine, *, prompts: int, prompt_tokens: int) -> _Times:
    how = Sampling(tokens_max=1 + _STEPS, temperature=0.0, seed=0, ignore_eos=True)
    began = time.monotonic()
    for number in range(prompts):
        ids = range(number * prompt_tokens, (number + 1) * prompt_tokens)
        token_ids = [id * _STRIDE % engine.info.vocabulary_size for id in ids]
        engine.submit(SequenceId(-1 - number), token_ids, how)  # a worker's are not negative
    heard: dict[SequenceId, float] = {}
    gaps: list[float] = []
    first = began
    while (stats := engine.stats()).running + stats.waiting:
        for output in engine.step():
            now = time.monotonic()
            if output.id not in heard:
                first = now
            elif output.token_ids:
                gaps.append(now - heard[output.id])
            heard[output.id] = now
    # Not the least: what comes late is followed by what then seems to come at once.
    return _Times(first_s=first - began, step_s=statistics.median(gaps) if gaps else 0.0)
