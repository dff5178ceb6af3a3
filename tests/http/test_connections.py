"""Real connections to a gateway: bounded heads, and a client's end noticed whatever it sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from forebay.core.errors import Outcome
from forebay.core.request import Chat, Delta, Scheduled
from forebay.gateway.config import GatewayConfig
from forebay.serve.admission import AdmissionConfig
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
        writer.write(start + unit * (GatewayConfig().head_bytes_max // 8))
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTT"], ids=["nothing", "half a head"])
async def test_a_head_that_does_not_come_is_given_up(
    sent: bytes,
) -> None:
    async with connected(a_stage(config=GatewayConfig(head_s_max=0.05))) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(5):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)


async def test_a_connection_may_be_used_longer_than_a_head_may_take() -> None:
    async with connected(a_stage(config=GatewayConfig(head_s_max=0.05))) as (reader, writer):
        for _ in range(2):
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.1)


async def test_a_connection_is_closed_once_it_was_idle_for_as_long_as_it_is_kept() -> None:
    async with listening(a_stage(), keep_alive_s=0.2) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(4):  # together longer than it is kept idle
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            async with asyncio.timeout(5):
                assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.07)
        async with asyncio.timeout(1):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_is_kept_while_an_answer_takes_its_time() -> None:
    async with listening(stage := a_stage([Scheduled(1), hang]), keep_alive_s=0.05) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"}")
        writer.write(request(stream=False))
        await until(lambda: stage.engine.held == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.read(1)
        writer.close()


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
    body = json.dumps(chat("x" * (2 * GatewayConfig().head_bytes_max))).encode()
    async with connected(stage) as (reader, writer):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.read(-1)


def told(answer: bytes) -> str:
    """Return the message of an answer that is a 400 of OpenAI's shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_a_client_that_half_closes_before_its_answer_is_told_so(stream: bool) -> None:
    stage = a_stage([Scheduled(1), hang])
    async with connected(stage) as (reader, writer):
        writer.write(request(stream=stream))
        await until(lambda: stage.engine.held == 1)
        writer.write_eof()
        assert told(await until_closed(reader)).startswith("You closed your sending side")
        await until(lambda: len(stage.records) == 1)
    assert stage.engine.held == 0
    assert (stage.record.outcome, stage.record.status) == (Outcome.CANCELLED, 499)


async def test_a_request_and_its_end_at_once_are_answered_and_hold_nothing() -> None:
    stage = a_stage([Scheduled(1), hang])
    async with connected(stage) as (reader, writer):
        writer.write(request(stream=True))
        writer.write_eof()
        assert told(await until_closed(reader)).startswith("You closed your sending side")
        await until(lambda: len(stage.records) == 1)
    assert stage.engine.held == 0
    assert stage.record.outcome is Outcome.CANCELLED


async def test_a_client_that_half_closes_in_the_queue_gives_its_place_in_it_back() -> None:
    stage = a_stage([Scheduled(1), hang], admission=AdmissionConfig(running_max=1))
    load = stage.gateway.lanes.find("m").admission
    async with connected(stage) as (_, first), connected(stage) as (reader, second):
        first.write(request(stream=True))
        await until(lambda: load.load.running == 1)
        second.write(request(stream=True))
        await until(lambda: load.load.waiting == 1)
        second.write_eof()
        assert told(await until_closed(reader)).startswith("You closed your sending side")
        await until(lambda: load.load.waiting == 0)
        assert load.load.running == 1
    assert len(stage.engine.asked) == 1


async def test_a_client_that_half_closes_in_mid_stream_gets_an_error_frame_and_done() -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang])
    async with connected(stage) as (reader, writer):
        writer.write(request(stream=True))
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b'"a"')).startswith(b"HTTP/1.1 200 ")
            await reader.readuntil(b"\r\n")
        writer.write_eof()
        end = await until_closed(reader)
        await until(lambda: len(stage.records) == 1)
    size, _, rest = end.partition(b"\r\n")
    assert rest[int(size, 16) :] == b"\r\n0\r\n\r\n"
    event, done, nothing = rest[: int(size, 16)].split(b"\n\n")
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "invalid_request"
    assert (done, nothing) == (b"data: [DONE]", b"")
    assert stage.engine.held == 0
    assert stage.record.outcome is Outcome.CANCELLED


async def test_half_closing_before_the_body_is_complete_is_refused_and_recorded() -> None:
    stage = a_stage()
    async with connected(stage) as (reader, writer):
        writer.write(request(stream=False)[:-1])
        writer.write_eof()
        assert "before the request was complete" in told(await until_closed(reader))
        await until(lambda: len(stage.records) == 1)
    assert (stage.record.outcome, stage.record.status) == (Outcome.CANCELLED, 499)
    assert stage.engine.asked == []


@pytest.mark.parametrize("kept", [True, False], ids=["kept connection", "new connection"])
async def test_half_closing_before_the_head_is_complete_is_refused(kept: bool) -> None:
    async with connected(a_stage()) as (reader, writer):
        if kept:
            writer.write(request(stream=False))
            async with asyncio.timeout(5):
                await reader.readuntil(b"}}")
        writer.write(b"GET /livez HTTP/1.1\r\nHost: ")
        writer.write_eof()
        assert "before the request was complete" in told(await until_closed(reader))


@pytest.mark.parametrize("used", [True, False], ids=["used", "fresh"])
async def test_an_idle_connection_that_half_closes_is_just_closed(used: bool) -> None:
    async with connected(a_stage()) as (reader, writer):
        if used:
            writer.write(request(stream=False))
            async with asyncio.timeout(5):
                await reader.readuntil(b"}}")
        writer.write_eof()
        assert await until_closed(reader) == b""


async def test_half_closing_with_more_requests_behind_ends_the_one_that_is_served() -> None:
    stage = a_stage([Scheduled(1), Delta("a"), hang])
    async with connected(stage) as (reader, writer):
        writer.write(request(stream=True) * 2)
        async with asyncio.timeout(5):
            await reader.readuntil(b'"a"')
        writer.write_eof()
        end = await until_closed(reader)
        await until(lambda: len(stage.records) == 1)
    assert end.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b"HTTP/1.1" not in end
    assert stage.engine.held == 0
    assert len(stage.engine.asked) == 1


async def test_a_client_that_half_closes_and_does_not_read_holds_nothing() -> None:
    stage = a_stage([Scheduled(1), *[Delta("x" * 1_000_000)] * 20, hang])
    async with connected(stage) as (_, writer):
        writer.write(request(stream=True))
        await until(lambda: stage.engine.held == 1)
        await asyncio.sleep(0.05)  # the kernel's buffers are full, and so is ours
        writer.write_eof()
        await until(lambda: stage.engine.held == 0)
        assert stage.record.outcome is Outcome.CANCELLED


async def test_half_closing_after_a_refusal_that_came_before_the_body_adds_no_answer() -> None:
    async with connected(a_stage()) as (reader, writer):
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
        writer.write(head.encode() + b"{")
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"}}")).startswith(b"HTTP/1.1 413 ")
        writer.write_eof()
        assert await until_closed(reader) == b""
