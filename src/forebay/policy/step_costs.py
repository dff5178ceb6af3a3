"""What a step of a batch costs: measured while an engine loads, before anybody asks.

A step makes one token of each sequence that has begun, and reads what it can of the prompts of
others.  Its time is a constant, which all share, and more for each sequence and each token
read.  What a request will take follows from that before any was seen (`Forecast.assume`).
"""

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

    def across(self, batches: int) -> "StepCosts":
        """Return what it is like for those who are spread evenly over so many batches."""
        return StepCosts(
            step_s=self.step_s,
            sequence_s=self.sequence_s / batches,
            read_s=self.read_s / batches,
        )
