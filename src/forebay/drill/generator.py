"""A load in a process of its own, so that its CPU can be told from everybody else's.

python -m forebay.drill.generator < plan.json > made.json
"""

import contextlib
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import msgspec

from forebay.bench.client import Target
from forebay.bench.open_loop import OpenLoop, Sent
from forebay.bench.stats import percentile
from forebay.bench.workload import Wave
from forebay.drill.findings import DrillFailed
from forebay.drill.stage import Stage

_START_S_MAX: Final = 30.0
_TOLD_S: Final = 0.5
_SHARES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_LATE_S: Final = 0.005
"""A send that is later than this, by the generator's own fault, is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is sent where."""

    target: Target
    waves: tuple[Wave, ...]
    seed: int = 1
    closing_s: float = 30.0

    @property
    def seconds(self) -> float:
        """How long requests are sent."""
        return max(wave.begins_s + wave.seconds for wave in self.waves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What came of it, and what it cost."""

    samples: tuple[Sent, ...]
    cpu_s: float
    wall_s: float

    def of(self, wave: str) -> list[Sent]:
        """Return the samples of one wave."""
        return [sample for sample in self.samples if sample.wave == wave]

    def cost(self) -> dict[str, Any]:
        """Return what the generator used, and how late it was."""
        late = [sample.sent - sample.due for sample in self.samples]
        return {
            "cpu_share": self.cpu_s / self.wall_s,
            "requests": len(self.samples),
            "late_sends": sum(each > _LATE_S for each in late),
            "late_ms": percentiles_ms(late),
        }


class Generator:
    """A generator that runs."""

    def __init__(self, process: "subprocess.Popen[bytes]", plan: Plan, out: IO[bytes]) -> None:
        """Read what `process` makes of `plan` from `out`, once it has ended."""
        self._process = process
        self._plan = plan
        self._out = out

    def made(self, passed: Callable[[float], None] = lambda _: None) -> Made:
        """Wait until it has ended, telling the seconds that passed; return what it made."""
        began = time.monotonic()
        wait_s_max = self._plan.seconds + self._plan.closing_s + _START_S_MAX
        while self._process.poll() is None:
            passed_s = time.monotonic() - began
            if passed_s > wait_s_max:
                raise DrillFailed("the load generator did not end")
            passed(passed_s)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_TOLD_S)
        if self._process.returncode:
            raise DrillFailed(f"the load generator ended with {self._process.returncode}")
        self._out.seek(0)
        return msgspec.json.decode(self._out.read(), type=Made)


@contextlib.contextmanager
def generating(plan: Plan) -> Iterator[Generator]:
    """Run a load beside the body."""
    with tempfile.TemporaryFile() as words_in, tempfile.TemporaryFile() as out:
        words_in.write(msgspec.json.encode(plan))
        words_in.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-m", "forebay.drill.generator"], stdin=words_in, stdout=out
        )
        try:
            yield Generator(process, plan, out)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def generated(stage: Stage, what: str, plan: Plan) -> Made:
    """Run a load to its end, and show how far it is."""
    with generating(plan) as generator:
        return generator.made(lambda passed_s: stage.say(what, passed_s, plan.seconds))


def percentiles_ms(seconds: list[float]) -> dict[str, float]:
    """Return the usual percentiles in milliseconds; nothing of nothing."""
    if not seconds:
        return {}
    return {name: 1000 * percentile(seconds, share) for name, share in _SHARES.items()}


async def _load(plan: Plan) -> tuple[Sent, ...]:
    loop = OpenLoop(plan.target, seed=plan.seed)
    await loop.run(plan.waves, closing_s=plan.closing_s)
    return tuple(loop.samples)


def main() -> None:
    """Read a plan, send it, write what came of it."""
    import uvloop  # noqa: PLC0415 - only this process needs it

    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    gc.disable()  # a pause would be counted as the server's
    began, cpu_s = time.monotonic(), time.process_time()
    samples = uvloop.run(_load(plan))
    made = Made(
        samples=samples,
        cpu_s=time.process_time() - cpu_s,
        wall_s=time.monotonic() - began,
    )
    sys.stdout.buffer.write(msgspec.json.encode(made))


if __name__ == "__main__":
    main()
