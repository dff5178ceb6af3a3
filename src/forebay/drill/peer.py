"""Drill: the same overload against us and against a bare server of the same weights.

The peer is llama.cpp's own HTTP server, as the package `xllamacpp` starts it; where that is not
installed, the drill is skipped.  Each server is measured against its own peak, so that what is
compared is what is left of it under overload, and not whose engine is faster.
"""

import contextlib
import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from forebay.bench import machine
from forebay.bench.client import Target
from forebay.bench.processes import free_port
from forebay.drill.findings import DrillFailed, Findings, Skipped, at_least, at_most
from forebay.drill.generator import generated
from forebay.drill.overload import MODEL, REFUSAL_MS, SLO_S, measured, pace_of, peak_of, plan_of
from forebay.drill.server import page
from forebay.drill.stage import Drill, Stage

TIMES: Final = 10
_START_S_MAX: Final = 60.0
_SEQUENCES: Final = 16
_LOAD: Final = dataclasses.replace(MODEL, hands=(2, 4, *MODEL.hands))
"""Few clients, too: the peer may serve nobody in time beside many."""
_PROGRAM: Final = f"""
import os, sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.port = int(sys.argv[2])
params.n_parallel = {_SEQUENCES}
params.n_ctx = {_SEQUENCES} * 512
params.cache_ram_mib = 0
threads = len(os.sched_getaffinity(0))
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
threading.Event().wait()
"""


def run(stage: Stage) -> Findings:
    """Overload both, one after the other."""
    if find_spec("xllamacpp") is None:
        raise Skipped("xllamacpp is not installed: pip install xllamacpp")
    weights = sorted(stage.models.glob("sources/*/*.gguf"))
    if not weights:
        raise Skipped("the default model is not there: forebay pull smollm2-135m-instruct")
    with stage.serving() as server:
        ours = _overloaded(stage, server.target, "forebay")
    with _peer(stage, weights[0]) as target:
        theirs = _overloaded(stage, target, "llama.cpp")
    kept = 100 * (ours["goodput_share"] - theirs["goodput_share"])
    gates = (
        at_least(f"{TIMES}x: goodput kept of peak, more than the peer", kept, 0.0, "%"),
        at_most(
            f"{TIMES}x: admitted TTFT p99", ours["first_token_ms"].get("p99"), 2_000 * SLO_S, "ms"
        ),
        at_most(f"{TIMES}x: refusals p99", ours["refusal_ms"].get("p99"), REFUSAL_MS, "ms"),
    )
    figures = {"forebay": ours, "llama.cpp": theirs, "weights": weights[0].name}
    return Findings(gates=gates, figures=figures, tables=(_table(ours, theirs),))


def _overloaded(stage: Stage, target: Target, name: str) -> dict[str, Any]:
    pace = pace_of(stage)
    peak = peak_of(stage, target, _LOAD, seconds=pace.capacity_s)
    plan = plan_of(target, _LOAD, pace, peak=peak, times=TIMES)
    made = generated(stage, f"{name}: {TIMES} times {peak.per_s:.1f}/s", plan)
    return {"peak_per_s": peak.per_s, "peak_hands": peak.hands, **measured(made, pace, peak)}


def _table(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    rows = [[f"{TIMES} times the capacity", "Forebay", "llama.cpp's server"]]
    rows += [[what, cell(ours), cell(theirs)] for what, cell in _ROWS]
    return machine.table("The same overload against a bare server", rows)


def _pair(found: dict[str, float]) -> str:
    return f"{found['p50']:,.0f} / {found['p99']:,.0f}" if found else "-"


def _seconds(value: float | None) -> str:
    return "not while we watched" if value is None else f"{value:.1f}"


_ROWS: Final[tuple[tuple[str, Callable[[dict[str, Any]], str]], ...]] = (
    ("peak, served within 2 s, /s", lambda found: f"{found['peak_per_s']:.1f}"),
    ("offered, /s", lambda found: f"{found['offered_per_s']:.0f}"),
    ("served within 2 s, /s", lambda found: f"{found['goodput_per_s']:.1f}"),
    ("of peak", lambda found: f"{100 * found['goodput_share']:.0f} %"),
    ("TTFT of those served, p50 / p99, ms", lambda found: _pair(found["first_token_ms"])),
    ("refused", lambda found: f"{found['refused']}"),
    ("refusals, p50 / p99, ms", lambda found: _pair(found["refusal_ms"])),
    ("neither served nor refused", lambda found: f"{found['otherwise']}"),
    ("normal again after, s", lambda found: _seconds(found["recovery_s"])),
)


@contextlib.contextmanager
def _peer(stage: Stage, weights: Path) -> Iterator[Target]:
    """Run llama.cpp's server until the body ends."""
    stage.say("starting llama.cpp's server")
    target = Target(host="127.0.0.1", port=free_port())
    words = [sys.executable, "-c", _PROGRAM, str(weights), str(target.port)]
    with (stage.folder / "peer.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)  # noqa: S603 - the words are ours
    try:
        began = time.monotonic()
        while page(target, "/health")[0] != HTTPStatus.OK:
            if process.poll() is not None or time.monotonic() - began > _START_S_MAX:
                raise DrillFailed("llama.cpp's server did not start")
            time.sleep(0.1)
        yield target
    finally:
        process.kill()  # it is not what is measured here, and may have thousands waiting
        process.wait()


OVERLOAD_PEER: Final = Drill(
    name="overload-peer",
    about="10 times the load that can be served, against us and against llama.cpp's server",
    run=run,
    engines=("auto",),
)
