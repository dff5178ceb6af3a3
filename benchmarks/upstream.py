"""What the gateway costs before an upstream: a mock behind Forebay, and the mock by itself.

Metrics and the request log are on (a file).  Load generator, mock and gateway share the
machine's cores.  "Added" is latency through Forebay less latency direct, in the same trial.
"""

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import machine, processes
from benchmarks.overhead import Plan
from benchmarks.processes import Server
from forebay.bench.client import Call, ClosedLoop
from forebay.bench.processes import machine_cpu_s
from forebay.bench.stats import median, percentile

PROMPT: Final = "What is the capital of France? And what is the capital of Spain?"
CONNECTIONS: Final = (1, 10, 50)
PACE_S: Final = 0.010
PACED_STREAMS: Final = 20
_WARM_REQUESTS: Final = 300

# As in overhead.py: measured by us on another machine, so compare orders of magnitude.
PEERS: Final = {
    "LiteLLM 1.109.1, production, 1 worker": "78 / 101 / 125|12.2|11.2|9,900|864",
    "Portkey 1.15.2": "451 / 853 / 1,305|1.4|29.0|1,170|138",
    "MLflow AI Gateway 3.17.2": "1,201 / 1,820 / 1,263|0.80|1.14|550|125",
    "floor: uvicorn + aiohttp, no features": "2,990 / 9,238 / 8,761|0.29|0.55|107|70",
    "floor: uvicorn + own client, no features": "4,143 / 21,763 / 26,996|0.21|0.36|45|51",
}


def call(model: str, *, stream: bool, role: bool = True) -> Call:
    """Return the request: a whole completion, or a stream.  `role`: its first event has no text."""
    wish: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": 64,
    }
    if stream:
        wish["stream"] = True
    body = json.dumps(wish).encode()
    skipped = 1 if role else 0
    return Call(path="/v1/chat/completions", body=body, stream=stream, events_to_skip=skipped)


def measure(server: Server, wish: Call, *, connections: int, seconds: float) -> dict[str, Any]:
    """Load a server and return what came of it."""
    before = (server.own().cpu_s, time.process_time(), machine_cpu_s())
    began = time.perf_counter()
    loop = ClosedLoop(server.target, requests_max=10**9, seconds=seconds)
    samples = uvloop.run(loop.run([wish] * connections))
    took_s = time.perf_counter() - began
    after = (server.own().cpu_s, time.process_time(), machine_cpu_s())
    bad = [sample for sample in samples if not sample.ok]
    assert not bad, f"{len(bad)} of {len(samples)} failed: {bad[0]}"
    own_s, client_s, machine_s = (late - early for early, late in zip(before, after, strict=True))
    return {
        "requests": len(samples),
        "per_s": len(samples) / took_s,
        "latency_ms": _percentiles([sample.latency_s for sample in samples]),
        "first_ms": _percentiles([s.first_s for s in samples if s.first_s is not None]),
        "events": sum(sample.events for sample in samples),
        "cpu_s": own_s,
        "client_cpu_share": client_s / took_s,
        "machine_cpu_share": machine_s / took_s,
    }


@contextmanager
def fronted(log: Path, *, pace_s: float = 0.0) -> Iterator[dict[str, Server]]:
    """Run the mock, and Forebay before it."""
    with ExitStack() as stack:
        mock = stack.enter_context(processes.mock_upstream(pace_s=pace_s))
        url = f"http://{mock.target.host}:{mock.target.port}/v1"
        settings = [f"log.destination={log}", f"upstream.urls={url}"]
        forebay = stack.enter_context(processes.forebay("upstream", settings=settings))
        yield {"forebay": forebay, "direct": mock}


def run(plan: Plan) -> dict[str, Any]:
    """Measure everything; return the raw result."""
    result: dict[str, Any] = {"machine": machine.facts(), "trials": plan.trials}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.jsonl"
        with fronted(log) as servers:
            result["closed_loop"] = _interleaved(servers, plan)
            result["rss_mb"] = servers["forebay"].own().rss_bytes / 1e6
        with log.open("rb") as lines:
            result["log_lines"] = sum(1 for _ in lines)
        with fronted(log, pace_s=PACE_S) as servers:
            _warm(servers["forebay"])
            result["paced"] = {
                name: [
                    measure(
                        server,
                        call("upstream", stream=True, role=name == "forebay"),
                        connections=PACED_STREAMS,
                        seconds=2 * plan.seconds,
                    )
                    for _ in range(plan.trials)
                ]
                for name, server in servers.items()
            }
    return result


def report(result: dict[str, Any]) -> str:
    """Return the result as tables, peers beside it."""
    head = ["", "requests/s c=1 / 10 / 50", "added p50 ms, c=1", "added TTFT ms, c=1"]
    head += ["CPU us/request, c=10", "CPU us/paced event"]
    ours = [
        "**Forebay** before a mock, metrics and log on",
        _rates(result, "forebay"),
        f"{added(result, 'whole', 'latency_ms'):.2f}",
        f"{added(result, 'streams', 'first_ms'):.2f}",
        f"{cpu_us(result, 'whole'):.0f}",
        f"{paced_us(result):.0f}",
    ]
    direct = ["the mock by itself, same run", _rates(result, "direct"), "-", "-", "-", "-"]
    peers = [[name, *row.split("|")] for name, row in PEERS.items()]
    goals = [
        ["", "measured", "goal"],
        [
            "whole requests/s, c=10",
            f"{_median(result, 'forebay whole c=10', 'per_s'):,.0f}",
            "3,000",
        ],
        ["added p50 ms, c=1", ours[2], "0.7"],
        ["added TTFT ms, c=1", ours[3], "1"],
        ["CPU us/paced event", ours[5], "80"],
        ["streams of 64/s, c=10", f"{_median(result, 'forebay streams c=10', 'per_s'):,.0f}", "-"],
        ["RSS MB", f"{result['rss_mb']:.0f}", "150"],
    ]
    table = machine.table("Before an upstream", [head, ours, direct, *peers])
    return table + "\n" + machine.table("Goals", goals)


def added(result: dict[str, Any], kind: str, what: str) -> float:
    """Return the median over trials of p50 through Forebay less p50 direct, at one connection."""
    pairs = zip(
        result["closed_loop"][f"forebay {kind} c=1"],
        result["closed_loop"][f"direct {kind} c=1"],
        strict=True,
    )
    return float(median([ours[what]["p50"] - theirs[what]["p50"] for ours, theirs in pairs]))


def cpu_us(result: dict[str, Any], kind: str) -> float:
    """Return the gateway's CPU a request at 10 connections, microseconds."""
    trials = result["closed_loop"][f"forebay {kind} c=10"]
    return float(median([1e6 * trial["cpu_s"] / trial["requests"] for trial in trials]))


def paced_us(result: dict[str, Any]) -> float:
    """Return the gateway's CPU an event of paced streams, microseconds."""
    trials = result["paced"]["forebay"]
    return float(median([1e6 * trial["cpu_s"] / trial["events"] for trial in trials]))


def _interleaved(servers: dict[str, Server], plan: Plan) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for server in servers.values():
        _warm(server)
    for _ in range(plan.trials):
        for stream in (False, True):
            for connections in CONNECTIONS:
                for name, server in servers.items():
                    key = f"{name} {'streams' if stream else 'whole'} c={connections}"
                    wish = call("upstream", stream=stream, role=name == "forebay")
                    trial = measure(server, wish, connections=connections, seconds=plan.seconds)
                    found.setdefault(key, []).append(trial)
    return found


def _warm(server: Server) -> None:
    for stream in (False, True):
        requests = _WARM_REQUESTS // (10 if stream else 1)
        loop = ClosedLoop(server.target, requests_max=requests)
        samples = asyncio.run(loop.run([call("upstream", stream=stream)] * 4))
        assert all(sample.ok for sample in samples), samples[0]


def _rates(result: dict[str, Any], name: str) -> str:
    rates = (_median(result, f"{name} whole c={c}", "per_s") for c in CONNECTIONS)
    return " / ".join(f"{rate:,.0f}" for rate in rates)


def _median(result: dict[str, Any], key: str, name: str) -> float:
    return float(median([trial[name] for trial in result["closed_loop"][key]]))


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: 1000 * percentile(seconds, share) for name, share in shares.items()}
