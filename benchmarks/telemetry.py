"""What telemetry costs, and what it costs when those who take it do not.

Servers stand beside each other, and trials go round them, so that ratios are of one run:

- *off*: nobody reads requests (`benchmarks/unobserved.py`).
- *default*: metrics, objectives, receipts, and the log in a file.
- *all*: the same, and a span tree of every request sent to a collector.
- *holes*: the same as all, but the log goes to a TCP peer and the spans to a collector that take
  connections and never read.

With the `scripted` engine at zero pace the gateway is all there is: its CPU per request is the
figure, and the share that telemetry has of it is the worst there can be.  With the real model
(if it is prepared) tokens per second and the time to the first token are what clients see.
Latencies are those of a fixed pace (open loop), because under a full load they say throughput.

Predicted before the first run: in process a log line costs 6 us, metrics and the HTTP tally 12,
objectives 1.5, a receipt 6 with its header, and a sampled trace 40; so of the 230 us that a
request takes at zero pace *default* is +11 % and *all* +30 %, and neither keeps the goal of 2 %
there.  With the real model 14 requests a second are 0.4 ms of a core's second: below what can be
measured, 0.99 to 1.01.  Time to the first token +0.05 ms.  *Holes* against *all*: p99 +-0.5 ms,
no request fails, and lines are dropped once 0.7 MB are on their way.
"""

import asyncio
import json
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks import machine, overhead, processes
from benchmarks.overhead import Plan
from benchmarks.processes import Server
from benchmarks.sinks import sink
from benchmarks.telemetry_calls import calls_us
from forebay.bench.client import Call, ClosedLoop, Target
from forebay.bench.open_loop import OpenLoop
from forebay.bench.stats import median, percentile
from forebay.bench.workload import NUMBER, Wave

PER_S: Final = 200.0
"""Of the fixed pace: a tenth of what fits."""
CONNECTIONS: Final = 10
MODEL: Final = "smollm2-135m-instruct"
STREAMS: Final = 8
TOKENS: Final = 64
GOALS: Final = "throughput >= 0.98, TTFT +0.3 ms; holes: 0 failed, p99 +1 ms"
_SEED: Final = 6
_DROPPED: Final = "forebay_telemetry_dropped_total"

Measured = dict[str, Any]


@contextmanager
def servers(engine: tuple[str, ...], folder: Path) -> Iterator[Mapping[str, Server]]:
    """Run the four, with one engine."""
    with ExitStack() as held:
        collector, hole = held.enter_context(sink("collector")), held.enter_context(sink("hole"))
        spans, lost = (f"traces.endpoint=http://127.0.0.1:{port}" for port in (collector, hole))
        wishes = {
            "off": ("log.requests=false", "receipts.kept_max=0"),
            "default": (),
            "all": (spans,),
            "holes": (lost, f"log.destination=tcp://127.0.0.1:{hole}", "log.lines_max=1000"),
        }
        found = {}
        for name, wish in wishes.items():
            program = "benchmarks.unobserved" if name == "off" else "forebay"
            words = [sys.executable, "-m", program, "serve", *engine]
            for setting in (f"log.destination={folder / name}.jsonl", "log.format=json", *wish):
                words += ["--set", setting]
            found[name] = held.enter_context(processes.serving(words, "/readyz"))
        yield found


def paced(target: Target, seconds: float, seed: int) -> Measured:
    """Ask for streams at a fixed pace; return latencies in milliseconds and how many failed."""
    body = {"model": "scripted", "prompt": NUMBER, "max_tokens": 4, "stream": True}
    wave = Wave(
        name="paced",
        body=json.dumps(body),
        path="/v1/completions",
        stream=True,
        seconds=seconds,
        per_s=PER_S,
    )
    loop = OpenLoop(target, seed=seed)
    asyncio.run(loop.run([wave]))
    firsts = [1e3 * (s.first - s.due) for s in loop.samples if s.ok and s.first is not None]
    ends = [1e3 * (s.ended - s.due) for s in loop.samples if s.ok]
    return {
        "requests": len(loop.samples),
        "failed": sum(not sample.ok for sample in loop.samples),
        "first_ms_p50": median(firsts),
        "ms_p50": median(ends),
        "ms_p99": percentile(ends, 0.99),
    }


def with_model(target: Target, seconds: float) -> Measured:
    """Keep streams of the real model running; return tokens per second and the first's time."""
    wish = {"model": MODEL, "stream": True, "max_tokens": TOKENS, "ignore_eos": True}
    wish["prompt"] = "Once upon a time there was a river, and"
    call = Call(
        path="/v1/completions", body=json.dumps(wish).encode(), stream=True, events_to_skip=0
    )
    loop = ClosedLoop(target, requests_max=10**6, seconds=seconds)
    samples = asyncio.run(loop.run([call] * STREAMS))
    took_s = max(s.ended for s in samples) - min(s.sent for s in samples)
    return {
        "failed": sum(not sample.ok for sample in samples),
        "tokens_per_s": len(samples) * TOKENS / took_s,
        "first_ms_p50": median([1e3 * s.first_s for s in samples if s.first_s is not None]),
    }


def run(plan: Plan) -> Measured:
    """Measure with the scripted engine, and with the model where it is prepared."""
    result: Measured = {"machine": machine.facts(), "trials": plan.trials, "seconds": plan.seconds}
    result["calls_us"] = calls_us()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with servers(("--engine", "scripted"), folder) as found:
            for server in found.values():
                overhead.measure(server, stream=False, connections=4, seconds=1.0)
            result["full"] = _round(found, plan, lambda server, _: _full(server, plan.seconds))
            result["paced"] = _round(
                found, plan, lambda server, seed: paced(server.target, plan.seconds, seed)
            )
            result["dropped"] = {name: dropped_by(server.target) for name, server in found.items()}
        try:
            with servers((MODEL, "--engine", "openvino"), folder) as found:
                for server in found.values():
                    with_model(server.target, 2.0)
                result["model"] = _round(
                    found, plan, lambda server, _: with_model(server.target, 2 * plan.seconds)
                )
        except processes.NotServing as reason:
            result["model_skipped"] = str(reason)[-300:]
    return result


def _full(server: Server, seconds: float) -> Measured:
    return overhead.measure(server, stream=False, connections=CONNECTIONS, seconds=seconds)


def _round(
    found: Mapping[str, Server], plan: Plan, once: Callable[[Server, int], Measured]
) -> dict[str, list[Measured]]:
    """Go round the servers, each time from another one on."""
    names = list(found)
    trials: dict[str, list[Measured]] = {name: [] for name in names}
    for trial in range(plan.trials):
        for index in range(len(names)):
            name = names[(index + trial) % len(names)]
            trials[name].append(once(found[name], _SEED + trial))
    return trials


def dropped_by(target: Target) -> dict[str, float]:
    """Return what a server dropped, by sink."""
    page = _page(target)
    return {
        line.partition('sink="')[2].partition('"')[0]: float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if line.startswith(f"{_DROPPED}{{")
    }


def _page(target: Target) -> str:
    with urllib.request.urlopen(f"http://{target.host}:{target.port}/metrics", timeout=30) as found:
        return str(found.read(), "utf-8")


def report(result: Measured) -> str:
    """Return the result as tables; ratios are taken trial by trial, and are their median."""
    rows = [["", "requests/s, c=10", "of off", "gateway CPU us", "more than off"]]
    for name, trials in result["full"].items():
        cpu = [1e6 * trial["gateway_cpu_s"] / trial["requests"] for trial in trials]
        off = [1e6 * each["gateway_cpu_s"] / each["requests"] for each in result["full"]["off"]]
        more = median([own - base for own, base in zip(cpu, off, strict=True)])
        rates = f"{_median(trials, 'per_s'):,.0f}"
        ratio = _ratio(result["full"], name, "per_s")
        rows.append([name, rates, ratio, f"{median(cpu):.0f}", f"{more:+.0f}"])
    steady = [["", "TTFT p50 ms", "p50 ms", "p99 ms", "failed", "dropped"]]
    for name, trials in result["paced"].items():
        dropped = ", ".join(f"{k} {v:,.0f}" for k, v in result["dropped"][name].items() if v)
        shown = [f"{_median(trials, key):.2f}" for key in ("first_ms_p50", "ms_p50", "ms_p99")]
        failed = sum(trial["failed"] for trial in trials)
        steady.append([name, *shown, str(failed), dropped or "0"])
    text = machine.table("Telemetry, scripted engine at zero pace", rows)
    text += "\n" + machine.table(f"The same at {PER_S:g} streams a second", steady)
    calls = [["a line to a", "p50 us", "p99 us", "p99.9 us", "lost"]]
    for name, found in result["calls_us"].items():
        times = [f"{found[share]:.1f}" for share in ("p50", "p99", "p99.9")]
        calls.append([name, *times, f"{found['lost']:.0%}"])
    text += "\n" + machine.table("What the log takes of a request, in process", calls)
    if "model" in result:
        text += "\n" + machine.table(f"{MODEL}, {STREAMS} streams", _with_model(result["model"]))
    return f"{text}\nGoals: {GOALS}.\n"


def _with_model(trials: dict[str, list[Measured]]) -> list[list[str]]:
    rows = [["", "tokens/s", "of off", "TTFT p50 ms", "failed"]]
    for name, own in trials.items():
        failed = str(sum(trial["failed"] for trial in own))
        rates, first = f"{_median(own, 'tokens_per_s'):,.0f}", f"{_median(own, 'first_ms_p50'):.1f}"
        rows.append([name, rates, _ratio(trials, name, "tokens_per_s"), first, failed])
    return rows


def _ratio(trials: dict[str, list[Measured]], name: str, key: str) -> str:
    pairs = zip(trials[name], trials["off"], strict=True)
    found = sorted(own[key] / off[key] for own, off in pairs)
    return f"{median(found):.3f} ({found[0]:.2f}-{found[-1]:.2f})"


def _median(trials: list[Measured], key: str) -> float:
    return float(median([trial[key] for trial in trials]))
