"""Upstreams that lie: each lie ends as a named error within bounds, and nothing is left of it."""

import asyncio
import contextlib
import itertools
import time

import pytest

from forebay.core.errors import EngineError, Invalid, Overloaded, ServingError
from forebay.core.request import Delta, Finished
from tests.support.upstreams import (
    DONE,
    END,
    LAST,
    STREAM,
    USAGE,
    Answer,
    Upstream,
    chunk,
    completion,
    event,
    fronted,
    said,
    upstream,
    whole,
    wish,
    written,
)

STREAMED: dict[str, tuple[Answer, str]] = {
    "a wrong content type": (written(whole(b"<html>", kind=b"text/html")), "wrong_type"),
    "a whole answer to a stream": (written(whole(completion(b"x"))), "wrong_type"),
    "silence after the head": (written(STREAM, stays=False), "closed"),
    "a silent close in the middle": (written(STREAM, chunk(event(b"a")), stays=False), "closed"),
    "an end in the middle": (written(STREAM, chunk(event(b"a")), END), "cut"),
    "an end inside an event": (
        written(STREAM, chunk(event(b"", reason=b'"stop"')), chunk(b"data: {"), END),
        "cut",
    ),
    "[DONE] before a finish": (written(STREAM, chunk(event(b"a") + DONE), END), "cut"),
    "an endless line": (written(STREAM, *[chunk(b"data: " + b"x" * 4_000)] * 9), "too_long"),
    "endless comments": (written(STREAM, *[chunk(b": x\n" * 1_000)] * 99), "too_long"),
    "an endless event": (written(STREAM, *[chunk(b"data: xxxxxxxx\n" * 500)] * 9), "too_long"),
    "an endless head": (written(b"HTTP/1.1 200 OK\r\n", *[b"x: " + b"y" * 9_000] * 9), "too_long"),
    "many headers": (written(b"HTTP/1.1 200 OK\r\n", *[b"x: y\r\n" * 1_000] * 9), "too_long"),
    "no JSON": (written(STREAM, chunk(b"data: {oh no\n\n")), "not_json"),
    "other JSON": (written(STREAM, chunk(b'data: {"choices":7}\n\n')), "not_json"),
    "a list": (written(STREAM, chunk(b"data: []\n\n")), "not_json"),
    "deep JSON": (written(STREAM, chunk(b"data: " + b"[" * 5_000 + b"\n\n")), "not_json"),
    "invalid UTF-8": (written(STREAM, chunk(event(b"\xff\xfe"))), "not_json"),
    "half of a surrogate pair": (written(STREAM, chunk(event(b"\\ud800"))), "not_json"),
    "a choice out of range": (written(STREAM, chunk(event(b"a", index=7))), "nonsense"),
    "a negative choice": (written(STREAM, chunk(event(b"a", index=-1))), "nonsense"),
    "text after a choice's end": (
        written(STREAM, chunk(event(b"a", reason=b'"stop"') + event(b"b"))),
        "nonsense",
    ),
    "an event after [DONE]": (written(STREAM, chunk(LAST + event(b"b")), END), "unasked"),
    "a negative usage": (
        written(STREAM, chunk(LAST.replace(b'"completion_tokens":2', b'"completion_tokens":-2'))),
        "nonsense",
    ),
    "a huge usage": (
        written(STREAM, chunk(LAST.replace(b'"prompt_tokens":3', b'"prompt_tokens":%d' % 10**12))),
        "nonsense",
    ),
    "a reason nobody knows": (written(STREAM, chunk(event(b"a", reason=b'"bored"'))), "nonsense"),
    "an error in the stream": (
        written(STREAM, chunk(event(b"a") + b'data: {"error":{"message":"oom"}}\n\n')),
        "failed",
    ),
    "no HTTP": (written(b"220 smtp.example.com ESMTP\r\n\r\n"), "not_http"),
    "TLS": (written(b"\x15\x03\x03\x00\x02\x02\x28", stays=False), "not_http"),
    "another protocol": (
        written(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc"),
        "not_http",
    ),
    "two lengths": (
        written(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        "not_http",
    ),
    "a length and chunks": (
        written(STREAM[:-2] + b"content-length: 5\r\n\r\n", chunk(LAST), END),
        "not_http",
    ),
    "chunks of no size": (written(STREAM, b"zz\r\n"), "not_http"),
    "a chunk of negative size": (written(STREAM, b"-5\r\nhello\r\n"), "not_http"),
    "a compressed body": (
        written(STREAM[:-2] + b"content-encoding: gzip\r\n\r\n", chunk(LAST), END),
        "not_http",
    ),
    "a redirect": (
        written(
            b"HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
        ),
        "redirect",
    ),
    "a status of 500": (written(whole(b'{"error":"oom"}', status=b"500 No")), "failed"),
    "a status that is none": (written(whole(b"", status=b"799 What")), "failed"),
}

WHOLE: dict[str, tuple[Answer, str]] = {
    "a wrong content type": (written(whole(completion(b"x"), kind=b"text/plain")), "wrong_type"),
    "a stream": (written(STREAM, chunk(LAST), END), "wrong_type"),
    "a huge body": (written(whole(b" " * 200_000)), "too_long"),
    "a body that breaks off": (written(whole(completion(b"x"))[:-9], stays=False), "closed"),
    "an empty body": (written(whole(b"")), "not_json"),
    "no JSON": (written(whole(b"{oh no")), "not_json"),
    "invalid UTF-8": (written(whole(completion(b"\xff"))), "not_json"),
    "no choices": (written(whole(b"{" + USAGE + b"}")), "cut"),
    "a choice out of range": (
        written(whole(completion(b"x").replace(b'"index":0', b'"index":3'))),
        "nonsense",
    ),
    "a choice without an end": (
        written(whole(completion(b"x").replace(b'"stop"', b"null"))),
        "nonsense",
    ),
    "a negative usage": (
        written(whole(completion(b"x").replace(b'tokens":2', b'tokens":-2'))),
        "nonsense",
    ),
    "an error with a status of 200": (written(whole(b'{"error":{"message":"no"}}')), "failed"),
}

BOUNDS = {
    "line_bytes_max": 16_384,
    "head_bytes_max": 16_384,
    "answer_bytes_max": 100_000,
    "stream_bytes_max": 200_000,
    "failures_max": 100,
}


@pytest.mark.parametrize("lie", STREAMED)
async def test_a_lie_in_a_stream_ends_as_a_named_error(lie: str) -> None:
    answer, reason = STREAMED[lie]
    async with upstream(answer) as liar, fronted(liar, **BOUNDS) as front:
        with pytest.raises(EngineError):
            await said(front.engine, wish())
        assert front.faults() == [reason]


@pytest.mark.parametrize("lie", WHOLE)
async def test_a_lie_in_a_whole_answer_ends_as_a_named_error(lie: str) -> None:
    answer, reason = WHOLE[lie]
    async with upstream(answer) as liar, fronted(liar, **BOUNDS) as front:
        with pytest.raises(EngineError):
            await said(front.engine, wish(stream=False))
        assert front.faults() == [reason]


async def test_nothing_of_a_lie_reaches_the_next_answer() -> None:
    answers = itertools.cycle(
        [
            written(STREAM, chunk(LAST), END + STREAM),
            written(STREAM, chunk(event(b"true")), chunk(LAST), END),
        ]
    )

    async def answer(to: Upstream, writer: asyncio.StreamWriter) -> bool:
        return await next(answers)(to, writer)

    async with upstream(answer) as liar, fronted(liar) as front:
        for _ in range(3):
            with contextlib.suppress(ServingError):
                await said(front.engine, wish())
            events = await said(front.engine, wish())
            assert [e.text for e in events if isinstance(e, Delta)] == ["true", ""]


async def test_what_comes_late_after_the_end_closes_the_connection_and_harms_nobody() -> None:
    async def answer(_: Upstream, writer: asyncio.StreamWriter) -> bool:
        writer.write(STREAM + chunk(LAST))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(chunk(event(b"late")) + END)
        return True

    async with upstream(answer) as liar, fronted(liar) as front:
        for number in range(1, 4):
            events = await said(front.engine, wish())
            assert isinstance(events[-1], Finished)
            assert [e.text for e in events if isinstance(e, Delta)] == [""]
            async with asyncio.timeout(2.0):
                while liar.open:
                    await asyncio.sleep(0.01)
            assert len(liar.posts) == number + 1


async def test_what_comes_after_the_end_counts_as_a_failure() -> None:
    answer = written(STREAM + chunk(LAST) + END + STREAM)
    async with upstream(answer) as liar, fronted(liar, failures_max=2, rest_s=9.0) as front:
        for _ in range(3):
            assert isinstance((await said(front.engine, wish()))[-1], Finished)
        assert [fields["reason"] for fields in front.log.named("upstream.away")] == ["unasked"]


async def test_a_slow_drip_ends_when_it_has_ended_no_line_for_too_long() -> None:
    async def answer(_: Upstream, writer: asyncio.StreamWriter) -> bool:
        writer.write(STREAM + chunk(event(b"a")))
        while not writer.is_closing():
            writer.write(chunk(b"x"))
            await writer.drain()
            await asyncio.sleep(0.02)
        return False

    async with upstream(answer) as liar, fronted(liar, silence_s_max=0.4) as front:
        began = time.monotonic()
        with pytest.raises(EngineError, match="silent"):
            await said(front.engine, wish())
        assert time.monotonic() - began < 3.0
        assert front.faults() == ["silent"]


async def test_a_stream_that_never_ends_is_bounded_in_bytes_and_memory() -> None:
    async def answer(_: Upstream, writer: asyncio.StreamWriter) -> bool:
        writer.write(STREAM)
        while not writer.is_closing():
            writer.write(chunk(event(b"word ")))
            await writer.drain()
        return False

    async with upstream(answer) as liar, fronted(liar, stream_bytes_max=1_000_000) as front:
        with pytest.raises(EngineError, match="longer than"):
            await said(front.engine, wish())
        assert front.faults() == ["too_long"]


async def test_a_slow_reader_stops_the_upstream_and_not_our_memory() -> None:
    sent = 0

    async def answer(_: Upstream, writer: asyncio.StreamWriter) -> bool:
        nonlocal sent
        writer.write(STREAM)
        while sent < 200_000_000 and not writer.is_closing():
            data = chunk(event(b"x" * 20_000))
            writer.write(data)
            sent += len(data)
            await writer.drain()
        return False

    async with upstream(answer) as liar, fronted(liar, unread_bytes_max=100_000) as front:
        async with contextlib.aclosing(front.engine.generate(wish())) as events:
            await anext(events)
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.2)
        assert sent < 30_000_000  # what both sockets hold, at most


async def test_a_storm_of_500_opens_the_breaker_and_a_token_closes_it() -> None:
    failing = True

    async def answer(to: Upstream, writer: asyncio.StreamWriter) -> bool:
        bad, good = whole(b"{}", status=b"500 No"), whole(completion(b"fine"))
        return await written(bad if failing else good)(to, writer)

    async with upstream(answer) as liar, fronted(liar, failures_max=3, rest_s=0.2) as front:
        for _ in range(3):
            with pytest.raises(EngineError, match="failed"):
                await said(front.engine, wish(stream=False))
        asked = len(liar.posts)
        with pytest.raises(EngineError) as refusal:
            await said(front.engine, wish(stream=False))
        assert refusal.value.status == 503
        assert refusal.value.retry_after_s
        assert len(liar.posts) == asked, "nobody is asked while it is left alone"
        assert not front.engine.well(time.monotonic())
        failing = False
        async with asyncio.timeout(5.0):
            while not front.engine.well(time.monotonic()):
                await asyncio.sleep(0.02)
        assert isinstance((await said(front.engine, wish(stream=False)))[-1], Finished)
        assert [fields["reason"] for fields in front.log.named("upstream.away")] == ["failed"]
        assert len(front.log.named("upstream.back")) == 1


async def test_an_upstream_that_says_it_is_well_and_makes_no_token_stays_left_alone() -> None:
    bad = written(whole(b"{}", status=b"500 No"))
    async with upstream(bad) as liar, fronted(liar, failures_max=1, rest_s=0.05) as front:
        with pytest.raises(EngineError):
            await said(front.engine, wish())
        asked = len(liar.posts)
        async with asyncio.timeout(5.0):
            while len(liar.posts) < asked + 3:
                await asyncio.sleep(0.02)
        assert not front.engine.well(time.monotonic())


@pytest.mark.parametrize(
    ("status", "body", "error", "param"),
    [
        (b"400 No", b'{"error":{"message":"n: 3","param":"n"}}', Invalid, "n"),
        (b"422 No", b'{"detail":"top_k: odd"}', Invalid, None),
        (b"413 No", b"too much", Invalid, None),
        (b"400 No", b'{"error":{"message":"x","param":"a\\nb"}}', Invalid, None),
        (b"400 No", b"[" * 9_999, Invalid, None),
        (b"429 No", b"{}", Overloaded, None),
        (b"503 No", b"{}", Overloaded, None),
        (b"401 No", b"{}", EngineError, None),
        (b"404 No", b"{}", EngineError, None),
    ],
)
async def test_a_refusal_is_relayed_within_bounds(
    status: bytes, body: bytes, error: type[ServingError], param: str | None
) -> None:
    refusing = written(whole(body, status=status).replace(b"\r\n", b"\r\nretry-after: 7\r\n", 1))
    async with upstream(refusing) as found, fronted(found) as front:
        with pytest.raises(ServingError) as refusal:
            await said(front.engine, wish())
        assert type(refusal.value) is error
        assert refusal.value.param == param
        assert 0 < len(refusal.value.message) <= 500
        assert refusal.value.message.isprintable()
        if error is Overloaded:
            assert refusal.value.retry_after_s == 7.0


async def test_a_refusal_whose_body_never_ends_is_still_a_refusal() -> None:
    async def answer(_: Upstream, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 400 No\r\ncontent-length: 99999999\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"no " * 1_000)
                await writer.drain()
        return False

    async with upstream(answer) as liar, fronted(liar) as front:
        with pytest.raises(Invalid):
            await said(front.engine, wish())
