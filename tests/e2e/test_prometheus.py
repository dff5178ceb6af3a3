"""A real Prometheus reads the server: both formats, traces beside buckets, and a restart."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest
import yaml

from forebay.bench.client import Target
from forebay.drill.daemon import daemon
from tests.support.server import Server, free_port, serving

WAIT_S_MAX: Final = 15.0
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
ASKED: Final = (7, 3)
"""Requests in the first life of the server, and in the second."""
OK: Final = 'llm_requests_total{outcome="ok",route="chat_completions",model="scripted"}'

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus is not installed",
)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What Prometheus saw of a server that was started twice, and when that was."""

    target: Target
    began: Sequence[float]
    page: str
    """The page of the second life, as text and without aliases."""

    def ask(self, path: str, **fields: str) -> Any:
        """Ask Prometheus's own interface."""
        url = f"http://{self.target.host}:{self.target.port}/api/v1/{path}?{urlencode(fields)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, query: str) -> list[float]:
        """Return every sample that it took of one series, in order."""
        (series,) = self.ask("query", query=f"{query}[10m]")["result"]
        return [float(value) for _, value in series["values"]]


def chat(server: Server) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "a b c"}]}
    request = urllib.request.Request(
        f"{server.url}/v1/chat/completions",
        data=json.dumps(body | {"max_tokens": 3}).encode(),
        headers={
            "Content-Type": "application/json",
            "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
        },
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 200
        answer.read()


def until_seen(watched: Watched, count: int) -> None:
    """Wait until Prometheus has read so many requests of this life."""
    began = time.monotonic()
    while time.monotonic() - began < WAIT_S_MAX:
        found = watched.ask("query", query=OK)["result"]
        if found and float(found[0]["value"][1]) == count:
            return
        time.sleep(0.1)
    raise AssertionError(f"Prometheus never read {count}: {watched.ask('targets')}")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder, port, own = tmp_path_factory.mktemp("prometheus"), free_port(), free_port()
    config = folder / "prometheus.yml"
    job = {"job_name": "forebay", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    clock = {"scrape_interval": "300ms", "scrape_timeout": "300ms"}
    config.write_text(yaml.safe_dump({"global": clock, "scrape_configs": [job]}))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{own}", "--enable-feature=exemplar-storage"]
    target, began = Target(host="127.0.0.1", port=own), []
    page = ""
    with daemon(command, target=target, log=folder / "prometheus.txt", ready="/-/ready"):
        found = Watched(target=target, began=(), page="")
        for life, count in enumerate(ASKED):
            began.append(time.time())
            with a_life(folder / str(life), port, aliases="" if life else "source,vllm") as server:
                for _ in range(count):
                    chat(server)
                until_seen(found, count)
                page = server.get("/metrics")[1]
        yield Watched(target=target, began=began, page=page)


def a_life(folder: Path, port: int, *, aliases: str) -> AbstractContextManager[Server]:
    folder.mkdir()
    aliased = f"metrics.aliases={aliases}"
    return serving(folder, "--engine", "scripted", "--set", aliased, port=port)


def test_prometheus_reads_the_page_without_complaint(watched: Watched) -> None:
    up, samples = watched.values("up"), watched.values("scrape_samples_scraped")
    # While it is up it is never read in part: a line that cannot be read spoils the whole page.
    assert {seen for well, seen in zip(up, samples, strict=True) if not well} <= {0.0}
    assert max(samples) > 500
    assert sum(up) >= 2


def test_a_trace_is_found_beside_the_bucket_that_its_request_filled(watched: Watched) -> None:
    times = {"start": str(watched.began[0]), "end": str(time.time())}
    for name in (
        "llm_time_to_first_token_seconds_bucket",
        "llm_request_duration_seconds_bucket",
        "llm_time_per_output_token_seconds_bucket",
    ):
        found = watched.ask("query_exemplars", query=name, **times)
        exemplars = [each for series in found for each in series["exemplars"]]
        assert exemplars, name
        for each in exemplars:
            assert each["labels"] == {"trace_id": TRACE}
            assert watched.began[0] < float(each["timestamp"]) < time.time()


def test_a_restart_is_a_reset_that_loses_no_request(watched: Watched) -> None:
    values = watched.values(OK)
    assert watched.ask("query", query=f"resets({OK}[10m])")["result"][0]["value"][1] == "1"
    rises = [
        later - sooner if later >= sooner else later for sooner, later in pairwise([0.0, *values])
    ]
    assert sum(rises) == sum(ASKED)


def test_each_life_says_when_it_began(watched: Watched) -> None:
    told = sorted(set(watched.values("process_start_time_seconds")))
    assert len(told) == 2
    for said, began in zip(told, watched.began, strict=True):
        assert -1.5 < said - began < 5.0  # the kernel counts in hundredths since it was booted


def test_promtool_finds_nothing_to_complain_of_after_traffic(watched: Watched) -> None:
    found = subprocess.run(
        ["promtool", "check", "metrics"],
        input=watched.page,
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
    for name in ("forebay_http_requests_total", "forebay_disk_free_bytes", "forebay_ready 1.0"):
        assert f"\n{name}" in watched.page
