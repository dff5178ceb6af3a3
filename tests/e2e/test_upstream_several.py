"""Several upstreams as one engine: retries before the first byte, balance, cancels, bounds."""

import asyncio
import contextlib
import time
from collections import Counter

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError, Overloaded
from forebay.core.request import Delta, Finished, Text, TokenIds
from forebay.engines.upstream import UpstreamEngine
from forebay.engines.upstream_config import UpstreamConfig
from forebay.engines.upstream_group import Group
from tests.support.events import EventList
from tests.support.upstreams import (
    END,
    LAST,
    STREAM,
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

GOOD = written(STREAM, chunk(event(b"fine")), chunk(LAST), END)
WHOLE = written(whole(completion(b"fine")))


async def never(to: Upstream, writer: asyncio.StreamWriter) -> bool:
    """Say nothing until the client has gone."""
    await to.gone(writer)
    return False


@pytest.mark.parametrize(
    "fault",
    [
        written(stays=False),
        written(whole(b"{}", status=b"500 No")),
        written(whole(b"{}", status=b"503 No")),
        written(whole(b"<html>", kind=b"text/html")),
        written(STREAM, stays=False),
    ],
    ids=["closed", "500", "503", "wrong type", "closed after the head"],
)
async def test_what_fails_before_its_first_token_is_answered_by_another(
    fault: Answer,
) -> None:
    async with upstream(fault) as bad, upstream(GOOD) as good, fronted(bad, good) as front:
        for _ in range(6):
            events = await said(front.engine, wish())
            assert "".join(e.text for e in events if isinstance(e, Delta)) == "fine"
        assert front.engine.reruns == len(front.faults())


async def test_what_fails_after_its_first_token_is_not_begun_again() -> None:
    cut = written(STREAM, chunk(event(b"half ")), stays=False)
    async with upstream(cut) as one, upstream(cut) as two, fronted(one, two) as front:
        texts = []
        with pytest.raises(EngineError, match="closed the connection"):
            async with contextlib.aclosing(front.engine.generate(wish())) as events:
                texts = [e.text async for e in events if isinstance(e, Delta)]
        assert texts == []
        assert front.engine.reruns == 0
        assert len(one.posts) + len(two.posts) == 2  # the engine's first token, and this


async def test_a_request_is_tried_no_more_often_than_is_allowed() -> None:
    bad = written(whole(b"{}", status=b"500 No"))
    knobs = {"retries_max": 1, "failures_max": 100}
    async with (
        upstream(bad) as one,
        upstream(bad) as two,
        upstream(bad) as three,
        fronted(one, two, three, **knobs) as front,
    ):
        with pytest.raises(EngineError):
            await said(front.engine, wish())
        assert len(front.faults()) == 2


async def test_retries_are_bounded_by_a_share_of_the_requests() -> None:
    bad = written(whole(b"{}", status=b"500 No"))
    knobs = {"retry_share_max": 0.0, "retries_per_s_min": 0.0, "failures_max": 1_000}
    async with (
        upstream(bad) as one,
        upstream(bad) as two,
        fronted(one, two, connections_max=100, **knobs) as front,
    ):
        for _ in range(150):
            with pytest.raises(EngineError):
                await said(front.engine, wish(stream=False))
        assert front.engine.reruns == 100  # the reserve


async def test_when_all_are_busy_the_client_is_told_when_to_come_back() -> None:
    busy = written(whole(b"{}", status=b"503 No").replace(b"\r\n", b"\r\nretry-after: 9\r\n", 1))
    async with (
        upstream(busy) as one,
        upstream(busy) as two,
        fronted(one, two, failures_max=1) as front,
    ):
        # Being busy is no failure: however often it is said, nobody is left alone for it.
        for _ in range(5):
            with pytest.raises(Overloaded) as refusal:
                await said(front.engine, wish())
            assert refusal.value.retry_after_s == 9.0
        assert front.engine.well(time.monotonic())


async def test_a_connection_that_went_stale_is_replaced_and_counts_as_no_failure() -> None:
    async def once(_: Upstream, writer: asyncio.StreamWriter) -> bool:
        writer.write(whole(completion(b"fine")))
        await writer.drain()
        await asyncio.sleep(0.01)
        return False

    async with upstream(once) as found, fronted(found, failures_max=1) as front:
        for _ in range(20):
            assert isinstance((await said(front.engine, wish(stream=False)))[-1], Finished)
        assert front.faults() == []


async def test_connections_are_kept_and_not_opened_for_each_request() -> None:
    async with upstream(WHOLE) as found, fronted(found, probe_s=100.0) as front:
        before = found.opened
        for _ in range(50):
            await said(front.engine, wish(stream=False))
        assert found.opened - before <= 1


async def test_streams_too_give_their_connection_back() -> None:
    async with upstream(GOOD) as found, fronted(found, probe_s=100.0) as front:
        before = found.opened
        for _ in range(50):
            await said(front.engine, wish())
        assert found.opened - before <= 1


async def test_a_connection_is_kept_though_the_end_of_its_answer_comes_late() -> None:
    async def late(_: Upstream, writer: asyncio.StreamWriter) -> bool:
        writer.write(STREAM + chunk(event(b"fine")) + chunk(LAST))
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.write(END)
        return True

    async with upstream(late) as found, fronted(found, probe_s=100.0) as front:
        before = found.opened
        for _ in range(5):
            assert isinstance((await said(front.engine, wish()))[-1], Finished)
            async with asyncio.timeout(2.0):
                while not front.engine.upstreams[0].kept:
                    await asyncio.sleep(0.01)
        assert found.opened - before <= 1


async def test_a_turn_that_came_to_someone_who_has_just_left_is_the_next_ones() -> None:
    async def no_token(_: object) -> None:
        """Nobody looks here."""

    config = UpstreamConfig(urls="http://127.0.0.1:9", connections_max=1)
    group = Group(config, token=no_token, dice=lambda: 0.0, now=MONOTONIC, log=EventList())
    assert group.take([], None) == 0
    leaver, stayer = [asyncio.create_task(group.turn([], None)) for _ in range(2)]
    while group.waiting < 2:
        await asyncio.sleep(0)
    group.leave(0)
    leaver.cancel()
    async with asyncio.timeout(2.0):
        assert await stayer == 0
    assert leaver.cancelled()
    group.stop()


async def test_more_requests_than_connections_wait_their_turn() -> None:
    most = 0

    async def slow(to: Upstream, writer: asyncio.StreamWriter) -> bool:
        nonlocal most
        most = max(most, to.open)
        await asyncio.sleep(0.005)
        return await WHOLE(to, writer)

    async with upstream(slow) as found, fronted(found, connections_max=3, probe_s=99.0) as front:
        wishes = [said(front.engine, wish(stream=False)) for _ in range(40)]
        answers = await asyncio.gather(*wishes)
        assert all(isinstance(events[-1], Finished) for events in answers)
        assert most == 3


async def test_who_leaves_while_waiting_holds_up_nobody() -> None:
    release = asyncio.Event()

    async def slow(to: Upstream, writer: asyncio.StreamWriter) -> bool:
        await release.wait()
        return await WHOLE(to, writer)

    async with upstream(slow) as found, fronted(found, connections_max=1) as front:
        tasks = [asyncio.create_task(said(front.engine, wish(stream=False))) for _ in range(9)]
        while front.engine.gauges().waiting < 8:
            await asyncio.sleep(0.01)
        for task in tasks[1:8]:
            task.cancel()
        release.set()
        assert isinstance((await tasks[0])[-1], Finished)
        assert isinstance((await tasks[8])[-1], Finished)
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("after_text", [False, True])
async def test_closing_the_iterator_closes_the_connection(*, after_text: bool) -> None:
    gone = asyncio.Event()

    async def answer(to: Upstream, writer: asyncio.StreamWriter) -> bool:
        writer.write(STREAM + chunk(event(b"a")) if after_text else b"")
        await to.gone(writer)
        gone.set()
        return False

    async with upstream(answer) as found, fronted(found) as front:

        async def read() -> None:
            async with contextlib.aclosing(front.engine.generate(wish())) as events:
                async for _ in events:
                    return

        reading = asyncio.create_task(read())
        if after_text:
            await reading
        else:
            while len(found.posts) < 2:
                await asyncio.sleep(0.01)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert front.engine.gauges().running == 0
        async with asyncio.timeout(1.0):
            await gone.wait()


async def test_one_beginning_goes_to_one_upstream_and_others_spread() -> None:
    async with upstream(WHOLE) as one, upstream(WHOLE) as two, upstream(WHOLE) as three:
        found = (one, two, three)
        async with fronted(*found) as front:
            before = Counter({o.port: len(o.posts) for o in found})
            shared = "You are a helpful assistant who knows all of this: " * 50
            for number in range(12):
                await said(front.engine, wish(shared + str(number), stream=False))
            hot = Counter({o.port: len(o.posts) for o in found}) - before
            assert list(hot.values()) == [12]
            for number in range(60):
                await said(front.engine, wish(f"{number} is another", stream=False))
            assert all(len(o.posts) >= 8 for o in found)


async def test_a_hot_beginning_spills_over_when_its_upstream_is_much_busier() -> None:
    release = asyncio.Event()

    async def slow(to: Upstream, writer: asyncio.StreamWriter) -> bool:
        await release.wait()
        return await WHOLE(to, writer)

    async with upstream(slow) as one, upstream(slow) as two:
        async with fronted(one, two, busier_max=4) as front:
            tasks = [asyncio.create_task(said(front.engine, wish(stream=False))) for _ in range(30)]
            while front.engine.gauges().running < 30:
                await asyncio.sleep(0.01)
            loads = sorted(found.load for found in front.engine.upstreams)
            release.set()
            await asyncio.gather(*tasks)
        assert loads[0] >= 8
        assert loads[1] <= 2 * loads[0] + 5


async def test_who_does_not_say_that_it_is_well_is_asked_only_if_nobody_else_is_there() -> None:
    knobs = {"probe_s": 0.05, "failures_max": 1_000}
    async with (
        upstream(WHOLE) as one,
        upstream(WHOLE) as two,
        fronted(one, two, **knobs) as front,
    ):
        one.well = False
        async with asyncio.timeout(5.0):
            while front.engine.upstreams[0].well:
                await asyncio.sleep(0.01)
        before = len(one.posts)
        for number in range(20):
            await said(front.engine, wish(str(number), stream=False))
        assert len(one.posts) == before
        assert front.engine.well(time.monotonic())


async def test_what_is_asked_is_what_was_wished() -> None:
    async with upstream(WHOLE) as found, fronted(found, api_key="s3cret", model="m") as front:
        await said(front.engine, wish("hé", stream=False, seed=4, stop=("x",), top_k=3))
        head, body = found.heads[-1], found.posts[-1]
        assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert b"authorization: Bearer s3cret\r\n" in head
        assert f"host: 127.0.0.1:{found.port}\r\n".encode() in head
        assert body.startswith(b'{"model":"m","temperature":1.0,"top_p":1.0,"messages":[{')
        for part in ('"hé"', '"seed":4', '"stop":["x"]', '"top_k":3', '"max_tokens":8'):
            assert part.encode() in body
        assert "s3cret" not in repr(front.log.events)


@pytest.mark.parametrize("prompt", [Text(text="once"), TokenIds(ids=(1, 2))])
async def test_plain_prompts_go_to_the_other_route(prompt: Text | TokenIds) -> None:
    text = whole(b'{"choices":[{"index":0,"text":"upon","finish_reason":"length"}]}')
    async with upstream(written(text)) as found, fronted(found) as front:
        events = await said(front.engine, wish(prompt=prompt, stream=False))
        assert [e.text for e in events if isinstance(e, Delta)] == ["upon"]
        assert found.heads[-1].startswith(b"POST /v1/completions ")


async def test_nobody_there_ends_the_start_with_the_reason() -> None:
    config = UpstreamConfig(urls="http://127.0.0.1:9/v1", start_s_max=0.3)
    engine = UpstreamEngine(config, now=MONOTONIC, log=EventList())
    with pytest.raises(EngineError, match="unreachable"):
        await engine.start()


async def test_a_model_that_is_not_there_ends_the_start_with_those_that_are() -> None:
    async with upstream(WHOLE) as found:
        config = UpstreamConfig(urls=found.url, model="other")
        engine = UpstreamEngine(config, now=MONOTONIC, log=EventList())
        with pytest.raises(EngineError, match="There: m"):
            await engine.start()


async def test_no_first_token_ends_the_start_and_leaves_nothing() -> None:
    async with upstream(written(whole(b"{}", status=b"500 No"))) as found:
        found.starting = False
        config = UpstreamConfig(urls=found.url, failures_max=1, rest_s=0.05)
        engine = UpstreamEngine(config, now=MONOTONIC, log=EventList())
        with pytest.raises(EngineError, match="failed"):
            await engine.start()
        assert not any(upstream.load or upstream.connections for upstream in engine.upstreams)
    assert len(asyncio.all_tasks()) == 1


async def test_what_runs_when_it_is_stopped_ends_at_once() -> None:
    async with upstream(never) as found, fronted(found) as front:
        task = asyncio.create_task(said(front.engine, wish()))
        while len(found.posts) < 2:
            await asyncio.sleep(0.01)
        await front.engine.stop()
        with pytest.raises(EngineError, match="stopped"):
            await task
        with pytest.raises(EngineError, match="not running"):
            await said(front.engine, wish())


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with upstream(WHOLE) as found, fronted(found) as front:
        assert isinstance((await said(front.engine, wish(stream=False)))[-1], Finished)
