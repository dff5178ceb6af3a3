"""Real connections to a gateway: bounded heads, and a client's end noticed whatever it sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from forebay.core.errors import Outcome
from forebay.core.request import Chat, Delta, Scheduled
from forebay.gateway import connection
from tests.support.gateways import CHAT, Stage, a_stage, chat, hang
from tests.support.listening import listening

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(stage: Stage) -> AsyncIterator[Streams]:
    async with listening(stage) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        try:
            yield reader, writer
        finally:
            writer.close()


def request(*, stream: bool) -> bytes:
    body = json.dumps(chat(stream=stream)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not reached():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_client_that_sent_more_requests_and_left_is_noticed(stream: bool) -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang])
    async with connected(stage) as (_, writer):
        writer.write(request(stream=stream))
        await until(lambda: stage.engine.held == 1)
        writer.write(request(stream=stream))
        await writer.drain()
        await asyncio.sleep(0.02)  # the second has arrived, and waits behind the first
        writer.close()
        await until(lambda: stage.engine.held == 0)
    assert {record.outcome for record in stage.records} == {Outcome.CANCELLED}


@pytest.mark.parametrize(
    "start",
    [b"GET /livez HTTP/1.1\r\nX-A: ", b"GET /livez HTTP/1.1\r\n" + b"X-A: b\r\n" * 100, b"GET /"],
    ids=["one header", "many headers", "path"],
)
async def test_a_head_without_an_end_is_refused(start: bytes) -> None:
    async with connected(a_stage()) as (reader, writer):
        unit = b"X-A: b\r\n" if start.endswith(b"\n") else b"a" * 8
        writer.write(start + unit * (connection.HEAD_BYTES_MAX // 8))
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTT"], ids=["nothing", "half a head"])
async def test_a_head_that_does_not_come_is_given_up(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_S_MAX", 0.05)
    async with connected(a_stage()) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(5):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)


async def test_a_connection_may_be_used_longer_than_a_head_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "HEAD_S_MAX", 0.05)
    async with connected(a_stage()) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("apart", [True, False], ids=["body apart", "at once"])
async def test_an_offer_of_http2_is_passed_over(apart: bool) -> None:
    offer = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUPGRADE: h2c\r\nHTTP2-Settings: AAMAAABk"
    head, _, body = request(stream=False).partition(b"\r\n\r\n")
    stage = a_stage()
    async with connected(stage) as (reader, writer):
        for _ in range(2):
            writer.write(head + offer + b"\r\n\r\n")
            if apart:
                await writer.drain()
                await asyncio.sleep(0.02)
            writer.write(body)
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
                await reader.readuntil(b"}}")
    assert [record.outcome for record in stage.records] == [Outcome.OK] * 2


async def test_what_a_body_says_of_upgrades_is_left_alone() -> None:
    stage = a_stage()
    text = "How do I write\r\nUpgrade: h2c\r\n?"
    body = json.dumps(chat(text)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    async with connected(stage) as (reader, writer):
        writer.write(head.encode() + body)
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    prompt = stage.engine.asked[0].prompt
    assert isinstance(prompt, Chat)
    assert prompt.messages[0].content == text


async def test_a_large_body_is_no_large_head() -> None:
    stage = a_stage()
    body = json.dumps(chat("x" * (2 * connection.HEAD_BYTES_MAX))).encode()
    async with connected(stage) as (reader, writer):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
