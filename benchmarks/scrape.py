"""What does a scrape cost, and does it move anybody else?  A page near its bound, on a real server.

The server runs the `scripted` engine.  First a flood of wrong paths and methods makes whatever
series there can be of HTTP; then each page is read one after the other, and beside it `/livez`,
an idle route of the same server, so that figures are compared within one run.  Then others ask
for short completions at a fixed pace, calm and with four scrapes a second in turn: sixty times as
many as a Prometheus that reads every 15 s.

Predicted before it was first run, from a profile in process on a busy machine: 1,900 series with
aliases in 18 ms, 1,200 without in 7 ms, OpenMetrics a tenth more; `/livez` 0.35 ms, so that a page
is 50 times that.  Goal: 50 ms.  Others' p50 1.02 and p99 1.5 times the calm ones, because no piece
of a page holds the loop for more than 3 ms.  One exchange costs 1.2 us to count.
"""

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import machine, processes
from forebay.bench.client import Target
from forebay.bench.open_loop import OpenLoop
from forebay.bench.stats import median, percentile
from forebay.bench.workload import NUMBER, Wave
from forebay.core.request import Route
from forebay.core.visit import Visit
from forebay.telemetry.http_tally import HttpTally

GOAL_MS: Final = 50.0
READS: Final = 20
OTHERS_PER_S: Final = 60.0
SCRAPES_PER_S: Final = 4.0
VISITS: Final = 20_000
OPEN_METRICS: Final = "application/openmetrics-text; version=1.0.0"
PAGES: Final = {
    "idle route": ("/livez", ""),
    "text": ("/metrics", "text/plain; version=0.0.4"),
    "OpenMetrics": ("/metrics", OPEN_METRICS),
}
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
_PATHS: Final = (
    *("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/infer"),
    *("/generate", "/generate_batch", "/generate_stream", "/v1/streams/x", "/livez", "/nowhere"),
)
_SEED: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how often."""

    trials: int
    seconds: float
    """Of each round, calm or scraped."""


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, *, accept: str = ""
) -> bytes:
    """Ask on a connection that stays open, and return the body."""
    body = json.dumps({"model": "scripted", "prompt": "a b"}) if method == "POST" else None
    headers = {"content-type": "application/json"} | ({"accept": accept} if accept else {})
    connection.request(method, path, body, headers)
    return connection.getresponse().read()


def flood(connection: http.client.HTTPConnection) -> None:
    """Make what series of HTTP there can be: each route by each method."""
    for path in _PATHS:
        for method in _METHODS:
            ask(connection, method, path)


def pages(connection: http.client.HTTPConnection) -> dict[str, list[float]]:
    """Return how long each page took, milliseconds, in turn."""
    found: dict[str, list[float]] = {name: [] for name in PAGES}
    for _ in range(READS):
        for name, (path, accept) in PAGES.items():
            began = time.perf_counter()
            ask(connection, "GET", path, accept=accept)
            found[name].append(1_000 * (time.perf_counter() - began))
    return found


@contextmanager
def scraping(target: Target) -> Iterator[None]:
    """Scrape at a fixed pace beside whatever is done meanwhile."""
    over = threading.Event()

    def work() -> None:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
        while not over.wait(1 / SCRAPES_PER_S):
            ask(connection, "GET", "/metrics", accept=OPEN_METRICS)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def others(target: Target, seconds: float, seed: int) -> list[float]:
    """Return how long others waited for their answers, milliseconds."""
    wave = Wave(
        name="others",
        body=json.dumps({"model": "scripted", "prompt": NUMBER, "max_tokens": 4}),
        path="/v1/completions",
        stream=False,
        seconds=seconds,
        per_s=OTHERS_PER_S,
    )
    loop = OpenLoop(target, seed=seed)
    asyncio.run(loop.run([wave]))
    bad = [sample for sample in loop.samples if not sample.ok]
    assert not bad, f"{len(bad)} of the others failed: {bad[0]}"
    return [1_000 * (sample.ended - sample.due) for sample in loop.samples]


def counting_us() -> list[float]:
    """Return what it costs to count an exchange, microseconds, round by round."""
    visits = [
        Visit(id="v", method="POST", path="/", received=0.0, route=route, ended=0.1, status=200)
        for route in Route
    ]
    tally, found = HttpTally(), []
    for _ in range(9):
        began = time.perf_counter()
        for number in range(VISITS):
            tally(visits[number % len(visits)])
        found.append((time.perf_counter() - began) / VISITS * 1e6)
    return found


def measured(settings: tuple[str, ...], plan: Plan) -> dict[str, Any]:
    """Measure one server."""
    with processes.forebay("scripted", settings=settings) as server:
        target = server.target
        connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
        flood(connection)
        page = ask(connection, "GET", "/metrics").decode()
        found: dict[str, Any] = {
            "series": sum(not line.startswith("#") for line in page.splitlines()),
            "bytes": len(page),
            "pages": {name: [] for name in PAGES},
            "calm": [],
            "scraped": [],
        }
        others(target, 1.0, _SEED)
        for trial in range(plan.trials):
            for name, took in pages(connection).items():
                found["pages"][name] += took
            found["calm"] += others(target, plan.seconds, _SEED + trial)
            with scraping(target):
                found["scraped"] += others(target, plan.seconds, _SEED + trial)
        connection.close()
        return found


def run(plan: Plan) -> dict[str, Any]:
    """Measure with aliases and without; return the raw result."""
    return {
        "machine": machine.facts(),
        "counting_us": counting_us(),
        "with aliases": measured((), plan),
        "without": measured(("metrics.aliases=",), plan),
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as tables."""
    rows = [["", "series", "kB", "p50 ms", "p99 ms", "goal ms", "times an idle route"]]
    moved = [["", "calm p50 ms", "scraped", "calm p99 ms", "scraped"]]
    for name in ("with aliases", "without"):
        found = result[name]
        idle = median(found["pages"]["idle route"])
        for page, took in found["pages"].items():
            size = [f"{found['series']}", f"{found['bytes'] / 1_000:.0f}"]
            times = [f"{median(took):.2f}", f"{percentile(took, 0.99):.2f}"]
            goal = ["-"] if page == "idle route" else [f"{GOAL_MS:g}"]
            rows.append([f"{name}, {page}", *size, *times, *goal, f"{median(took) / idle:.0f}"])
        shares = [
            f"{percentile(found[kind], share):.2f}"
            for share in (0.5, 0.99)
            for kind in ("calm", "scraped")
        ]
        moved.append([name, *shares])
    counted = f"\nAn exchange costs {median(result['counting_us']):.2f} us to count.\n"
    titled = machine.table("A scrape", rows)
    return (
        titled
        + machine.table(f"Others, beside {SCRAPES_PER_S:g} scrapes a second", moved)
        + counted
    )
