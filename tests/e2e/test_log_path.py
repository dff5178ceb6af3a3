"""The log's whole way: Forebay, a file or TCP, a real rsyslog, an index, a search.

The index is osmem's, which speaks OpenSearch's protocol; nothing here was run on Elasticsearch.
"""

import http.client
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from forebay import __version__
from tests.support.client import chat_body
from tests.support.elastic import charts, search_of
from tests.support.log_path import RSYSLOG, LogPath, an_index, configuration, log_path, missing
from tests.support.server import Server, serving

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not here: {missing()}")

ROOT: Final = Path(__file__).parents[2]
SCRIPTED: Final = ("--engine", "scripted", "--set", "log.environment=test")
CHAT: Final = "/v1/chat/completions"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET_PROMPT: Final = "xyzzy plugh"


class Asked:
    """A client with one connection."""

    def __init__(self, server: Server) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)

    def close(self) -> None:
        self.connection.close()

    def get(self, path: str) -> int:
        return self._ask("GET", path, None, {})

    def chat(self, id_: str = "", **fields: Any) -> int:
        body = chat_body("scripted", SECRET_PROMPT, max_tokens=20, ignore_eos=True, **fields)
        headers = {"x-request-id": id_} if id_ else {}
        headers["traceparent"] = f"00-{TRACE}-00f067aa0ba902b7-01"
        return self._ask("POST", CHAT, json.dumps(body), headers)

    def _ask(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> int:
        self.connection.request(method, path, body, {"content-type": "application/json", **headers})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status


@dataclass(kw_only=True)
class Whole:
    """Two servers, by a file and by TCP, and what is behind them."""

    path: LogPath
    by_file: Server
    by_tcp: Server


Ask = Callable[[Server], Asked]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Open connections that are closed after the test."""
    with ExitStack() as held:
        yield lambda server: held.enter_context(closing(Asked(server)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("logs")
    with ExitStack() as held:
        path = held.enter_context(log_path(folder))
        servers = []
        for name, destination in (("file", str(path.file)), ("tcp", path.tcp)):
            own = tmp_path_factory.mktemp(name)
            arguments = (*SCRIPTED, "--set", f"log.destination={destination}")
            lines = ("--set", "log.lines_max=200")
            servers.append(held.enter_context(serving(own, *arguments, *lines)))
        yield Whole(path=path, by_file=servers[0], by_tcp=servers[1])


def test_rsyslog_accepts_the_file(tmp_path: Path) -> None:
    file = configuration(tmp_path, tcp_port=5170, search_port=9200)
    assert RSYSLOG is not None
    done = subprocess.run([RSYSLOG, "-N1", "-f", str(file)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"error" not in done.stderr.lower()


@pytest.mark.parametrize("way", ["by_file", "by_tcp"])
def test_a_request_is_found_by_its_id(whole: Whole, ask: Ask, way: str) -> None:
    asked = ask(getattr(whole, way))
    assert asked.chat(f"find-me-{way}") == 200
    document = whole.path.until_found(f"find-me-{way}")
    print(json.dumps(document))  # noqa: T201 - docs/logging.md shows it
    assert document["event.action"] == "chat_completions"
    assert document["event.outcome"] == "success"
    assert document["http.response.status_code"] == 200
    assert document["url.path"] == CHAT
    assert document["client.ip"] == "127.0.0.1"
    assert document["gen_ai.request.model"] == "scripted"
    assert document["gen_ai.usage.output_tokens"] == document["tokens_generated"] == 20
    assert document["latency_ms"] * 1_000_000 == pytest.approx(document["event.duration"], abs=1e3)
    throughput = 20 * 1000 / document["latency_ms"]
    assert document["throughput_tokens_per_sec"] == pytest.approx(throughput, rel=0.01)
    assert (document["service.version"], document["service.environment"]) == (__version__, "test")
    assert SECRET_PROMPT not in json.dumps(document)


def test_the_documented_commands_find_a_request(whole: Whole, ask: Ask, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "logging.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    put, check, search = "".join(blocks).replace("\\\n", " ").splitlines()
    assert ask(whole.by_tcp).chat("find-me") == 200
    whole.path.until_found("find-me")
    file = configuration(tmp_path, tcp_port=5170, search_port=9200)
    said = []
    for command in (put, check, search):
        there = command.replace("http://127.0.0.1:9200", whole.path.url)
        there = there.replace("deploy/monitoring/rsyslog/rsyslog.conf", str(file))
        there = there.replace("rsyslogd", str(RSYSLOG))
        done = subprocess.run(
            ["sh", "-c", there], cwd=ROOT, capture_output=True, timeout=30, check=True
        )
        said.append(done.stdout)
    assert b"acknowledged" in said[0]
    (hit,) = json.loads(said[2])["hits"]["hits"]
    assert hit["_source"]["http.request.id"] == "find-me"


def test_lines_of_others_get_their_throughput_on_the_way(whole: Whole) -> None:
    line = {
        "@timestamp": "2026-01-02T03:04:05.678Z",
        "http.request.id": "of-another",
        "latency_ms": 2000.0,
        "tokens_generated": 50,
    }
    with socket.create_connection(("127.0.0.1", whole.path.tcp_port), 5) as peer:
        peer.sendall(b"this is no JSON\n" + json.dumps(line).encode() + b"\n")
    assert whole.path.until_found("of-another")["throughput_tokens_per_sec"] == 25
    unparsed = whole.path.folder / "log" / "unparsed.log"
    assert unparsed.read_text() == "this is no JSON\n"


def test_the_four_charts_of_kibana_show_what_happened(whole: Whole, ask: Ask) -> None:
    asked = ask(whole.by_tcp)
    for number in range(20):
        assert asked.chat() == 200
        assert asked.get(f"/nothing/{number}") == 404
    assert asked.chat("the-last-one") == 200
    whole.path.until_found("the-last-one")
    found = {
        title: whole.path.search(search_of(aggregations))["aggregations"]
        for title, aggregations in charts().items()
    }
    (latency,) = found["Latency over time"].values()
    quantiles = [bucket["1"]["values"] for bucket in latency["buckets"] if bucket["doc_count"]]
    assert quantiles
    assert all(0 < each["50.0"] <= each["99.0"] for each in quantiles)
    (volume,) = found["Request volume"].values()
    by_route: dict[str, int] = {}
    for bucket in volume["buckets"]:
        for each in bucket["3"]["buckets"]:
            by_route[each["key"]] = by_route.get(each["key"], 0) + each["doc_count"]
    assert by_route["chat_completions"] >= 21
    assert by_route["unmatched"] >= 20
    (errors,) = found["Error rate"].values()
    parts = [bucket["3"]["buckets"] for bucket in errors["buckets"]]
    assert sum(part["client errors"]["doc_count"] for part in parts) == by_route["unmatched"]
    assert sum(part["answered"]["doc_count"] for part in parts) == by_route["chat_completions"]
    (throughput,) = found["Throughput distribution"].values()
    counted = sum(bucket["doc_count"] for bucket in throughput["buckets"])
    assert counted == by_route["chat_completions"]


def test_the_template_is_what_the_index_was_made_of(whole: Whole, ask: Ask, tmp_path: Path) -> None:
    ask(whole.by_tcp).chat("of-the-template")
    whole.path.until_found("of-the-template")
    ranged = {"range": {"client.ip": {"gte": "127.0.0.0", "lte": "127.255.255.255"}}}
    assert whole.path.search({"query": ranged})["hits"]["total"]["value"] > 0
    # A server that starts now: another test kills the index, which keeps nothing over that.
    started = {"query": {"term": {"forebay.engine": "scripted"}}}
    with serving(tmp_path, *SCRIPTED, "--set", f"log.destination={whole.path.tcp}"):
        end = time.monotonic() + 15
        while not whole.path.search(started)["hits"]["total"]["value"]:
            assert time.monotonic() < end, "no line says which engine started"
            time.sleep(0.1)


def test_a_file_that_is_rotated_loses_no_line(whole: Whole, ask: Ask) -> None:
    asked, file = ask(whole.by_file), whole.path.file
    assert asked.chat("before-rotation") == 200
    whole.path.until_found("before-rotation")
    file.rename(file.with_name("forebay.log.1"))
    assert asked.chat("after-rotation") == 200
    whole.path.until_found("after-rotation")
    assert '"after-rotation"' in file.read_text()


def test_while_the_log_hangs_and_its_index_is_gone_no_request_fails(whole: Whole, ask: Ask) -> None:
    path, server = whole.path, whole.by_tcp
    asked, longest_s, failed, requests = ask(server), 0.0, 0, 0
    path.rsyslog.send_signal(signal.SIGSTOP)
    path.osmem.kill()
    path.osmem.wait(10)
    end = time.monotonic() + 20.0
    while server.metric("forebay_telemetry_dropped_total", sink="log") == 0:
        assert time.monotonic() < end, f"{requests} requests, and no line was dropped"
        for number in range(200):
            began = time.perf_counter()
            if number % 20:
                failed += asked.get("/nothing" + "x" * 900) != 404
            else:
                failed += asked.chat() != 200
            longest_s = max(longest_s, time.perf_counter() - began)
            requests += 1
    assert failed == 0
    assert longest_s < 1.0
    dropped = server.metric("llm_log_lines_dropped_total")
    assert dropped == server.metric("forebay_telemetry_dropped_total", sink="log") > 0
    path.osmem = an_index(path.search_port)
    path.rsyslog.send_signal(signal.SIGCONT)
    end, ids = time.monotonic() + 15.0, list[str]()
    back = {"query": {"prefix": {"http.request.id": "back-"}}}
    while not path.search(back)["hits"]["hits"]:
        assert time.monotonic() < end, "the log does not go on"
        ids.append(f"back-{len(ids)}")
        assert asked.chat(ids[-1]) == 200
        time.sleep(0.1)
