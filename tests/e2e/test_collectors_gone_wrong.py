"""A real server whose collector is gone, mad or slow: no request notices, losses are counted."""

import json
import statistics
import time
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support import collectors
from tests.support.collectors import Fault, Misdeed, black_hole, misbehaving, refusing
from tests.support.server import Server, serving

MISDEEDS: dict[str, Misdeed] = {
    "never answers": collectors.silent,
    "answers 400": collectors.answering("400 Bad Request"),
    "answers 401": collectors.answering("401 Unauthorized"),
    "answers 500": collectors.answering("500 Internal Server Error"),
    "answers 503": collectors.answering("503 Service Unavailable"),
    "answers garbage": collectors.babbling,
    "closes": collectors.closing,
}
REQUESTS = 20


def args(url: str, protocol: str = "http/protobuf", **traces: object) -> list[str]:
    known: dict[str, object] = {
        "endpoint": url,
        "protocol": protocol,
        "send_s_max": 0.3,
        "queue_max": 16,
        "stop_s_max": 0.2,
    }
    settings = [f"traces.{name}={value}" for name, value in (known | traces).items()]
    return ["--engine", "scripted", *(word for text in settings for word in ("--set", text))]


def asked(server: Server, count: int = REQUESTS) -> list[float]:
    """Ask that often, expect an answer each time, and return how long each took."""
    wish = {"model": "scripted", "messages": [{"role": "user", "content": "one two"}]}
    body, took = json.dumps(wish | {"max_tokens": 4}).encode(), []
    for _ in range(count):
        request = urllib.request.Request(
            f"{server.url}/v1/chat/completions",
            data=body,
            headers={"content-type": "application/json"},
        )
        began = time.monotonic()
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200
            answer.read()
        took.append(time.monotonic() - began)
    return took


def counted(server: Server, what: str, sink: str = "traces") -> float:
    return server.metric(f"forebay_telemetry_{what}_total", sink=sink)


def all_dropped(server: Server, count: int, sink: str = "traces") -> None:
    ends = time.monotonic() + 10
    while (dropped := counted(server, "dropped", sink)) < count:
        assert time.monotonic() < ends, f"{dropped} of {count} were counted"
        time.sleep(0.1)


def stopped_in_time(server: Server) -> None:
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_no_request_notices_what_a_collector_does(protocol: str, tmp_path: Path) -> None:
    fault = Fault(collectors.silent)
    with misbehaving(fault) as url, serving(tmp_path, *args(url, protocol)) as server:
        for number, (what, misdeed) in enumerate(MISDEEDS.items(), start=1):
            fault.misdeed = misdeed
            assert statistics.median(asked(server)) < 0.1, what
            all_dropped(server, REQUESTS * number)
        assert counted(server, "sent") == 0
        stopped_in_time(server)
        told = [line for line in server.log_lines() if line["message"] == "telemetry.lost"]
        assert len(told) == 1, "that a collector is away is told once"
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("nowhere", [refusing, black_hole])
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_no_request_notices_that_there_is_no_collector(
    protocol: str, nowhere: Callable[[], AbstractContextManager[str]], tmp_path: Path
) -> None:
    metrics = ("--set", "otlp_metrics.period_s=0.1")
    with nowhere() as url, serving(tmp_path, *args(url, protocol), *metrics) as server:
        assert statistics.median(asked(server)) < 0.1
        all_dropped(server, REQUESTS)
        all_dropped(server, 1, "metrics")
        stopped_in_time(server)
        assert "Traceback" not in server.log.read_text()


def test_an_answer_that_drips_holds_what_waits_and_nothing_else(tmp_path: Path) -> None:
    with misbehaving(collectors.dripping) as url, serving(tmp_path, *args(url)) as server:
        asked(server, 1)
        time.sleep(0.7)  # it hangs there
        assert statistics.median(asked(server, 40)) < 0.1
        all_dropped(server, 40 - 16)
        stopped_in_time(server)


def test_a_collector_that_comes_back_gets_what_is_told_from_then_on(tmp_path: Path) -> None:
    fault = Fault(collectors.answering("500 Internal Server Error"))
    with misbehaving(fault) as url, serving(tmp_path, *args(url)) as server:
        asked(server, 1)
        all_dropped(server, 1)
        fault.misdeed = collectors.answering("200 OK")
        asked(server, 5)
        ends = time.monotonic() + 10
        while counted(server, "sent") < 5:
            assert time.monotonic() < ends
            time.sleep(0.1)
        stopped_in_time(server)
        told = [line["message"] for line in server.log_lines()]
        assert told.index("telemetry.lost") < told.index("telemetry.arrives")


def test_an_answer_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    with (
        misbehaving(collectors.endless) as url,
        serving(tmp_path, *args(url, send_s_max=2.0)) as server,
    ):
        before = memory_bytes(server)
        for _ in range(3):
            asked(server, 10)
            time.sleep(0.6)
        assert memory_bytes(server) - before < 20_000_000
        stopped_in_time(server)


def memory_bytes(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
