"""Drill: more requests than can be served, for seconds, and what the server makes of them.

For each multiple, on a server of its own: its capacity in a closed loop, then an open loop of
random arrivals with distinct prompts, while a gentle wave of probes runs before, through and
after it; then its capacity again.  Latencies count from the moment a request was due
(`forebay.bench.open_loop`).
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from forebay.bench.client import Target
from forebay.bench.open_loop import Sent
from forebay.bench.stats import percentile
from forebay.bench.workload import NUMBER, Wave
from forebay.drill.findings import DrillFailed, Findings, Gate, at_least, at_most, exactly
from forebay.drill.generator import Made, Plan, generated, percentiles_ms
from forebay.drill.server import Server
from forebay.drill.stage import Drill, Stage

GOODPUT_SHARE: Final = {3: 0.95, 10: 0.90, 50: 0.80}
"""At so many times the capacity, the goodput that is left of the peak."""
SLO_S: Final = 2.0
"""Time to first token within which an interactive request is served well: the server's own."""
REFUSAL_MS: Final = 20.0
RECOVERY_S: Final = 5.0
RETRY_SHARE: Final = 0.8
_RETRIED: Final = 0.1
"""Of those refused, the share that comes back when it was told to."""
_SETTLING_S: Final = 1.0
"""Left out at the beginning of each load: an empty server has to fill first."""
_PROBES: Final = 0.2
"""The gentle wave, as a share of the capacity."""
_NORMAL_FACTOR, _NORMAL_S = 1.5, 0.05
"""A probe is normal up to so many times the p99 of before, and so many seconds more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of a kind of server, and how it is set up for it."""

    model: str
    tokens: int
    prompt: str
    hands: tuple[int, ...]
    """Numbers of clients in a closed loop among which the peak is looked for."""
    settings: tuple[str, ...] = ()

    def body(self) -> str:
        """Return the request's body; its number makes every prompt another one."""
        return json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": f"{NUMBER} {self.prompt}"}],
                "max_tokens": self.tokens,
                "ignore_eos": True,
                "temperature": 0.7,  # no answer may serve twice
                "stream": True,
            }
        )


SCRIPTED: Final = Load(
    model="scripted",
    tokens=16,
    prompt="words that are said again until there are enough of them",
    hands=(16,),
    settings=("scripted.decode_s=0.01", "scripted.prefill_s=0.02", "scripted.running_max=8"),
)
MODEL: Final = Load(
    model="smollm2-135m-instruct",
    tokens=24,
    prompt="Tell me in a few words what a river is, and where it goes.",
    hands=(8, 16, 32),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long everything takes, seconds."""

    capacity_s: float
    before_s: float
    load_s: float
    after_s: float

    @property
    def ends_s(self) -> float:
        """When the overload is over."""
        return self.before_s + self.load_s


FULL: Final = Pace(capacity_s=10.0, before_s=5.0, load_s=20.0, after_s=12.0)
QUICK: Final = Pace(capacity_s=4.0, before_s=3.0, load_s=8.0, after_s=8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most that a server serves well."""

    per_s: float
    hands: int


def run(stage: Stage) -> Findings:
    """Overload a server at each multiple; each has a server of its own, and its own peak."""
    found = {times: _overloaded(stage, times) for times in GOODPUT_SHARE}
    figures = {f"{times}x": each for times, each in found.items()}
    return Findings(
        gates=tuple(gate for times, each in found.items() for gate in gates_of(times, each)),
        figures={"slo_s": SLO_S, "settings": load_of(stage.engine).settings, **figures},
    )


def _overloaded(stage: Stage, times: int) -> dict[str, Any]:
    load, pace = load_of(stage.engine), pace_of(stage)
    with stage.serving(*load.settings) as server:
        peak = peak_of(stage, server.target, load, seconds=pace.capacity_s)
        gateway_s, worker_s = _used(server)
        plan = plan_of(server.target, load, pace, peak=peak, times=times)
        made = generated(stage, f"{times} times {peak.per_s:.1f}/s", plan)
        gateway_s, worker_s = (
            late - early for late, early in zip(_used(server), (gateway_s, worker_s), strict=True)
        )
        same = dataclasses.replace(load, hands=(peak.hands,))
        after = peak_of(stage, server.target, same, seconds=pace.capacity_s)
    # A machine that others use changes its pace within the minute: the peak is that of around.
    around = dataclasses.replace(peak, per_s=(peak.per_s + after.per_s) / 2)
    return {
        "peak_per_s": around.per_s,
        "peak_before_per_s": peak.per_s,
        "peak_after_per_s": after.per_s,
        "peak_hands": peak.hands,
        **measured(made, pace, around),
        "gateway_cpu_s": gateway_s,
        "worker_cpu_s": worker_s,
        "gateway_cpu_us_a_request": 1e6 * gateway_s / len(made.samples),
    }


def load_of(engine: str) -> Load:
    """Return the load for an engine."""
    return SCRIPTED if engine == "scripted" else MODEL


def pace_of(stage: Stage) -> Pace:
    """Return how long an overload takes."""
    return QUICK if stage.quick else FULL


def peak_of(stage: Stage, target: Target, load: Load, *, seconds: float) -> Peak:
    """Measure the capacity in closed loops; return the best."""
    found = []
    for hands in load.hands:
        wave = Wave(name="closed", body=load.body(), seconds=seconds, hands=hands)
        made = generated(
            stage,
            f"capacity with {hands} clients",
            Plan(target=target, waves=(wave,), seed=hands),
        )
        per_s = goodput(made.samples, _SETTLING_S, seconds)
        found.append(Peak(per_s=per_s, hands=hands))
    best = max(found, key=lambda peak: peak.per_s)
    if not best.per_s:
        raise DrillFailed(f"nothing was served within {SLO_S:.0f} s, not even without overload")
    return best


def plan_of(target: Target, load: Load, pace: Pace, *, peak: Peak, times: int) -> Plan:
    """Return gentle probes throughout, and the overload in their middle."""
    probes = Wave(
        name="probes",
        body=load.body(),
        per_s=peak.per_s * _PROBES,
        seconds=pace.ends_s + pace.after_s,
    )
    overload = Wave(
        name="overload",
        body=load.body(),
        per_s=peak.per_s * times,
        begins_s=pace.before_s,
        seconds=pace.load_s,
        retried_share=_RETRIED,
    )
    return Plan(target=target, waves=(probes, overload), seed=times)


def measured(made: Made, pace: Pace, peak: Peak) -> dict[str, Any]:
    """Return the figures of one overload."""
    during = [each for each in made.samples if pace.before_s <= each.due < pace.ends_s]
    refused = [each for each in during if is_refusal(each)]
    retries = [each for each in during if each.retry]
    others = [each for each in during if not each.ok and not is_refusal(each)]
    per_s = goodput(made.samples, pace.before_s + _SETTLING_S, pace.ends_s)
    return {
        "offered_per_s": len(during) / pace.load_s,
        "goodput_per_s": per_s,
        "goodput_share": per_s / peak.per_s,
        "admitted": sum(each.ok for each in during),
        "first_token_ms": percentiles_ms([ttft_s(each) for each in during if each.ok]),
        "refused": len(refused),
        "refusal_ms": percentiles_ms([each.ended - each.due for each in refused]),
        "retry_after_ms": percentiles_ms([(each.retry_after_ms or 0) / 1000 for each in refused]),
        "retries": len(retries),
        "retries_ok_share": _share(each.ok for each in retries),
        "retries_good_share": _share(is_good(each) for each in retries),
        "otherwise": len(others),
        "otherwise_why": sorted({f"{each.status} {each.error}".strip() for each in others})[:5],
        "recovery_s": recovery_s(made.of("probes"), pace),
        "generator": made.cost(),
    }


def gates_of(times: int, found: Mapping[str, Any]) -> list[Gate]:
    """Return what was promised of an overload of so many times the capacity."""
    retried = found["retries_ok_share"]
    return [
        at_least(
            f"{times}x: goodput of peak",
            100 * found["goodput_share"],
            100 * GOODPUT_SHARE[times],
            "%",
        ),
        at_most(
            f"{times}x: admitted TTFT p99", found["first_token_ms"].get("p99"), 2_000 * SLO_S, "ms"
        ),
        at_most(f"{times}x: refusals p99", found["refusal_ms"].get("p99"), REFUSAL_MS, "ms"),
        at_most(f"{times}x: normal again after", found["recovery_s"], RECOVERY_S, "s"),
        at_least(
            f"{times}x: retries when told to that succeed",
            None if retried is None else 100 * retried,
            100 * RETRY_SHARE,
            "%",
        ),
        exactly(f"{times}x: neither served nor refused", found["otherwise"], 0),
    ]


def goodput(samples: Sequence[Sent], begins_s: float, ends_s: float) -> float:
    """Return the requests a second that were served well in a window.

    One that began before it or ended after it counts for the share of its time that lies inside:
    a batch whose requests are alike ends many at once, and whether such a moment falls into the
    window would decide a sixth of the figure.
    """
    good = sum(_within(each, begins_s, ends_s) for each in samples if is_good(each))
    return good / (ends_s - begins_s)


def _within(sample: Sent, begins_s: float, ends_s: float) -> float:
    inside_s = min(sample.ended, ends_s) - max(sample.due, begins_s)
    return max(0.0, inside_s) / max(sample.ended - sample.due, 1e-9)


def is_good(sample: Sent) -> bool:
    """Return whether a request was served whole, its first token within the objective."""
    return sample.ok and ttft_s(sample) <= SLO_S


def is_refusal(sample: Sent) -> bool:
    """Return whether a request was turned away with words."""
    return sample.status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS)


def ttft_s(sample: Sent) -> float:
    """Return the time to first token, counted from when the request was due."""
    return (sample.ended if sample.first is None else sample.first) - sample.due


def recovery_s(probes: Sequence[Sent], pace: Pace) -> float | None:
    """Return how long after the overload probes are as before; None if they never are.

    It is the moment of the last probe that was refused, failed, or slower than normal.
    """
    before = [ttft_s(each) for each in probes if each.ok and each.due < pace.before_s]
    if not before:
        return None
    normal_s = max(_NORMAL_FACTOR * percentile(before, 0.99), percentile(before, 0.99) + _NORMAL_S)
    after = [each for each in probes if each.due >= pace.ends_s]
    bad = [each.due for each in after if not each.ok or ttft_s(each) > normal_s]
    if not after or (bad and max(bad) == max(each.due for each in after)):
        return None
    return max(bad) - pace.ends_s if bad else 0.0


def _share(found: Iterable[bool]) -> float | None:
    values = list(found)
    return sum(values) / len(values) if values else None


def _used(server: Server) -> tuple[float, float]:
    return server.own_usage().cpu_s, server.worker_usage().cpu_s


OVERLOAD: Final = Drill(
    name="overload",
    about="3, 10 and 50 times the load that it can serve: what is served, what is refused, when",
    run=run,
    engines=("scripted", "auto"),
)
