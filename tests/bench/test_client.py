"""The load client against real servers: it sees the pace, and it counts what it loses."""

import asyncio
import json
import re
import urllib.request
from collections.abc import Iterator

import pytest

from benchmarks import processes
from benchmarks.processes import Server
from forebay.bench.client import Call, ClosedLoop, Sample, Target

PACE_S = 0.01
TOKENS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with processes.forebay("scripted", settings=[f"scripted.decode_s={PACE_S}"]) as found:
        yield found


def call(*, tokens: int = TOKENS, stream: bool = True, **more: object) -> Call:
    wish = {
        "model": "scripted",
        "messages": [{"role": "user", "content": "one two three four"}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": stream,
        **more,
    }
    return Call(
        path="/v1/chat/completions",
        body=json.dumps(wish).encode(),
        stream=stream,
        events_to_skip=1,
    )


def metrics_of(server: Server) -> str:
    url = f"http://{server.target.host}:{server.target.port}/metrics"
    with urllib.request.urlopen(url) as page:
        text: str = page.read().decode()
    return text


async def test_a_paced_stream_has_the_servers_own_time_per_token(server: Server) -> None:
    (sample,) = await ClosedLoop(server.target, requests_max=1).run([call()])
    assert sample.ok
    assert sample.events == TOKENS + 2, "the role, each token, the finish reason"
    assert sample.first is not None
    assert sample.last is not None
    seen_s = (sample.last - sample.first) / (TOKENS - 1)
    said = await asyncio.to_thread(metrics_of, server)
    total, count = (
        float(re.search(rf"llm_time_per_output_token_seconds_{part}{{.*}} (\S+)", said)[1])  # type: ignore[index] # a missing metric fails the test
        for part in ("sum", "count")
    )
    assert seen_s >= 0.95 * PACE_S, "the engine cannot be faster than its pace"
    assert 0.9 < seen_s / (total / count) < 1.1


async def test_a_number_of_requests_is_shared_by_the_connections(server: Server) -> None:
    loop = ClosedLoop(server.target, requests_max=10)
    samples = await loop.run([call(tokens=1), call(tokens=1, stream=False)] * 2)
    assert len(samples) == 10
    assert all(sample.ok for sample in samples)
    assert {bool(sample.body) for sample in samples} == {True, False}


async def test_it_stops_when_its_time_is_over(server: Server) -> None:
    now = 0.0
    loop = ClosedLoop(server.target, requests_max=10**9, seconds=3.0, now=lambda: now)
    began: list[Sample] = loop.samples

    async def pass_time() -> None:
        nonlocal now
        while len(began) < 5:
            await asyncio.sleep(0)
        now = 4.0

    clock = asyncio.create_task(pass_time())
    samples = await loop.run([call(tokens=1)])
    await clock
    assert 5 <= len(samples) <= 7


async def test_a_refusal_is_not_ok(server: Server) -> None:
    (sample,) = await ClosedLoop(server.target, requests_max=1).run([call(temperature=-1)])
    assert not sample.ok
    assert sample.status == 400
    assert b"temperature" in sample.body


async def test_a_server_that_hangs_up_is_counted_as_an_error() -> None:
    def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
        writer.close()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        loop = ClosedLoop(Target(host="127.0.0.1", port=port), requests_max=3)
        (sample,) = await loop.run([call(stream=False)])
    assert not sample.ok
    assert sample.error == "the server closed the connection"
