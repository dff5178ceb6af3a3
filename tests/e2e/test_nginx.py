"""The nginx file that we tell operators to use, by a real nginx before real replicas."""

import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from forebay.drill import running
from forebay.drill.nginx import CONFIGURATION, balancing, configuration
from forebay.drill.rolling import ROLLING_RESTART
from tests.support.server import free_port

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


@pytest.mark.slow
def test_no_request_fails_while_replicas_are_restarted(tmp_path: Path) -> None:
    result = running.run(
        ROLLING_RESTART, "scripted", quick=True, models=tmp_path, say=lambda *_: None
    )
    assert result.findings is not None, result.failed
    failed = [gate for gate in result.findings.gates if not gate.passed]
    assert not failed, result.findings.figures
