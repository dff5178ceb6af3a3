"""What a step costs on this machine, found by driving a step engine that is at rest.

Admission is right from the first burst on, instead of after it (`policy/step_costs.py`); and
kernels that are made when they are first used are made before anybody waits for them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from forebay.core.request import Sampling
from forebay.engine.protocol import SequenceId, StepEngine
from forebay.policy.step_costs import StepCosts

_SHORT_TOKENS: Final = 64
_LONG_TOKENS: Final = 256
_READ_S_MAX: Final = 1.0
_SEQUENCES: Final = 64
_MADE: Final = 4
"""Tokens of each sequence: its first ends the reading, each further one is a step."""
_STRIDE: Final = 7_919
"""A prime, so that the tokens differ."""
_FIRST_ID: Final = -1
"""Ids downwards from here: a worker's are not negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasures:
    """What was found, seconds."""

    token_s: float
    """To read a token of a short prompt, its share of the step's constant included."""
    costs: StepCosts


def measure(engine: StepEngine, *, tokens_max: int) -> StepMeasures:
    """Read and make some tokens; `tokens_max` is how many are read in one step."""
    short = min(_SHORT_TOKENS, tokens_max)
    _steps(engine, prompts=1, prompt_tokens=short, made=1)  # kernels are made
    (short_s,) = _steps(engine, prompts=1, prompt_tokens=short, made=1)
    # A large model on a small machine reads 50 tokens a second: it is not to load for longer.
    affordable = int(_READ_S_MAX / short_s * short)
    long = min(_LONG_TOKENS, tokens_max, max(short, affordable))
    long = min(long, engine.info.context_tokens_max - _MADE)
    long_s, *alone_s = _steps(engine, prompts=1, prompt_tokens=long, made=_MADE)
    sequences = min(_SEQUENCES, engine.info.running_max, long)
    together_s: Sequence[float] = alone_s
    if sequences > 1:
        each = long // sequences
        _, *together_s = _steps(engine, prompts=sequences, prompt_tokens=each, made=_MADE)
    # The least of several: what else the machine does only adds.
    sequence_s = max(0.0, min(together_s) - min(alone_s)) / max(1, sequences - 1)
    step_s = max(0.0, min(alone_s) - sequence_s)
    read_s = max(0.0, long_s - step_s) / long
    return StepMeasures(
        token_s=short_s / short,
        costs=StepCosts(step_s=step_s, sequence_s=sequence_s, read_s=read_s),
    )


def _steps(engine: StepEngine, *, prompts: int, prompt_tokens: int, made: int) -> list[float]:
    """Return how long each step took, seconds; all prompts are read in the first.

    On a busy machine it is told by the processor's time, if that is less.
    """
    how = Sampling(tokens_max=made, temperature=0.0, seed=0, ignore_eos=True)
    for number in range(prompts):
        first = number * prompt_tokens
        token_ids = [
            (first + place) * _STRIDE % engine.info.vocabulary_size
            for place in range(prompt_tokens)
        ]
        engine.submit(SequenceId(_FIRST_ID - number), token_ids, how)
    found = []
    while (stats := engine.stats()).running + stats.waiting:
        wall, processor = time.monotonic(), time.process_time()
        engine.step()
        found.append(min(time.monotonic() - wall, time.process_time() - processor))
    return found
