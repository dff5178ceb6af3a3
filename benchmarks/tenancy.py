"""What does it cost to know who asks?  Open mode, closed mode, and closed mode with the guard.

Three servers with the `scripted` engine are asked in turn, within one run: nobody is asked who
they are; an API key, with a limit of requests, of tokens and of requests at once on key, user and
tenant; and the same with the guard flagging, which reads the whole prompt each time (it remembers
none).  Prompts have 12 and 300 words.

Predicted before it was first run: a key costs a look-up by SHA-256 (3 us), six limits one GCRA
round (15 us), the allowance as much again and a usage row (20 us): 60 us in all of a request's 900.
The guard 110 us more at 300 words.  p50 added 0.06 ms and 0.2 ms; the goal is 0.5 ms.
"""

import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks import machine, processes
from benchmarks.processes import Server
from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.people import NewKey
from forebay.bench.client import Call, ClosedLoop
from forebay.bench.stats import median, percentile
from forebay.core.caller import Bounds, Rate

GOAL_MS: Final = 0.5
CONNECTIONS: Final = (1, 10)
WORDS: Final = (12, 300)
_MANY: Final = Bounds(
    requests=Rate(amount=100_000_000, period_s=60.0),
    tokens=Rate(amount=100_000_000_000, period_s=60.0),
    concurrent=10_000,
)
_TEXT: Final = "What is the capital of France, and which river runs through its old centre? "
_HEAD: Final = (
    *("prompt", "connections", "open: p50, ms", "a key adds, ms", "the guard too, ms"),
    *("open: CPU, us", "a key adds, us", "the guard too, us"),
)
_GUARDED: Final = ("guard.mode=flag", "guard.remembered_max=0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how often."""

    trials: int
    seconds: float
    """Of each measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server, and what it is shown."""

    server: Server
    headers: dict[str, str]


@contextlib.contextmanager
def site(*settings: str, closed: bool) -> Iterator[Site]:
    """Serve, with a key of its own where that is asked for."""
    with tempfile.TemporaryDirectory(prefix="forebay-tenancy-") as folder:
        headers: dict[str, str] = {}
        words = [str(Path(sys.executable).with_name("forebay")), "serve", "--engine", "scripted"]
        environ: dict[str, str] = {}
        said = [*settings, f"log.destination={folder}/log.jsonl"]
        if closed:
            url = default_url(Path(folder))
            headers["authorization"] = f"Bearer {_key(url)}"
            environ["FOREBAY_ACCOUNTS__URL"] = url
            said.append("access.mode=closed")
        for setting in said:
            words += ["--set", setting]
        with processes.serving(words, "/readyz", environ=environ) as server:
            yield Site(server=server, headers=headers)


def _key(url: str) -> str:
    """Make a key with limits on every level, which it never comes near."""
    config = AccountsConfig(url=url)
    with contextlib.closing(Database(config)) as database:
        database.migrate()
        directory = Directory(database, config, now=time.time)
        directory.create_user("user", tenant="tenant", bounds=_MANY)
        directory.change_tenant("tenant", bounds=_MANY)
        _, text = directory.create_key(NewKey(user="user", bounds=_MANY))
    return text


def measure(one: Site, *, words: int, connections: int, seconds: float) -> dict[str, float]:
    """Load a server and return its latencies, ms, and what it spent on each request, us of CPU."""
    text = " ".join((_TEXT * (words // 12 + 1)).split()[:words])
    body = json.dumps(
        {"messages": [{"role": "user", "content": text}], "max_tokens": 8, "ignore_eos": True}
    )
    call = Call(path="/v1/chat/completions", body=body.encode(), headers=one.headers)
    loop = ClosedLoop(one.server.target, requests_max=10**9, seconds=seconds)
    before = one.server.own().cpu_s
    samples = uvloop.run(loop.run([call] * connections))
    spent_s = one.server.own().cpu_s - before
    bad = [sample for sample in samples if not sample.ok]
    assert not bad, f"{len(bad)} of {len(samples)} failed: {bad[0]}"
    latencies = [sample.latency_s * 1000 for sample in samples]
    return {
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "cpu_us": spent_s / len(samples) * 1e6,
    }


def run(plan: Plan) -> dict[str, Any]:
    """Measure the three in turn."""
    found: dict[str, list[dict[str, float]]] = {}
    with (
        site(closed=False) as anybody,
        site(closed=True) as known,
        site(*_GUARDED, closed=True) as guarded,
    ):
        sites = {"open": anybody, "closed": known, "guarded": guarded}
        for one in sites.values():
            measure(one, words=12, connections=1, seconds=0.5)
        for _ in range(plan.trials):
            for words in WORDS:
                for connections in CONNECTIONS:
                    for name, one in sites.items():
                        key = f"{name} words={words} c={connections}"
                        found.setdefault(key, []).append(
                            measure(one, words=words, connections=connections, seconds=plan.seconds)
                        )
    return {"machine": machine.facts(), "trials": plan.trials, "rows": found}


def report(result: dict[str, Any]) -> str:
    """Write the table."""
    rows = result["rows"]
    goal = f"goal: added p50 <= {GOAL_MS} ms at one connection."
    lines = [
        "# What it costs to know who asks",
        "",
        f"Medians of {result['trials']} interleaved trials; {goal}",
        "",
        "| " + " | ".join(_HEAD) + " |",
        "|" + "--:|" * len(_HEAD),
    ]
    for words in WORDS:
        for connections in CONNECTIONS:
            keys = [
                f"{name} words={words} c={connections}" for name in ("open", "closed", "guarded")
            ]
            p50 = [median([row["p50_ms"] for row in rows[key]]) for key in keys]
            cpu = [median([row["cpu_us"] for row in rows[key]]) for key in keys]
            lines.append(
                f"| {words} words | {connections} | {p50[0]:.2f} | {p50[1] - p50[0]:+.3f} |"
                f" {p50[2] - p50[0]:+.3f} | {cpu[0]:.0f} | {cpu[1] - cpu[0]:+.0f} |"
                f" {cpu[2] - cpu[0]:+.0f} |"
            )
    return "\n".join(lines)
