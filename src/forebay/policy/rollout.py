"""How much of a route a new model gets: more as it does well, nothing once it does worse.

Theory of operation
-------------------
A *candidate* is compared with the *baseline*, the rest of its route, over the same time: both see
the same machine and the same hour.  It goes up one step of its share when it has been at the
present one for long enough and has answered enough; at any time it goes down to nothing if

- it fails more often: by more than `errors_more_max`, and by more than chance would have it
  (a test of two proportions at `standard_errors_min` standard errors); or
- it is slower: the 95th percentile of its time to first token, or its median time per token, is
  more than `slower_ratio_max` of the baseline's.

At its last step, with everybody, it is held to what the baseline last did.  Who was rolled back
stays so until an operator begins again.
"""

import enum
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from forebay.core.knob import knob

_ERRORS_MIN: Final = 5
"""Fewer failures prove nothing, whatever the share."""
_LOOK_EVERY: Final = 10
"""Answers of the candidate between two judgements: a judgement sorts two windows."""
_P95: Final = 0.95
_P50: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig:
    """A name that leads to one of several models."""

    split: str = knob(
        "", "Models and weights: MODEL=WEIGHT, separated by commas; in a file, a section."
    )
    sticky: str = knob(
        "tenant",
        "Who always comes to the same model: a tenant, or a request by its Idempotency-Key (key).",
        choices=("tenant", "key"),
    )
    candidate: str = knob(
        "", "A model that gets a growing share, as long as it does as well as those of the split."
    )
    steps: str = knob("1, 5, 25, 50, 100", "Shares of the candidate one after the other, percent.")
    step_requests_min: int = knob(
        200, "Answers of the candidate before its share grows.", minimum=1, maximum=1_000_000
    )
    step_s_min: float = knob(
        300.0, "Time at a step before the share grows, seconds.", minimum=0.0, maximum=604_800.0
    )
    window_max: int = knob(
        500, "Newest answers of each side that are compared.", minimum=20, maximum=100_000
    )
    errors_more_max: float = knob(
        0.02, "How much more of its answers may fail, as a share.", minimum=0.0, maximum=1.0
    )
    slower_ratio_max: float = knob(
        1.5, "How much slower it may be than the baseline, a ratio.", minimum=1.0, maximum=100.0
    )
    standard_errors_min: float = knob(
        2.58, "Standard errors beyond which chance is ruled out; 2.58: 1 %.", minimum=0, maximum=10
    )
    shadow: str = knob(
        "", "A model that gets copies of requests; its answers are measured and thrown away."
    )
    shadow_running_max: int = knob(
        4, "Copies that run at once; more are not made.", minimum=0, maximum=10_000
    )
    shadow_ratio: float = knob(1.0, "Share of requests that are copied.", minimum=0.0, maximum=1.0)


class Stage(enum.StrEnum):
    """How far a candidate has come."""

    RAMPING = "ramping"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one answer was like."""

    failed: bool
    """It failed, and the fault was ours."""
    ttft_s: float | None = None
    tpot_s: float | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """The candidate's share has changed; `reason` is for people, with the numbers."""

    stage: Stage
    share: float
    reason: str


def parse_steps(text: str) -> tuple[float, ...]:
    """Read `1, 5, 100` as shares; raises ValueError."""
    try:
        steps = [float(each) / 100.0 for each in text.split(",")]
    except ValueError:
        steps = []
    grow = all(before < after for before, after in pairwise([0.0, *steps]))
    if not steps or not grow or steps[-1] > 1.0:
        raise ValueError(f"'{text[:60]}' is no list of percentages that grow, as 1, 10, 100")
    return tuple(steps)


class Rollout:
    """One candidate on its way.

    Mutable state: stage, step, when the step began, and what each side did lately.
    """

    def __init__(self, config: RouteConfig, now: float) -> None:
        """Begin at the first step."""
        self._config = config
        self._steps = parse_steps(config.steps)
        self.stage = Stage.RAMPING
        self._step = 0
        self._began = now
        self._answers = 0
        self._candidate: deque[Sample] = deque(maxlen=config.window_max)
        self._baseline: deque[Sample] = deque(maxlen=config.window_max)

    @property
    def share(self) -> float:
        """What part of the route the candidate gets."""
        return 0.0 if self.stage is Stage.ROLLED_BACK else self._steps[self._step]

    def saw(self, sample: Sample, now: float, *, candidate: bool) -> Move | None:
        """Take one answer; return what follows from it, if anything does."""
        if not candidate:
            self._baseline.append(sample)
            return None
        self._candidate.append(sample)
        self._answers += 1
        if self.stage is Stage.ROLLED_BACK or self._answers % _LOOK_EVERY:
            return None
        if reason := self._worse():
            return self._move(Stage.ROLLED_BACK, reason)
        return self._grown(now)

    def _grown(self, now: float) -> Move | None:
        config, passed_s = self._config, now - self._began
        if self.stage is Stage.PROMOTED:
            return None
        if self._answers < config.step_requests_min or passed_s < config.step_s_min:
            return None
        reason = f"as good as the baseline over {self._answers} answers and {passed_s:.0f} s"
        self._began, self._answers = now, 0
        if self._step + 1 < len(self._steps):
            self._step += 1
            self._candidate.clear()
            return self._move(Stage.RAMPING, reason)
        return self._move(Stage.PROMOTED, reason)

    def _move(self, stage: Stage, reason: str) -> Move:
        self.stage = stage
        return Move(stage, self.share, reason)

    def _worse(self) -> str:
        """Return in what the candidate is worse; empty where it is not."""
        return self._fails_more() or self._is_slower()

    def _fails_more(self) -> str:
        mine, theirs = self._candidate, self._baseline
        failed = sum(sample.failed for sample in mine)
        before = sum(sample.failed for sample in theirs)
        rate, usual = failed / len(mine), before / max(len(theirs), 1)
        if failed < _ERRORS_MIN or rate - usual <= self._config.errors_more_max:
            return ""
        both = (failed + before) / (len(mine) + len(theirs))
        spread = math.sqrt(both * (1.0 - both) * (1.0 / len(mine) + 1.0 / max(len(theirs), 1)))
        if theirs and rate - usual <= self._config.standard_errors_min * spread:
            return ""
        told = f"{failed} of {len(mine)} answers failed"
        return f"{told}, of the baseline's {before} of {len(theirs)}"

    def _is_slower(self) -> str:
        for name, measure, share in (
            ("time to first token (p95)", _ttft, _P95),
            ("time per token (p50)", _tpot, _P50),
        ):
            mine = sorted(s for each in self._candidate if (s := measure(each)) is not None)
            theirs = sorted(s for each in self._baseline if (s := measure(each)) is not None)
            enough = min(self._config.step_requests_min, self._config.window_max) // 2
            if min(len(mine), len(theirs)) < max(enough, _LOOK_EVERY):
                continue
            slow, usual = _quantile(mine, share), _quantile(theirs, share)
            if slow > usual * self._config.slower_ratio_max:
                return f"its {name} is {slow * 1e3:.1f} ms, the baseline's {usual * 1e3:.1f} ms"
        return ""


def _ttft(sample: Sample) -> float | None:
    return sample.ttft_s


def _tpot(sample: Sample) -> float | None:
    return sample.tpot_s


def _quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, the nearest rank."""
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)]
