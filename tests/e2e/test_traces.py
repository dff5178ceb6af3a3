"""Traces and metrics as a real collector receives them, from real servers."""

import itertools
import json
import shutil
import subprocess
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.otlp import Collected, attributes_of, grpc_collector, http_collector
from tests.support.server import Server, free_port, serving

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GIVEN = f"00-{TRACE}-{PARENT}-01"
CANARY = "canary-7f3a9c"
COLLECTORS: dict[str, Callable[[], AbstractContextManager[Collected]]] = {
    "http/protobuf": http_collector,
    "grpc": grpc_collector,
}


def args(*settings: str, engine: str = "scripted") -> list[str]:
    return ["--engine", engine, *(word for text in settings for word in ("--set", text))]


def ask(server: Server, *, stream: bool = False, text: str = "one two three", **more: Any) -> str:
    given = more.pop("traceparent", None)
    model = more.pop("model", "scripted")
    wish = {"model": model, "messages": [{"role": "user", "content": text}], "stream": stream}
    headers = {"content-type": "application/json"} | ({"traceparent": given} if given else {})
    request = urllib.request.Request(
        f"{server.url}/v1/chat/completions", json.dumps(wish | more).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            answer.read()
            return str(answer.headers["x-request-id"])
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["x-request-id"])


def log_line(server: Server, id: str) -> dict[str, Any]:
    ends = time.monotonic() + 5
    while time.monotonic() < ends:
        found = [line for line in server.log_lines() if line.get("http.request.id") == id]
        if found:
            return found[0]
        time.sleep(0.05)
    raise AssertionError(f"no line of {id}")


def of_request(collected: Collected, id: str) -> Span:
    """Return the span of the exchange with this id."""

    def found() -> list[Span]:
        return [
            root
            for root in collected.roots()
            if attributes_of(root.attributes)["forebay.request.id"] == id
        ]

    collected.until(lambda _: found())
    (root,) = found()
    return root


def ms(span: Span) -> float:
    return (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


@pytest.mark.parametrize("protocol", COLLECTORS)
def test_a_request_is_received_as_a_tree_of_spans_that_says_what_the_log_says(
    protocol: str, tmp_path: Path
) -> None:
    with COLLECTORS[protocol]() as collected:
        settings = [f"traces.endpoint={collected.url}", f"traces.protocol={protocol}"]
        settings += ["traces.headers=x-scope=acme", "traces.service_name=llm"]
        with serving(tmp_path, *args(*settings, "scripted.decode_s=0.005")) as server:
            began_ns = time.time_ns()
            id = ask(server, stream=True, max_tokens=8, temperature=0.5, traceparent=GIVEN)
            ended_ns = time.time_ns()
            root = of_request(collected, id)
            line = log_line(server, id)
    assert root.name == "chat scripted"
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, PARENT)
    assert (line["trace.id"], line["span.id"]) == (TRACE, root.span_id.hex())
    assert began_ns - 5e6 < root.start_time_unix_nano < root.end_time_unix_nano < ended_ns + 5e6

    below = collected.below(root)
    assert [span.name for span in below] == ["receive", "queue", "prefill", "decode"]
    assert {span.kind for span in below} == {Span.SPAN_KIND_INTERNAL}
    for before, after in itertools.pairwise(below):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    assert below[0].start_time_unix_nano == root.start_time_unix_nano
    assert below[-1].end_time_unix_nano <= root.end_time_unix_nano
    up_to_first = (below[2].end_time_unix_nano - root.start_time_unix_nano) / 1e6
    assert up_to_first == pytest.approx(line["forebay.ttft_ms"], abs=0.01)
    assert ms(below[0]) + ms(below[1]) == pytest.approx(line["forebay.queue_ms"], abs=0.01)

    told = attributes_of(root.attributes)
    assert told["gen_ai.usage.output_tokens"] == line["tokens_generated"]
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert told["gen_ai.request.temperature"] == 0.5
    assert told["gen_ai.request.max_tokens"] == 8
    assert told["http.response.status_code"] == 200
    assert told["server.port"] == server.port
    (resource,) = collected.traces[0].resource_spans
    assert attributes_of(resource.resource.attributes)["service.name"] == "llm"
    assert collected.heads[0]["x-scope"] == "acme"
    if protocol == "http/protobuf":
        assert collected.heads[0]["content-encoding"] == "gzip"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Collected]]:
    """A server that keeps nothing by share, tells metrics, and its collector."""
    folder = tmp_path_factory.mktemp("told")
    with http_collector() as collected:
        settings = [f"traces.endpoint={collected.url}", "traces.ratio=0", "traces.slow_s=0.15"]
        settings += ["otlp_metrics.period_s=0.2", "scripted.decode_s=0.02"]
        settings += ["traces.trust_parent=off"]
        with serving(folder, *args(*settings)) as server:
            yield server, collected


def test_what_was_slow_or_our_fault_is_received_though_nothing_is_kept_by_share(
    told: tuple[Server, Collected],
) -> None:
    server, collected = told
    quick = [ask(server, text="a", max_tokens=2, traceparent=GIVEN) for _ in range(5)]
    slow = ask(server, text="a b c d e f g h i j k l", ignore_eos=True, max_tokens=12)
    root = of_request(collected, slow)
    assert attributes_of(root.attributes)["forebay.kept"] == "slow"
    failed = of_request(collected, ask(server, text="!fail"))
    attributes = attributes_of(failed.attributes)
    assert attributes["forebay.kept"] == "fault"
    assert attributes["error.type"] == "engine_error"
    assert failed.status.code == failed.status.STATUS_CODE_ERROR
    known = {attributes_of(root.attributes)["forebay.request.id"] for root in collected.roots()}
    assert not known & set(quick)


def test_nothing_that_was_said_reaches_the_collector(told: tuple[Server, Collected]) -> None:
    server, collected = told
    id = ask(
        server,
        text=f"{CANARY} b c d e f g h i j k l",
        ignore_eos=True,
        max_tokens=12,
        stop=[f"{CANARY}-stop"],
        user=f"{CANARY}-user",
    )
    of_request(collected, id)
    bad = ask(server, text=CANARY, max_tokens=f"{CANARY}-number")
    failed = ask(server, text=f"{CANARY} !fail")
    of_request(collected, failed)
    assert bad
    collected.until(lambda found: len(found.metrics) > 1)
    assert not [raw for raw in collected.raw if CANARY.encode() in raw]


def test_metrics_are_received_under_both_names_with_the_numbers_of_the_page(
    told: tuple[Server, Collected],
) -> None:
    server, collected = told
    ask(server, stream=True, max_tokens=3)
    count = server.metric("llm_time_to_first_token_seconds_count", model="scripted")
    before = len(collected.metrics)
    collected.until(lambda found: len(found.metrics) > before + 1)
    metrics = collected.newest_metrics
    for name in ("llm_time_to_first_token_seconds", "gen_ai.server.time_to_first_token"):
        assert metrics[name].unit == "s"
        assert sum(point.count for point in metrics[name].histogram.data_points) == count
    (point,) = metrics["gen_ai.server.time_to_first_token"].histogram.data_points
    assert attributes_of(point.attributes)["gen_ai.request.model"] == "scripted"
    assert list(point.explicit_bounds)[:3] == [0.001, 0.005, 0.01]
    durations = metrics["gen_ai.server.request.duration"].histogram.data_points
    good = [each for each in durations if "error.type" not in attributes_of(each.attributes)]
    assert attributes_of(good[0].attributes)["gen_ai.operation.name"] == "chat"
    page = server.metric("llm_requests_total", outcome="ok", route="chat_completions")
    assert sum(each.count for each in good) == page
    total = metrics["llm_requests_total"].sum
    assert total.is_monotonic
    assert sum(each.as_double for each in total.data_points) == server.metric("llm_requests_total")


def test_what_was_said_is_received_where_the_operator_asks_for_it(tmp_path: Path) -> None:
    with http_collector() as collected:
        settings = [f"traces.endpoint={collected.url}", "traces.content=true"]
        with serving(tmp_path, *args(*settings)) as server:
            root = of_request(collected, ask(server, text=CANARY, max_tokens=4))
    told = attributes_of(root.attributes)
    asked = json.loads(told["gen_ai.input.messages"])
    assert asked == [{"role": "user", "parts": [{"type": "text", "content": CANARY}]}]
    (answer,) = json.loads(told["gen_ai.output.messages"])
    assert (answer["role"], answer["finish_reason"]) == ("assistant", "stop")
    assert answer["parts"][0]["content"]


def test_a_server_and_the_one_behind_it_are_one_trace(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("behind", "front")]
    for folder in folders:
        folder.mkdir()
    with http_collector() as collected:
        to = f"traces.endpoint={collected.url}"
        with serving(folders[0], *args(to, "traces.service_name=behind")) as behind:
            settings = [to, "traces.service_name=front", f"upstream.urls={behind.url}"]
            with serving(folders[1], *args(*settings, engine="upstream")) as front:
                first = of_request(collected, ask(front, model="upstream", traceparent=GIVEN))
                own = first.span_id
                collected.until(
                    lambda found: [root for root in found.roots() if root.parent_span_id == own]
                )
    (second,) = [root for root in collected.roots() if root.parent_span_id == own]
    assert second.trace_id == first.trace_id == bytes.fromhex(TRACE)
    assert second.name == "chat scripted"
    assert second.start_time_unix_nano >= first.start_time_unix_nano
    assert second.end_time_unix_nano <= first.end_time_unix_nano + 5_000_000


def test_a_strangers_trace_is_told_in_the_log_and_starts_no_spans_without_a_collector(
    tmp_path: Path,
) -> None:
    with serving(tmp_path, *args()) as server:
        known = log_line(server, ask(server, traceparent=GIVEN))
        unknown = log_line(server, ask(server))
        broken = log_line(server, ask(server, traceparent=GIVEN + "-"))
    assert known["trace.id"] == TRACE
    assert "trace.id" not in unknown
    assert "trace.id" not in broken
    assert (unknown["event.outcome"], broken["event.outcome"]) == ("success", "success")


ROTEL = Path(sysconfig.get_path("purelib")) / "rotel" / "rotel-agent"


@contextmanager
def rotel(behind: str, log: Path) -> Iterator[str]:
    """Run a collector that passes on what it gets; yield its address."""
    port, other = free_port(), free_port()
    command = [str(ROTEL), "start", "--otlp-http-endpoint", f"127.0.0.1:{port}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{other}", "--exporter", "otlp"]
    command += ["--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", behind]
    command += ["--batch-timeout", "200ms"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.mark.skipif(shutil.which(str(ROTEL)) is None, reason="rotel is not installed")
def test_a_real_collector_takes_traces_and_metrics_and_passes_them_on(tmp_path: Path) -> None:
    with http_collector() as collected, rotel(collected.url, tmp_path / "rotel.log") as url:
        settings = [f"traces.endpoint={url}", "otlp_metrics.period_s=0.3"]
        with serving(tmp_path, *args(*settings)) as server:
            root = of_request(collected, ask(server, max_tokens=4, traceparent=GIVEN))
            collected.until(lambda found: found.metrics)
            assert server.metric("forebay_telemetry_sent_total", sink="traces") == 1
    assert root.trace_id.hex() == TRACE
    assert next(span.name for span in collected.below(root)) == "receive"
    assert "gen_ai.server.request.duration" in {
        metric.name
        for delivery in collected.metrics
        for resource in delivery.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
