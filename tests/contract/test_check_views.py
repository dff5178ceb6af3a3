"""The last links of the check, against servers that answer as the real ones document."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from forebay.monitoring.alertmanager import alertmanager
from forebay.monitoring.check import Chain
from forebay.monitoring.check_alertmanager import AlertmanagerCheck
from forebay.monitoring.check_prometheus import PrometheusCheck
from forebay.monitoring.check_server import ServerCheck
from forebay.monitoring.check_views import SearchCheck, grafana, traces
from forebay.monitoring.finding import Finding, State
from forebay.monitoring.samples import parsed
from forebay.monitoring.site import Site, Unanswered, WrongUrl, site
from forebay.serve.slo_file import built_in
from tests.support.server import free_port

Pages = Mapping[str, tuple[int, Any]]
WELL: Pages = {
    "/api/health": (200, {"database": "ok", "version": "11.6.0"}),
    "/api/datasources/uid/forebay-prometheus": (200, {}),
    **{
        f"/api/dashboards/uid/{uid}": (200, {})
        for uid in ("llm", "resources", "alerting", "tenants")
    },
}


@contextlib.contextmanager
def answering(pages: Pages, seen: list[dict[str, str]] | None = None) -> Iterator[Site]:
    """Serve these pages; another one is a 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if seen is not None:
                seen.append(dict(self.headers))
            status, body = pages.get(self.path.partition("?")[0], (404, {}))
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site(f"http://127.0.0.1:{server.server_port}", timeout_s=2.0, token="tok")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def missing(findings: Iterator[Finding]) -> list[str]:
    return [each.what for each in findings if each.state is State.MISSING]


def test_nothing_is_missing_of_a_grafana_with_all_dashboards() -> None:
    seen: list[dict[str, str]] = []
    with answering(WELL, seen) as at:
        found = list(grafana(at, built_in()))
    assert not missing(iter(found))
    assert sum("dashboard" in each.what for each in found) == 4
    assert seen[0]["Authorization"] == "Bearer tok"


@pytest.mark.parametrize(
    ("path", "answer", "words"),
    [
        ("/api/dashboards/uid/llm", (404, {}), "It has no dashboard llm: 404."),
        ("/api/datasources/uid/forebay-prometheus", (404, {}), "It has no data source"),
        ("/api/dashboards/uid/tenants", (403, {}), "does not let us see the dashboard tenants"),
        ("/api/health", (200, {"database": "failing"}), "/api/health answers 200."),
        ("/api/health", (200, b"<html>"), "something that is not JSON"),
    ],
)
def test_each_thing_that_grafana_lacks_is_named(
    path: str, answer: tuple[int, Any], words: str
) -> None:
    with answering({**WELL, path: answer}) as at:
        (what,) = missing(grafana(at, built_in()))
    assert words in what


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ({}, "It answers 404."),
        ({"/": (401, {})}, "It answers 401."),
        ({"/": (200, {"version": {"number": "2.1"}})}, "answers 404"),
    ],
)
def test_a_search_that_cannot_be_asked_is_named(pages: Pages, words: str) -> None:
    with answering(pages) as at:
        (what,) = missing(SearchCheck(site=at, request_id="r", wait_s_max=0.0).findings())
    assert words in what


def test_traces_are_told_by_the_servers_own_counts() -> None:
    def page(sent: int, dropped: int) -> Any:
        return parsed(
            "# TYPE forebay_telemetry_sent counter\n"
            f'forebay_telemetry_sent_total{{sink="traces"}} {sent}\n'
            "# TYPE forebay_telemetry_dropped counter\n"
            f'forebay_telemetry_dropped_total{{sink="traces"}} {dropped}\n# EOF\n'
        )

    assert [each.state for each in traces(page(0, 0))] == [State.NOT_ASKED]
    assert [each.state for each in traces(page(3, 1))] == [State.OK]
    assert missing(traces(page(0, 5))) == ["All 5 traces were dropped."]


def test_another_server_at_the_address_is_no_chain() -> None:
    with answering({"/-/ready": (200, b"ok"), "/livez": (200, b"ok"), "/readyz": (200, {})}) as at:
        assert "/api/v1/targets answers 404." in missing(
            PrometheusCheck(site=at, page=None, spec=built_in()).findings()
        )
        assert missing(AlertmanagerCheck(site=at).findings())
        assert "/metrics answers 404." in missing(ServerCheck(site=at).findings())


def test_a_server_that_is_not_ready_says_why() -> None:
    pages: Pages = {"/livez": (200, {}), "/readyz": (503, {"status": "draining"})}
    with answering(pages) as at:
        assert "/readyz answers 503: draining." in missing(ServerCheck(site=at).findings())


@pytest.mark.parametrize(
    ("tried", "failed", "named"),
    [
        (4, 4, ["Nothing was sent by pagerduty: 4 of 4 failed."]),
        (4, 3, []),
        (0, 0, []),
    ],
)
def test_a_way_by_which_nothing_was_ever_sent_is_named(
    tried: int, failed: int, named: list[str]
) -> None:
    counts = (
        f'alertmanager_notification_requests_total{{integration="pagerduty"}} {tried}\n'
        f'alertmanager_notification_requests_failed_total{{integration="pagerduty"}} {failed}\n'
        'alertmanager_notification_requests_total{integration="slack"} 2\n'
        'alertmanager_notification_requests_failed_total{integration="slack"} 0\n'
    )
    config = {"original": alertmanager(built_in())}
    pages: Pages = {
        "/-/ready": (200, b"ok"),
        "/api/v2/status": (200, {"config": config}),
        "/api/v2/alerts": (200, [{"labels": {"alertname": "DeadMansSwitch"}}]),
        "/metrics": (200, counts.encode()),
    }
    with answering(pages) as at:
        assert missing(AlertmanagerCheck(site=at).findings()) == named


@pytest.mark.parametrize("status", [503, 500])
def test_a_prometheus_and_an_alertmanager_that_are_not_ready_are_named(status: int) -> None:
    with answering({"/-/ready": (status, b"no")}) as at:
        both = (
            PrometheusCheck(site=at, page=None, spec=built_in()).findings(),
            AlertmanagerCheck(site=at).findings(),
        )
        for findings in both:
            assert missing(findings) == ["It is not ready."]


def test_whoever_answers_too_slowly_is_given_up_however_it_drips() -> None:
    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(100):
                connection.sendall(b"x-a: b\r\n")
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        at = site(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.3)
        began = time.monotonic()
        with pytest.raises(Unanswered, match=r"no whole answer within 0\.3 s"):
            at.get("/")
        assert time.monotonic() - began < 2
        thread.join()


def test_what_went_wrong_is_a_sentence_without_the_password() -> None:
    secret = f"http://me:hunter2@127.0.0.1:{free_port()}"
    with pytest.raises(Unanswered, match="Nobody listens at 127") as refused:
        site(secret, timeout_s=1.0).get("/")
    assert "hunter2" not in str(refused.value)
    with answering({}) as plain:
        tls = site(f"https://{plain.place}", timeout_s=1.0)
        with pytest.raises(Unanswered, match="does not speak TLS"):
            tls.get("/")
    with pytest.raises(Unanswered, match="There is no host"):
        site("http://no.such.host.invalid", timeout_s=1.0).get("/")


def test_a_user_in_the_address_is_shown_as_such_and_redirects_are_not_followed() -> None:
    seen: list[dict[str, str]] = []
    with answering({"/": (302, {})}, seen) as at:
        port = at.place.rpartition(":")[2]
        answer = site(f"http://me:p%40ss@127.0.0.1:{port}/", timeout_s=2.0).get("/")
    assert answer.status == 302
    assert seen == [seen[0]]
    assert seen[0]["Authorization"] == "Basic bWU6cEBzcw=="


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:notaport", "http://x:0", "://"])
def test_what_is_no_address_is_told_what_is_one(url: str) -> None:
    with pytest.raises(WrongUrl, match="An address looks like"):
        site(url, timeout_s=1.0)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"status": "success", "data": {"activeTargets": "none", "groups": [3], "alerts": [None]}},
        b"[" * 100_000,
    ],
)
def test_answers_of_another_shape_are_named_and_the_walk_goes_on(body: object) -> None:
    paths = ("/livez", "/api/v1/targets", "/api/v2/status", "/api/health", "/-/ready")
    with answering(dict.fromkeys(paths, (200, body))) as other:
        chain = Chain(
            server=other, spec=built_in(), prometheus=other, alertmanager=other, grafana=other
        )
        found = list(chain.findings())
    missing = {each.link.value for each in found if each.state is State.MISSING}
    assert {"prometheus", "alertmanager", "grafana"} <= missing
    assert found[-1].link == "traces"
