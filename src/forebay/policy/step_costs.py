"""What a step of a batch costs: measured while an engine loads, before anybody asks.

A step makes one token of each sequence that has begun, and reads what it can of the prompts of
others.  Its time is a constant, which all share, and more for each sequence and each token read.
So the more run at once, the less each pays of the constant; and there is a number from which
on more only make each slower.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """The parts of a step's time, seconds."""

    step_s: float
    """Of any step, whatever it does."""
    sequence_s: float
    """More for each sequence that gets a token."""
    read_s: float
    """More for each token of a prompt that is read."""

    def request_s(self, running: float, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the engine's time for a request of these sizes while so many run."""
        token_s = self.step_s / running + self.sequence_s
        return prompt_tokens * self.read_s + completion_tokens * token_s

    def knee(
        self, running_max: int, ratio: float, *, prompt_tokens: float, completion_tokens: float
    ) -> int:
        """Return how few at once make `ratio` (below 1) of the pace of `running_max` at once."""
        assert 0.0 < ratio < 1.0
        allowed_s = self.request_s(running_max, prompt_tokens, completion_tokens) / ratio
        fixed_s = self.request_s(math.inf, prompt_tokens, completion_tokens)
        shared_s = completion_tokens * self.step_s
        return min(running_max, max(1, math.ceil(shared_s / (allowed_s - fixed_s))))
