"""The nginx file that we tell operators to use, by a real nginx before real replicas."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from forebay.bench.client import Target
from forebay.drill import running
from forebay.drill.nginx import CONFIGURATION, balancing, configuration
from forebay.drill.rolling import ROLLING_RESTART
from tests.support.client import chat_body
from tests.support.server import Server, free_port, serving

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx here")


def test_nginx_accepts_the_file_as_it_stands(tmp_path: Path) -> None:
    command = ["nginx", "-t", "-p", str(tmp_path), "-c", str(CONFIGURATION)]
    done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_file_for_other_ports_names_these_only() -> None:
    text = configuration((1, 2, 3), 4)
    assert [f"server 127.0.0.1:{port} " in text for port in (1, 2, 3, 8001, 8002, 8003)] == [
        *(True, True, True),
        *(False, False, False),
    ]


def test_where_no_replica_answers_the_client_is_told_when_to_retry(tmp_path: Path) -> None:
    with balancing([free_port() for _ in range(3)], tmp_path) as target:
        url = f"http://{target.host}:{target.port}/v1/models"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url, timeout=10)
        with caught.value as answer:
            assert answer.code == 503
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["x-should-retry"] == "true"
            assert b'"code":"overloaded"' in answer.read()


@pytest.mark.parametrize("path", ["/admin/ledger", "/%61dmin/ledger", "//admin/reload", "/metrics"])
def test_what_is_each_replicas_own_is_not_passed_on(tmp_path: Path, path: str) -> None:
    with balancing([free_port() for _ in range(3)], tmp_path) as target:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://{target.host}:{target.port}{path}", timeout=10)
        with caught.value as answer:
            assert answer.code == 404


@pytest.mark.parametrize(
    ("stream", "answered"),
    [(True, True), (False, False), (True, False)],
    ids=["in mid-stream", "of a whole answer", "while it waits for a place"],
)
def test_a_client_that_leaves_nginx_frees_everything(
    tmp_path: Path, *, stream: bool, answered: bool
) -> None:
    pace = ("--engine", "scripted", "--set", "scripted.decode_s=0.02")
    places = ("--set", f"admission.running_max={1 if stream and not answered else 8}")
    with (
        serving(tmp_path, *pace, *places) as server,
        balancing([server.port, free_port(), free_port()], tmp_path) as target,
    ):
        body = chat_body("scripted", "on and on", max_tokens=5_000, ignore_eos=True, stream=stream)
        clients = [leaver(target, body) for _ in range(4)]
        until(lambda: amount(server) == len(clients), 10.0)
        if answered:
            assert b" 200 " in clients[0].recv(1_000)
        for client in clients:
            client.close()
        left = time.monotonic()
        until(lambda: amount(server) == 0, 5.0)
        assert time.monotonic() - left < 1.0
        page = json.loads(server.get("/admin/ledger")[1])
        assert (page["outcomes"]["cancelled"], page["imbalance"]) == (len(clients), 0)


def leaver(target: Target, body: dict[str, object]) -> socket.socket:
    """Ask, and return the connection without reading from it."""
    text = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(text)}\r\n"
    client = socket.create_connection((target.host, target.port), timeout=10)
    client.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + text)
    return client


def amount(server: Server) -> int:
    """Return how many places are held or waited for, and requests that a worker has without."""
    held = json.loads(server.get("/admin/ledger")[1])["held"]
    at_door = sum(held.get(kind, {"amount": 0})["amount"] for kind in ("place", "waiting"))
    return int(at_door or held.get("engine_request", {"amount": 0})["amount"])


def until(true: Callable[[], bool], wait_s_max: float) -> None:
    """Wait until something is so."""
    ends = time.monotonic() + wait_s_max
    while not true():
        assert time.monotonic() < ends, "it did not come true"
        time.sleep(0.01)


@pytest.mark.slow
def test_no_request_fails_while_replicas_are_restarted(tmp_path: Path) -> None:
    result = running.run(
        ROLLING_RESTART, "scripted", quick=True, models=tmp_path, say=lambda *_: None
    )
    assert result.findings is not None, result.failed
    failed = [gate for gate in result.findings.gates if not gate.passed]
    assert not failed, result.findings.figures
