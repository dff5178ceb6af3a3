"""Drill: one tenant asks twenty times as much as each other, and what the others feel of it."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Final

from forebay.bench.client import Target
from forebay.bench.open_loop import Sent
from forebay.bench.workload import Wave
from forebay.drill.findings import Findings, at_least, at_most
from forebay.drill.generator import Made, Plan, generated, percentiles_ms
from forebay.drill.overload import Load, is_good, peak_of, ttft_s
from forebay.drill.stage import Drill, Stage

TIMES: Final = 20
SLOWER: Final = 1.5
SERVED_PERCENT: Final = 95.0
_QUIET: Final = 3
"""Quiet tenants."""
_SHARE: Final = 0.15
"""What each quiet tenant asks for, of the capacity."""
_NOISY: Final = "noisy"
_TOKENS: Final = (4, 8, 13, 21, 34)
"""Lengths of answers; 16 on average, as in the load that finds the capacity."""
_SETTLING_S: Final = 1.0
_LOAD: Final = Load(
    model="scripted",
    tokens=16,
    prompt="words that are said again until there are enough of them",
    hands=(64,),
    settings=("scripted.decode_s=0.01", "scripted.prefill_s=0.15", "scripted.running_max=32"),
)


def run(stage: Stage) -> Findings:
    """Measure the quiet tenants alone, then beside the noisy one."""
    seconds = 8.0 if stage.quick else 30.0
    with stage.serving(*_LOAD.settings) as server:
        peak = peak_of(stage, server.target, _LOAD, seconds=4.0)
        alone = generated(
            stage, "quiet tenants alone", _plan(server.target, peak.per_s, seconds, noisy=False)
        )
        beside = generated(
            stage,
            "beside a noisy tenant",
            _plan(server.target, peak.per_s, seconds, noisy=True),
        )
    before, after = _quiet(alone), _quiet(beside)
    p99_alone = before["first_token_ms"].get("p99")
    gates = (
        at_most(
            f"others' TTFT p99, less than {SLOWER} times that of alone",
            after["first_token_ms"].get("p99"),
            SLOWER * (p99_alone or 0.0),
            "ms",
        ),
        at_least("others' requests served well", after["good_percent"], SERVED_PERCENT, "%"),
    )
    figures: dict[str, Any] = {
        "capacity_per_s": peak.per_s,
        "settings": _LOAD.settings,
        "quiet_alone": before,
        "quiet_beside": after,
        "noisy": _of([each for each in beside.samples if _is_noisy(each)]),
        "generator": beside.cost(),
    }
    return Findings(gates=gates, figures=figures)


def _plan(target: Target, per_s: float, seconds: float, *, noisy: bool) -> Plan:
    """Return the quiet tenants' waves, and the noisy one's."""
    waves = [
        wave
        for number in range(1, _QUIET + 1)
        for wave in _waves(f"quiet-{number}", per_s * _SHARE, seconds)
    ]
    if noisy:
        waves += _waves(_NOISY, per_s * _SHARE * TIMES, seconds)
    return Plan(target=target, waves=tuple(waves), seed=7)


def _waves(tenant: str, per_s: float, seconds: float) -> Iterator[Wave]:
    """Yield a tenant's requests: of several lengths, as people's are.

    Were they all of one length, those who began together would end together, and whoever comes
    between would wait for them all: the engine without a model marches in step.
    """
    for tokens in _TOKENS:
        yield Wave(
            name=f"{tenant} {tokens}",
            body=dataclasses.replace(_LOAD, tokens=tokens).body(),
            headers={"authorization": f"Bearer {tenant}"},
            per_s=per_s / len(_TOKENS),
            seconds=seconds,
        )


def _quiet(made: Made) -> dict[str, Any]:
    """Return the figures of all quiet tenants."""
    return _of([each for each in made.samples if not _is_noisy(each) and each.due >= _SETTLING_S])


def _is_noisy(sample: Sent) -> bool:
    return sample.wave.startswith(_NOISY)


def _of(samples: Sequence[Sent]) -> dict[str, Any]:
    served = [each for each in samples if each.ok]
    return {
        "requests": len(samples),
        "served": len(served),
        "good_percent": 100 * sum(map(is_good, samples)) / len(samples) if samples else None,
        "first_token_ms": percentiles_ms([ttft_s(each) for each in served]),
    }


NEIGHBOUR: Final = Drill(
    name="neighbour",
    about="one tenant asks 20 times as much as each other: what the others feel of it",
    run=run,
)
