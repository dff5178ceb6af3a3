"""A batch that reads its prompts in chunks, behind the real door, on a virtual clock.

A step makes one token of each sequence that has begun, and reads prompts, first come first
served, with what is left of its tokens: as OpenVINO's, vLLM's and others' schedulers do.  Its
time is a constant, more for each sequence, and more for each token read: measured, not guessed.
"""

from dataclasses import dataclass
from math import inf
from typing import Final

from forebay.policy.admission_config import AdmissionConfig
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.limit import Limit
from forebay.policy.step_costs import StepCosts
from tests.support.simulated_door import Caller, SimulatedDoor, Stream
from tests.support.simulated_lane import Shape

_TOKENS_MAX: Final = 512
"""In one step."""


@dataclass(slots=True, kw_only=True, eq=False)
class _Sequence:
    """One in the batch."""

    caller: Caller
    left: int
    """Tokens: of its prompt while it is read, then of what is to be made."""


class SimulatedBatch(SimulatedDoor):
    """The real door before a batch that reads in chunks."""

    def __init__(
        self,
        seed: int,
        *,
        shape: Shape,
        costs: StepCosts,
        limit: Limit,
        known: bool = True,
    ) -> None:
        """Tell the door what a step costs, if that is to be known."""
        super().__init__(seed, shape, limit=limit)
        if known:
            self.queue = AdmissionQueue(AdmissionConfig(), limit, costs)
        self.costs = costs
        self._reading: list[_Sequence] = []
        self._speaking: list[_Sequence] = []
        self._step_ends = inf
        self._read_now: list[tuple[_Sequence, int]] = []
        self._hands: Stream | None = None

    def closed(self, seconds: float, hands: int) -> float:
        """Let so many clients ask again as soon as they are answered; return the served per s."""
        self._hands = Stream(per_s=1.0)
        since = self.now
        for _ in range(hands):
            self._arrive(self._a_caller(self._hands))
        self.run(seconds, [])
        self._hands = None
        until = self.now
        self.run(10.0, [])
        return sum(
            caller.ended is not None and since + 1.0 <= caller.ended < until
            for caller in self.seen.callers
        ) / (seconds - 1.0)

    def _start(self, caller: Caller) -> None:
        self._reading.append(_Sequence(caller=caller, left=caller.prompt_tokens))
        if self._step_ends == inf:
            self._begin_step()

    def _next_work(self) -> float:
        return self._step_ends

    def _pass_until(self, moment: float) -> None:
        self.now = moment

    def _begin_step(self) -> None:
        if not self._reading and not self._speaking:
            self._step_ends = inf
            return
        left = _TOKENS_MAX - len(self._speaking)
        self._read_now = []
        for reading in self._reading:
            part = min(left, reading.left)
            if part <= 0:
                break
            self._read_now.append((reading, part))
            left -= part
        read = sum(part for _, part in self._read_now)
        costs = self.costs
        step_s = costs.step_s + costs.sequence_s * len(self._speaking) + costs.read_s * read
        self._step_ends = self.now + step_s * self.slower

    def _end_step(self) -> None:
        ended = []
        for speaking in self._speaking:
            speaking.left -= 1
            if not speaking.left:
                ended.append(speaking)
        self._speaking = [each for each in self._speaking if each.left]
        for reading, part in self._read_now:
            reading.left -= part
            if not reading.left:
                self._reading.remove(reading)
                self._first(reading.caller)
                reading.left = reading.caller.completion_tokens - 1
                self._speaking.append(reading)
        self._read_now = []
        self._step_ends = inf
        for each in ended:
            self._served(each.caller)
        if self._step_ends == inf:
            self._begin_step()

    def _served(self, caller: Caller) -> None:
        super()._served(caller)
        if self._hands is not None:
            self._arrive(self._a_caller(self._hands))
