"""What a step costs on this machine, found by driving a step engine that is at rest.

Admission is right from the first burst on, instead of after it (`policy/step_costs.py`); and
kernels that are made when they are first used are made before anybody waits for them.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from forebay.core.request import Sampling
from forebay.engine.protocol import EngineInfo, SequenceId, StepEngine
from forebay.policy.step_costs import StepCosts

# The figures below: the default model under OpenVINO on two cores, November 2026.
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
_FIRST_ID: Final = -1
"""Ids downwards from here: a worker's are not negative."""
_STEP_FACTOR_SHORT: Final = 3.0
"""A step of a full batch of short sequences, in chunks: 2.4 measured, on a busy machine."""
_STEP_FACTOR_LONG: Final = 24.0
"""The last chunk of a prompt of 8,000 tokens, in first chunks: 13 measured on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasures:
    """What was found, seconds."""

    token_s: float
    """To read a token of a short prompt, its share of the step's constant included."""
    costs: StepCosts

    def told(self, info: EngineInfo, *, batched_tokens: int) -> EngineInfo:
        """Return an engine's facts with what its steps cost; `batched_tokens` fill a step."""
        chunk_s = self.token_s * batched_tokens
        return replace(
            info,
            step_s_max=max(info.step_s_max, _STEP_FACTOR_LONG * chunk_s),
            step_s_short=_STEP_FACTOR_SHORT * chunk_s,
            costs=self.costs,
        )


@dataclass(frozen=True, slots=True)
class Times:
    """How long prompts took that were submitted at once, seconds."""

    first_s: float
    """Until each had its first token."""
    step_s: float
    """Of a step after that; 0 where there was none."""


Timing = Callable[[StepEngine], Times]
"""Drives an engine until it has nothing left to do."""


def by_step(engine: StepEngine) -> Times:
    """Time an engine that reads in its first step, and makes a token of each in every one.

    On a busy machine a step is told by the processor's time, if that is less.
    """
    found = []
    while _is_busy(engine):
        wall, processor = time.monotonic(), time.process_time()
        engine.step()
        found.append(min(time.monotonic() - wall, time.process_time() - processor))
    first_s, *rest_s = found
    # The least of several: what else the machine does only adds.
    return Times(first_s, min(rest_s, default=0.0))


def by_token(engine: StepEngine) -> Times:
    """Time an engine whose library has steps of its own, by when their tokens come."""
    first = began = time.monotonic()
    heard: dict[SequenceId, float] = {}
    gaps_s: list[float] = []
    while _is_busy(engine):
        for output in engine.step():
            now = time.monotonic()
            if output.id not in heard:
                first = now
            elif output.token_ids:
                gaps_s.append(now - heard[output.id])
            heard[output.id] = now
    # Not the least: what comes late is followed by what then seems to come at once.
    return Times(first - began, statistics.median(gaps_s) if gaps_s else 0.0)


def measure(
    engine: StepEngine,
    *,
    tokens_max: int,
    sequences_max: int = _SEQUENCES,
    timing: Timing = by_step,
) -> StepMeasures:
    """Read and make some tokens; the engine is at rest before and after.

    `tokens_max` is how many are read in one step, `sequences_max` how many have memory at once.
    """
    bench = _Bench(engine, timing)
    short = min(_SHORT_TOKENS, tokens_max)
    bench.time(prompts=1, prompt_tokens=short, made=1)  # kernels are made
    short_s = bench.time(prompts=1, prompt_tokens=short, made=1).first_s
    # A large model on a small machine reads 50 tokens a second: it is not to load for longer.
    affordable = int(_READ_S_MAX / short_s * short)
    long = min(_LONG_TOKENS, tokens_max, max(short, affordable))
    long = min(long, engine.info.context_tokens_max - _MADE)
    alone = bench.time(prompts=1, prompt_tokens=long, made=_MADE)
    sequences = min(_SEQUENCES, sequences_max, engine.info.running_max, long)
    together_s = alone.step_s
    if sequences > 1:
        each = long // sequences
        together_s = bench.time(prompts=sequences, prompt_tokens=each, made=_MADE).step_s
    sequence_s = max(0.0, together_s - alone.step_s) / max(1, sequences - 1)
    return StepMeasures(
        token_s=short_s / short,
        costs=StepCosts(
            step_s=max(0.0, alone.step_s - sequence_s),
            sequence_s=sequence_s,
            read_s=max(0.0, alone.first_s - alone.step_s) / long,
        ),
    )


class _Bench:
    """Submits prompts of its own.  Mutable state: the next token, so that no two are alike.

    A prompt that was read before is in the prefix cache, and would cost nothing.
    """

    def __init__(self, engine: StepEngine, timing: Timing) -> None:
        self._engine = engine
        self._timing = timing
        self._next_token = 0

    def time(self, *, prompts: int, prompt_tokens: int, made: int) -> Times:
        """Submit so many prompts, and return how long they took."""
        how = Sampling(tokens_max=made, temperature=0.0, seed=0, ignore_eos=True)
        for number in range(prompts):
            self._engine.submit(SequenceId(_FIRST_ID - number), self._prompt(prompt_tokens), how)
        return self._timing(self._engine)

    def _prompt(self, tokens: int) -> Sequence[int]:
        first, self._next_token = self._next_token, self._next_token + tokens
        size = self._engine.info.vocabulary_size
        return [number * _STRIDE % size for number in range(first, first + tokens)]


def _is_busy(engine: StepEngine) -> bool:
    stats = engine.stats()
    return stats.running + stats.waiting > 0
