"""What the gateway costs: Forebay with the `scripted` engine at zero pace, and paced.

Metrics and the request log are on (a file; its lines are counted afterwards).  The load
generator shares the machine's cores.  "Added" is HTTP latency less what the engine takes bare,
in one process, for the same request.
"""

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import machine, processes
from benchmarks.processes import Server
from forebay.bench.client import Call, ClosedLoop, Sample
from forebay.bench.processes import Usage, machine_cpu_s
from forebay.bench.stats import median, percentile
from forebay.core.request import Message, Role, Sampling
from forebay.engine.protocol import SequenceId
from forebay.engines.scripted import ScriptedConfig, ScriptedEngine

PROMPT: Final = "What is the capital of France? And what is the capital of Spain?"
ANSWER_TOKENS: Final = 8
"""Of a whole completion: about 400 bytes, as the peers' 320."""
TOKENS: Final = 64
"""Of a stream, as the peers' 64 events."""
PACE_S: Final = 0.010
PACED_STREAMS: Final = 20
CONNECTIONS: Final = (1, 10, 50)
_WARM_REQUESTS: Final = 300
_QUIET_CORES: Final = 0.1
"""Trials in which other programs used more are left out of the medians, not of the file."""
_QUIET_TRIALS_MIN: Final = 3

# Requests a second at 1, 10 and 50 connections; added ms at 1; streams a second at 1, 10 and 50;
# CPU us a paced chunk; RSS MB after load; cold start s.  Measured by us on 2 vCPU AMD EPYC, one
# core for the target and one for the load: another machine, so compare orders of magnitude.
PEERS: Final = {
    "LiteLLM 1.109.1, production, 1 worker": "78 / 101 / 125|12.2|26 / 25 / 22|864|425|7.3",
    "Portkey 1.15.2": "451 / 853 / 1,305|1.4|33 / 277 / 580|138|210|0.48",
    "MLflow AI Gateway 3.17.2": "1,201 / 1,820 / 1,263|0.80|332 / 332 / 326|125|462|5.0",
    "uvicorn alone, forwarding": "5,058 / 23,336 / 26,040|0.16|1,363 / 1,641 / -|39|30|0.15",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how often."""

    trials: int
    seconds: float
    """Of each measurement."""


def call(*, stream: bool) -> Call:
    """Return the request: a whole completion, or a stream."""
    wish: dict[str, Any] = {
        "model": "scripted",
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": TOKENS if stream else ANSWER_TOKENS,
        "ignore_eos": True,
    }
    if stream:
        wish["stream"] = True
    return Call(
        path="/v1/chat/completions",
        body=json.dumps(wish).encode(),
        stream=stream,
        events_to_skip=1,
    )


def measure(server: Server, *, stream: bool, connections: int, seconds: float) -> dict[str, Any]:
    """Load the server and return what came of it."""
    before = _spent(server)
    began = time.perf_counter()
    loop = ClosedLoop(server.target, requests_max=10**9, seconds=seconds)
    samples = uvloop.run(loop.run([call(stream=stream)] * connections))
    took_s = time.perf_counter() - began
    after = _spent(server)
    bad = [sample for sample in samples if not sample.ok]
    assert not bad, f"{len(bad)} of {len(samples)} failed: {bad[0]}"
    events = sum(sample.events for sample in samples)
    gateway_s, worker_s, client_s, machine_s = (
        late - early for early, late in zip(before, after, strict=True)
    )
    return {
        "requests": len(samples),
        "per_s": len(samples) / took_s,
        "latency_ms": _percentiles([sample.latency_s for sample in samples]),
        "first_ms": _percentiles([s.first_s for s in samples if s.first_s is not None]),
        "events_per_stream": events / len(samples),
        "gateway_cpu_s": gateway_s,
        "worker_cpu_s": worker_s,
        "client_cpu_share": client_s / took_s,
        "others_cpu_share": max(0.0, machine_s - gateway_s - worker_s - client_s) / took_s,
        "events": events,
    }


def bare_ms(requests: int = 300) -> dict[str, float]:
    """Return what the engine takes without us: render, encode, step, decode, in one process."""
    engine = ScriptedEngine(ScriptedConfig())
    took = []
    message = Message(role=Role.USER, content=PROMPT)
    for number in range(requests):
        began = time.perf_counter()
        detokenizer = engine.tokenizer.detokenizer()
        prompt = engine.tokenizer.chat([message])
        engine.submit(
            SequenceId(number), prompt, Sampling(tokens_max=ANSWER_TOKENS, ignore_eos=True, seed=0)
        )
        ended = False
        while not ended:
            for output in engine.step():
                detokenizer.push(output.token_ids)
                ended = output.finish_reason is not None
        took.append(time.perf_counter() - began)
    return _percentiles(took)


def cold_start_s(times: int) -> list[float]:
    """Return seconds from the command to ready."""
    found = []
    for _ in range(times):
        with processes.forebay("scripted") as server:
            found.append(server.ready_s)
    return found


def run(plan: Plan) -> dict[str, Any]:
    """Measure everything; return the raw result."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        result: dict[str, Any] = {"machine": machine.facts(), "trials": plan.trials}
        result["bare_engine_ms"] = bare_ms()
        with (
            processes.forebay("scripted", settings=[f"log.destination={log}"]) as server,
            processes.floor() as floor,
        ):
            servers = {"forebay": server, "floor": floor}
            result["closed_loop"] = _interleaved(servers, plan)
            result["rss_mb"] = {"gateway": _mb(server.own()), "worker": _mb(server.workers())}
        with log.open("rb") as lines:
            result["log_lines"] = sum(1 for _ in lines)
        paced = [f"log.destination={log}", f"scripted.decode_s={PACE_S}"]
        with processes.forebay("scripted", settings=paced) as server:
            _warm(server)
            result["paced"] = [
                measure(server, stream=True, connections=PACED_STREAMS, seconds=2 * plan.seconds)
                for _ in range(plan.trials)
            ]
        result["cold_start_s"] = cold_start_s(plan.trials)
    return result


def report(result: dict[str, Any]) -> str:
    """Return the result as tables, peers beside it."""
    peers = [[name, *row.split("|")] for name, row in PEERS.items()]
    head = ["", "requests/s c=1 / 10 / 50", "added p50 ms, c=1", "streams/s c=1 / 10 / 50"]
    head += ["CPU us/paced chunk", "RSS MB", "cold start s"]
    rows = [head, _summary(result), _floor_summary(result), *peers]
    details = [["", "measured", "goal"], *_goals(result)]
    return machine.table("Gateway overhead", rows) + "\n" + machine.table("Goals", details)


def _interleaved(servers: dict[str, Server], plan: Plan) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for server in servers.values():
        _warm(server)
    for _ in range(plan.trials):
        for stream in (False, True):
            for connections in CONNECTIONS:
                for name, server in servers.items():
                    key = f"{name} {'streams' if stream else 'whole'} c={connections}"
                    trial = measure(
                        server, stream=stream, connections=connections, seconds=plan.seconds
                    )
                    found.setdefault(key, []).append(trial)
    return found


def _spent(server: Server) -> tuple[float, float, float, float]:
    """Return seconds of CPU: gateway, worker, this process, the machine."""
    own, workers = server.own().cpu_s, server.workers().cpu_s
    return own, workers, time.process_time(), machine_cpu_s()


def _quiet(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the trials that other programs hardly disturbed, or all if they are too few."""
    found = [trial for trial in trials if trial["others_cpu_share"] < _QUIET_CORES]
    return found if len(found) >= _QUIET_TRIALS_MIN else trials


def _warm(server: Server) -> None:
    for stream in (False, True):
        requests = _WARM_REQUESTS // (10 if stream else 1)
        loop = ClosedLoop(server.target, requests_max=requests)
        samples: list[Sample] = asyncio.run(loop.run([call(stream=stream)] * 4))
        assert all(sample.ok for sample in samples)


def _summary(result: dict[str, Any]) -> list[str]:
    added = _added(result, 1, "p50")
    gateway = _us_per_event(result, "gateway_cpu_s")
    worker = _us_per_event(result, "worker_cpu_s")
    rss = result["rss_mb"]
    return [
        "**Forebay**, scripted engine, metrics and log on",
        _rates(result, "forebay whole"),
        f"{added:.2f}",
        _rates(result, "forebay streams"),
        f"{gateway:.0f} + {worker:.0f} worker",
        f"{rss['gateway']:.0f} + {rss['worker']:.0f} worker",
        f"{median(result['cold_start_s']):.2f}",
    ]


def _floor_summary(result: dict[str, Any]) -> list[str]:
    p50 = _median_of(result, "floor whole c=1", "latency_ms", "p50")
    name = "uvicorn alone, constant answers, same run"
    return [name, _rates(result, "floor whole"), f"{p50:.2f}", _rates(result, "floor streams")] + [
        "-"
    ] * 3


def _goals(result: dict[str, Any]) -> list[list[str]]:
    gateway = _us_per_event(result, "gateway_cpu_s")
    chunks = _median_of(result, "forebay streams c=10", "events_per_stream") - 1
    added = {c: (_added(result, c, "p50"), _added(result, c, "p99")) for c in (1, 10)}
    rss = result["rss_mb"]["gateway"]
    return [
        ["added ms p50 / p99, c=1", f"{added[1][0]:.2f} / {added[1][1]:.2f}", "p50 0.5"],
        [
            "added ms p50 / p99, c=10",
            f"{added[10][0]:.2f} / {added[10][1]:.2f}",
            "p50 1.5",
        ],
        ["whole requests/s, c=10", _rate(result, "forebay whole c=10"), "4,000"],
        ["whole requests/s, c=50", _rate(result, "forebay whole c=50"), "4,000"],
        ["streams of 64 tokens/s, c=10", _rate(result, "forebay streams c=10"), "1,200"],
        ["streams of 64 tokens/s, c=50", _rate(result, "forebay streams c=50"), "1,200"],
        ["events a stream, c=10 (text and end)", f"{chunks:.1f}", "65 if none merge"],
        ["CPU us/request, c=10: gateway + worker", _cpu_per_request(result, "whole"), "-"],
        ["CPU us/stream, c=10: gateway + worker", _cpu_per_request(result, "streams"), "-"],
        ["gateway CPU us/paced chunk", f"{gateway:.0f}", "80"],
        ["cores that other programs used", _disturbance(result), "0"],
        ["gateway RSS MB", f"{rss:.0f}", "150"],
        ["cold start s", f"{median(result['cold_start_s']):.2f}", "2"],
    ]


def _added(result: dict[str, Any], connections: int, which: str) -> float:
    """Return added milliseconds: HTTP latency less the bare engine's median."""
    latency = _median_of(result, f"forebay whole c={connections}", "latency_ms", which)
    bare: float = result["bare_engine_ms"]["p50"]
    return latency - bare


def _us_per_event(result: dict[str, Any], key: str) -> float:
    return median([1e6 * trial[key] / trial["events"] for trial in result["paced"]])


def _cpu_per_request(result: dict[str, Any], kind: str) -> str:
    trials = _quiet(result["closed_loop"][f"forebay {kind} c=10"])
    parts = ("gateway_cpu_s", "worker_cpu_s")
    found = [median([1e6 * trial[part] / trial["requests"] for trial in trials]) for part in parts]
    return " + ".join(f"{part:.0f}" for part in found)


def _disturbance(result: dict[str, Any]) -> str:
    trials = list(result["closed_loop"].values())
    kept = [_quiet(found) for found in trials]
    cores = median([trial["others_cpu_share"] for found in kept for trial in found])
    return f"{cores:.2f} ({sum(map(len, kept))} of {sum(map(len, trials))} trials kept)"


def _rates(result: dict[str, Any], key: str) -> str:
    return " / ".join(_rate(result, f"{key} c={connections}") for connections in CONNECTIONS)


def _rate(result: dict[str, Any], key: str) -> str:
    return f"{_median_of(result, key, 'per_s'):,.0f}"


def _median_of(result: dict[str, Any], key: str, *path: str) -> float:
    values = []
    for trial in _quiet(result["closed_loop"][key]):
        value: Any = trial
        for name in path:
            value = value[name]
        values.append(value)
    return float(median(values))


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: 1000 * percentile(seconds, share) for name, share in shares.items()}


def _mb(usage: Usage) -> float:
    return usage.rss_bytes / 1e6
