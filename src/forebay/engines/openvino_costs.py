"""What a step costs on this machine: measured while the model is loaded, in about a second.

Admission is right from the first burst on, instead of after it (`policy/step_costs.py`); and
kernels that are made when they are first used are made before anybody waits for them.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from forebay.policy.step_costs import StepCosts

# The figures below: the default model on two cores, November 2026.
_SHORT_TOKENS: Final = 64
"""The fewest that tell what a token costs: 0.54 ms each, as of 256; of 16 each costs 0.82 ms."""
_LONG_TOKENS: Final = 256
"""So many that the step's own 12 ms hardly count beside them; of 512 each costs a tenth more."""
_READ_S_MAX: Final = 1.0
"""Seconds for the long prompt; by choice, half of what the default model takes to load."""
_SEQUENCES: Final = 64
"""So many that noise is small in what each adds: 0.45 to 0.56 ms from 8 on; of two it was 1.5."""
_MADE: Final = 4
"""Tokens of each sequence: its first ends the reading, each further one is a step."""
_STRIDE: Final = 7_919
"""A prime, so that the tokens differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was found, seconds."""

    token_s: float
    """To read a token of a short prompt, its share of the step's constant included."""
    costs: StepCosts


def measure(
    pipeline: Any,  # noqa: ANN401 - the library's
    *,
    vocabulary_size: int,
    sequences_max: int,
    tokens_max: int,
) -> Measured:
    """Read and make some tokens; the pipeline is at rest before and after.

    `tokens_max` is how many fit into a step, and with room to spare into the KV cache.
    """
    bench = _Bench(pipeline, vocabulary_size)
    short = min(_SHORT_TOKENS, tokens_max)
    bench.steps(prompts=1, prompt_tokens=short, made=1)  # kernels are made
    (short_s,) = bench.steps(prompts=1, prompt_tokens=short, made=1)
    # A large model on a small machine reads 50 tokens a second: it is not to load for longer.
    affordable = int(_READ_S_MAX / short_s * short)
    long = min(_LONG_TOKENS, tokens_max, max(short, affordable))
    long_s, *alone_s = bench.steps(prompts=1, prompt_tokens=long, made=_MADE)
    sequences = min(_SEQUENCES, sequences_max, long)
    together_s: Sequence[float] = alone_s
    if sequences > 1:
        each = long // sequences
        _, *together_s = bench.steps(prompts=sequences, prompt_tokens=each, made=_MADE)
    # The least of several: what else the machine does only adds.
    sequence_s = max(0.0, min(together_s) - min(alone_s)) / max(1, sequences - 1)
    step_s = max(0.0, min(alone_s) - sequence_s)
    return Measured(
        token_s=short_s / short,
        costs=StepCosts(
            step_s=step_s,
            sequence_s=sequence_s,
            read_s=max(0.0, long_s - step_s) / long,
        ),
    )


class _Bench:
    """Runs batches of its own.  Mutable state: the library's next id, the next token."""

    def __init__(self, pipeline: Any, vocabulary_size: int) -> None:  # noqa: ANN401 - the library's
        self._pipeline = pipeline
        self._vocabulary_size = vocabulary_size
        self._next_id = 0
        self._next_token = 0

    def steps(self, *, prompts: int, prompt_tokens: int, made: int) -> list[float]:
        """Return how long each step took, seconds; all prompts are read in the first.

        On a busy machine it is told by the processor's time, if that is less.
        """
        import openvino_genai  # noqa: PLC0415 - heavy

        generation = openvino_genai.GenerationConfig()
        generation.max_new_tokens = made
        generation.ignore_eos = True
        handles = [self._add(prompt_tokens, generation) for _ in range(prompts)]
        found = []
        while self._pipeline.has_non_finished_requests():
            wall, processor = time.monotonic(), time.process_time()
            self._pipeline.step()
            found.append(min(time.monotonic() - wall, time.process_time() - processor))
        for handle in handles:
            handle.read()
        return found

    def _add(self, prompt_tokens: int, generation: Any) -> Any:  # noqa: ANN401 - the library's
        import numpy as np  # noqa: PLC0415 - heavy
        import openvino  # noqa: PLC0415 - heavy

        first, self._next_token = self._next_token, self._next_token + prompt_tokens
        token_ids = np.arange(first, first + prompt_tokens, dtype=np.int64) * _STRIDE
        self._next_id += 1
        prompt = openvino.Tensor((token_ids % self._vocabulary_size)[np.newaxis])
        return self._pipeline.add_request(self._next_id, prompt, generation)
