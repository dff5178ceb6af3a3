"""Every panel of every dashboard, asked of a real Prometheus that scrapes a real server."""

import json
import math
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from forebay.bench.client import Target
from forebay.drill.prometheus import Prometheus, Watched, running_prometheus
from forebay.monitoring.alert import Links
from forebay.monitoring.rules import rules
from forebay.serve.slo_file import built_in
from tests.support.dashboards import Asked, asked
from tests.support.server import Server, free_port, serving

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed"
)

SPEED = 600.0
"""How much faster than ours the clock of the rules is: ten minutes are a second."""
WINDOW = "6s"
WAIT_S_MAX = 25.0

EMPTY = {
    "resources/Certificate": "the server speaks no TLS",
    "tenants/Rates exceeded": "open mode has no limits by default",
}
"""Panels that show nothing here, and why."""
RESOLVED = "alerting/Mean time to resolve"
"""Shows nothing before what was wrong is over."""
BY_MACHINE = {
    "resources/GPU utilization": "forebay_gpu_utilization_ratio",
    "resources/GPU memory": "forebay_gpu_memory_total_bytes",
    "resources/GPU temperature": "forebay_gpu_temperature_celsius",
    "resources/GPU power": "forebay_gpu_power_watts",
    "resources/CPU throttled": "forebay_cpu_throttled_seconds_total",
}
"""Panels that show what this machine may lack: there is data where the metric is served."""


def ask(server: Server, model: str, words: str, *, stream: bool = False) -> None:
    body = {"model": model, "stream": stream, "max_tokens": 8, "temperature": 0}
    body["messages"] = [{"role": "user", "content": f"one two three four five six {words}"}]
    request = urllib.request.Request(
        f"{server.url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Cache-Control": "max-age=60"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        error.close()


@pytest.fixture(scope="module")
def done() -> threading.Event:
    """Set when clients have asked enough."""
    return threading.Event()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, done: threading.Event) -> Iterator[Server]:
    """A server with one place, and three clients that go on asking, also for what is not there.

    It is saturated, which is an alert.
    """
    folder = tmp_path_factory.mktemp("server")
    settings = ("metrics.sample_s=0.2", "scripted.running_max=1", "scripted.decode_s=0.01")
    sets = [word for setting in settings for word in ("--set", setting)]
    with serving(folder, "--engine", "scripted", *sets) as server:
        model = json.loads(server.get("/v1/models")[1])["data"][0]["id"]

        def go_on(name: str) -> None:
            number = 0
            while not done.wait(0.05):
                number += 1
                ask(server, model, f"{name} {number}", stream=True)
                ask(server, model, "again")  # the cache of answers has it from the second time on
                ask(server, "nobody", "")

        clients = [threading.Thread(target=go_on, args=(name,)) for name in "abc"]
        for client in clients:
            client.start()
        try:
            yield server
        finally:
            done.set()
            for client in clients:
                client.join()


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    watched = Watched(
        folder=tmp_path_factory.mktemp("prometheus"),
        server=Target(host="127.0.0.1", port=server.port),
        alertmanager=Target(host="127.0.0.1", port=free_port()),
        speed=SPEED,
    )
    with running_prometheus(watched) as prometheus:
        prometheus.load(rules(built_in(), links=Links(), speed=SPEED))
        yield prometheus


def has_data(prometheus: Prometheus, query: Asked) -> bool:
    """Whether a query returns a number; NaN is what a quantile of nothing is."""
    found = prometheus.value(query.filled(WINDOW))
    return found is not None and not math.isnan(found)


def wanting(prometheus: Prometheus, queries: list[Asked]) -> list[tuple[str, str]]:
    """Wait until each query has had data; return those that never did."""
    until = time.monotonic() + WAIT_S_MAX
    while queries and time.monotonic() < until:
        time.sleep(0.5)
        queries = [each for each in queries if not has_data(prometheus, each)]
    return [(each.panel, each.expr) for each in queries]


def test_every_panel_shows_data_or_is_known_to_have_none(
    server: Server, prometheus: Prometheus, done: threading.Event
) -> None:
    served = server.get("/metrics")[1]
    lacking = {panel for panel, name in BY_MACHINE.items() if f"\n{name}" not in served}
    empty = [each for each in asked() if each.panel in {*EMPTY, *lacking}]
    late = [each for each in asked() if each.panel == RESOLVED]
    queries = [each for each in asked() if each not in empty and each not in late]
    assert wanting(prometheus, queries) == []
    for name, label in (("llm_requests_total", "model"), ("forebay_build_info", "instance")):
        assert prometheus.value(f"count by ({label}) ({name})"), "a variable has no choice"
    # Names that OpenMetrics, which Prometheus may ask for, could lose: a colon, and a twin.
    for name in ("vllm:generation_tokens_total", "llm_generation_tokens"):
        assert prometheus.value(name), f"{name} did not reach Prometheus"
    done.set()
    assert wanting(prometheus, late) == []
    for each in empty:
        assert not has_data(prometheus, each), f"{each.panel}: why does it show data?"


def test_what_is_known_to_have_no_data_is_a_panel() -> None:
    assert {*EMPTY, *BY_MACHINE, RESOLVED} <= {each.panel for each in asked()}
