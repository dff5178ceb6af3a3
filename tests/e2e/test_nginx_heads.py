"""Heads that two servers could read in two ways, through a real nginx before a real server."""

import json
import re
import shutil
import socket
from collections.abc import Iterator

import pytest

from forebay.drill.nginx import balancing
from tests.http.test_heads import SECOND, SMUGGLED
from tests.support.client import chat_body
from tests.support.server import Server, free_port, serving

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx here")


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    folder = tmp_path_factory.mktemp("nginx")
    with (
        serving(folder, "--engine", "scripted") as server,
        balancing([server.port, free_port(), free_port()], folder) as target,
    ):
        yield server, target.port


def asked(port: int, sent: bytes) -> bytes:
    """Send bytes and the end, and read until the connection ends or nothing comes."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
        client.sendall(sent)
        try:
            while data := client.recv(65_536):
                found += data
        except (TimeoutError, ConnectionError):
            pass
    return found


def statuses(found: bytes) -> list[int]:
    """Return the status of each answer."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})[ \r]", found)]


TAKEN = {"HTTP/1.2": "nginx reads it as 1.1, and says 1.1 to us"}
PASSED = {name: sent for name, sent in SMUGGLED.items() if name not in TAKEN}


@pytest.mark.parametrize("sent", PASSED.values(), ids=PASSED.keys())
def test_nothing_is_smuggled_through_nginx(behind: tuple[Server, int], sent: bytes) -> None:
    """Whatever nginx makes of it: at most the two requests are answered that it saw itself."""
    _, port = behind
    found = asked(port, sent.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n", 1))
    answers = statuses(found)
    assert len(answers) <= 1, found
    assert all(400 <= status < 500 or status == 501 for status in answers), found


def test_those_who_share_nginxs_connections_get_their_own_answers(
    behind: tuple[Server, int],
) -> None:
    """The victim's test: after each attempt another client asks over the same kept connection."""
    server, port = behind
    body = json.dumps(chat_body("scripted", "mine alone", max_tokens=3)).encode()
    victim = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-ID: victim\r\n"
        b"Connection: close\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    ) % (len(body), body)
    for sent in SMUGGLED.values():
        with socket.create_connection(("127.0.0.1", port), timeout=2) as attacker:
            attacker.sendall(sent + SECOND)
            found = asked(port, victim)
            assert statuses(found) == [200]
            assert b"x-request-id: victim\r\n" in found
            assert b"smuggled" not in found
    assert server.metric("llm_ledger_imbalance") == 0
    assert server.metric("llm_requests_total", outcome="internal_error") == 0
