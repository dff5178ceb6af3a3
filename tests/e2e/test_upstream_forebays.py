"""Two servers behind a third, all real processes: answers, cancels, one killed under load."""

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.bench.client import Call, ClosedLoop, Sample, Target
from tests.support.server import Server, serving

TEXT = "one two three four five six"


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    pace = ("--engine", "scripted", "--set", "scripted.decode_s=0.005")
    with serving(folders[0], *pace) as one, serving(folders[1], *pace) as two:
        yield one, two


@pytest.fixture
def front(tmp_path: Path, behind: tuple[Server, Server]) -> Iterator[Server]:
    folder = tmp_path / "front"
    folder.mkdir()
    urls = ",".join(server.url for server in behind)
    settings = [f"upstream.urls={urls}", "upstream.probe_s=0.5", "upstream.rest_s=0.3"]
    words = [word for text in settings for word in ("--set", text)]
    with serving(folder, "--engine", "upstream", *words) as server:
        yield server


def body_of(text: str, *, stream: bool, tokens: int = 12) -> bytes:
    wish = {
        "model": "upstream",
        "messages": [{"role": "user", "content": text}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": stream,
    }
    return json.dumps(wish).encode()


def asked(server: Server, body: bytes) -> str:
    headers = {"content-type": "application/json"}
    url = f"{server.url}/v1/chat/completions"
    request = urllib.request.Request(url, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        text: str = answer.read().decode()
        return text


def running(server: Server) -> float:
    return server.metric("llm_requests_running")


def until(condition: object, seconds: float = 5.0) -> None:
    assert callable(condition)
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it never came true"
        time.sleep(0.02)


def test_answers_are_those_of_the_servers_behind(front: Server) -> None:
    whole = json.loads(asked(front, body_of(TEXT, stream=False)))
    assert whole["choices"][0]["message"]["content"].startswith(TEXT)
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["usage"]["completion_tokens"] == 12
    events = asked(front, body_of(TEXT, stream=True)).split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]


def test_a_client_that_leaves_is_gone_from_the_server_behind(
    front: Server, behind: tuple[Server, Server]
) -> None:
    body = body_of(TEXT, stream=True, tokens=20_000)
    with socket.create_connection(("127.0.0.1", front.port)) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        client.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body)
        assert client.recv(65_536)
        until(lambda: sum(map(running, behind)) == 1)
    until(lambda: sum(map(running, behind)) == 0, 2.0)
    until(lambda: running(front) == 0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_server_killed_under_load_costs_no_request_that_had_not_begun(
    front: Server, behind: tuple[Server, Server], *, stream: bool
) -> None:
    path = "/v1/chat/completions"
    bodies = [body_of(f"{number} {TEXT}", stream=stream) for number in range(16)]
    calls = [Call(path=path, body=body, stream=stream) for body in bodies]
    target = Target(host="127.0.0.1", port=front.port)

    async def load() -> tuple[list[Sample], int]:
        loop = ClosedLoop(target, requests_max=10**6, seconds=3.0)
        loading = asyncio.create_task(loop.run(calls))
        await asyncio.sleep(1.0)
        behind[0].process.kill()
        samples = await loading
        return [sample for sample in samples if not sample.ok], len(samples)

    failed, count = asyncio.run(load())
    assert [sample for sample in failed if not sample.events] == []
    assert len(failed) <= (16 if stream else 0)
    assert count > 100
    assert stream or front.metric("llm_retries_total") > 0
    assert front.get("/readyz")[0] == 200
    away = [line for line in front.log_lines() if line["message"] == "upstream.away"]
    assert [line["forebay.upstream"] for line in away] == [behind[0].url]


def test_a_server_that_drains_costs_no_request(
    front: Server, behind: tuple[Server, Server]
) -> None:
    calls = [
        Call(path="/v1/chat/completions", body=body_of(f"{n} {TEXT}", stream=True), stream=True)
        for n in range(8)
    ]
    target = Target(host="127.0.0.1", port=front.port)

    async def load() -> list[int]:
        loop = ClosedLoop(target, requests_max=10**6, seconds=3.0)
        loading = asyncio.create_task(loop.run(calls))
        await asyncio.sleep(1.0)
        behind[0].process.terminate()
        return [sample.status for sample in await loading if not sample.ok]

    assert asyncio.run(load()) == []
