"""A batch on a real connection: made at once, and gone with its client."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.server import Server, serving

PROMPTS = 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("batches")
    settings = ("scripted.decode_s=0.02", "scripted.running_max=32")
    sets = [word for setting in settings for word in ("--set", setting)]
    with serving(folder, "--engine", "scripted", *sets) as server:
        yield server


def books(server: Server) -> dict[str, Any]:
    page: dict[str, Any] = json.loads(server.get("/admin/ledger")[1])
    return page


def batch(size: int, words: str = "one two three four five") -> bytes:
    return json.dumps({"prompts": [f"{words} {number}" for number in range(size)]}).encode()


def asked(server: Server, size: int) -> tuple[float, dict[str, Any]]:
    """Send a batch; return how long it took, and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    began = time.monotonic()
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/generate_batch", batch(size), headers)
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    took_s = time.monotonic() - began
    connection.close()
    return took_s, answer


def test_a_batch_is_made_at_once(server: Server) -> None:
    alone_s, _ = asked(server, 1)
    together_s, answer = asked(server, 32)
    assert [result["index"] for result in answer["results"]] == list(range(32))
    assert together_s < 8 * alone_s, f"{together_s:.3f} s for 32, {alone_s:.3f} s for one"


def test_when_its_client_leaves_nothing_of_a_batch_is_left(server: Server) -> None:
    before = books(server)
    body = batch(PROMPTS, "word " * 500)
    head = f"POST /generate_batch HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body)
        until = time.monotonic() + 10
        while books(server)["in_flight"] < PROMPTS:
            assert time.monotonic() < until, "the batch never began"
            time.sleep(0.01)
        assert books(server)["held"]
    until = time.monotonic() + 5
    while books(server)["in_flight"] or books(server)["held"]:
        assert time.monotonic() < until, f"something is left: {books(server)}"
        time.sleep(0.01)
    after = books(server)
    assert after["balanced"]
    assert after["received"] - before["received"] == PROMPTS
    assert after["outcomes"]["cancelled"] - before["outcomes"]["cancelled"] == PROMPTS


def test_ten_thousand_prompts_are_refused_with_the_limit(server: Server) -> None:
    before = books(server)["received"]
    _, answer = asked(server, 10_000)
    assert answer["status"] == 413
    assert "10000 prompts, at most 1024" in answer["detail"]
    assert books(server)["received"] - before == 1
