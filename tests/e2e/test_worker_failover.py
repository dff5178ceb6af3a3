"""Requests outlive their workers, poison is found among the innocent, and several workers share."""

import asyncio
import contextlib
import os
import signal

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError
from forebay.core.request import Delta, Finished, Sampling
from tests.support.requests import a_chat
from tests.support.supervised import (
    LOOPS,
    Kept,
    answer,
    events_of,
    now_request,
    run_on,
    supervised,
    until,
)

ON_BOTH = pytest.mark.parametrize("loop", LOOPS)
PACED: dict[str, object] = {"decode_s": 0.01}
HARD = "naïve 日本語の長い言葉 👩🏽‍🚀 "


async def outcomes_of(engine: Kept, texts: list[str]) -> list[str | BaseException]:
    """Ask all at once, whole ones and streams in turn."""
    asked = [
        answer(engine, text, tokens_max=30, ignore_eos=True, stream=bool(number % 2))
        for number, text in enumerate(texts)
    ]
    return await asyncio.gather(*asked, return_exceptions=True)


@ON_BOTH
@pytest.mark.parametrize("direction", ["!die", "!stall"])
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_poison_is_found_among_the_innocent_and_costs_two_workers(
    loop: str, direction: str, stream: bool
) -> None:
    async def main() -> None:
        async with supervised(options=PACED) as engine:
            good = [f"innocent {number} " for number in range(12)]
            asking = asyncio.create_task(outcomes_of(engine, good))
            await asyncio.sleep(0.03)
            with pytest.raises(EngineError, match="third time"):
                await answer(engine, f"a b c d {direction}", tokens_max=20, stream=stream)
            assert await asking == [text * 10 for text in good]
            assert sum(engine.restarts.values()) == 2
            assert engine.poisoned == 1
            with pytest.raises(EngineError, match="not run again for a while"):
                await answer(engine, f"a b c d {direction}", tokens_max=20, stream=stream)
            assert sum(engine.restarts.values()) == 2, "it was refused before it could kill"

    run_on(loop, main())


@ON_BOTH
def test_with_two_workers_the_loss_of_one_is_a_pause_of_a_moment(loop: str) -> None:
    async def main() -> None:
        async with supervised(options=PACED, workers=2) as engine:
            texts = [f"number {number} {HARD}" for number in range(12)]
            asking = asyncio.create_task(outcomes_of(engine, texts))
            await asyncio.sleep(0.1)
            assert sorted(engine._loads) == [6, 6], "each has half"
            lost = engine.pids[0]
            assert lost is not None
            os.kill(lost, signal.SIGKILL)
            await until(lambda: sum(engine.restarts.values()) == 1)
            assert engine.well(MONOTONIC())
            asked = MONOTONIC()
            assert await answer(engine, "still here") == "still here "
            assert MONOTONIC() - asked < 0.5
            for text, said in zip(texts, await asking, strict=True):
                assert isinstance(said, str)
                assert (text * 10).startswith(said)
            await until(lambda: engine.pids[0] not in {None, lost})
            assert engine._loads == [0, 0]

    run_on(loop, main())


async def test_a_stream_survives_two_losses_with_its_counts_and_its_stop_text() -> None:
    async with supervised(options={"decode_s": 0.02}, resubmits_max=5) as engine:
        words = HARD * 30 + "stop here please"
        request = now_request("", prompt=a_chat(words), sampling=Sampling(stop=("stop here",)))
        whole = await events_of(engine, request)
        heard, kills = [], 0
        async with contextlib.aclosing(engine.generate(request)) as events:
            async for event in events:
                heard.append(event)
                if len(heard) in {20, 60} and engine.pid is not None:
                    os.kill(engine.pid, signal.SIGKILL)
                    kills += 1
        assert kills == engine.reruns == 2
        said = ["".join(e.text for e in all_ if isinstance(e, Delta)) for all_ in (whole, heard)]
        assert said[0] == said[1] == HARD * 30
        last, reference = heard[-1], whole[-1]
        assert isinstance(last, Finished)
        assert isinstance(reference, Finished)
        assert last.usage == reference.usage


async def test_a_whole_answer_goes_on_where_it_stood() -> None:
    async with supervised(options={"decode_s": 0.02}) as engine:
        asking = asyncio.create_task(
            events_of(engine, now_request("a b", tokens_max=100, ignore_eos=True, stream=False))
        )
        await asyncio.sleep(1.0)
        made = engine.progress()
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        events = await asking
        assert "".join(e.text for e in events if isinstance(e, Delta)) == "a b " * 50
        assert made > 30
        assert engine.progress() < 100 + 15, "no more than the last moments were made again"


async def test_an_answer_that_cannot_be_gone_on_with_ends_with_an_error() -> None:
    async with supervised(options=PACED) as engine:
        assert engine._info is not None
        object.__setattr__(engine._info, "resumable", frozenset())
        events = engine.generate(now_request("a b", tokens_max=500, ignore_eos=True))
        while not isinstance(await anext(events), Delta):
            pass
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="in the middle"):
            async for _ in events:
                pass


async def test_what_is_run_again_has_a_budget() -> None:
    no_more = {"rerun_share_max": 0.0, "reruns_per_s_min": 0.0}
    async with supervised(options=PACED, **no_more) as engine:
        engine._budget._left = 3.0
        asking = asyncio.create_task(outcomes_of(engine, ["a b"] * 8))
        await asyncio.sleep(0.1)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        said = await asking
        assert sum(isinstance(each, EngineError) for each in said) == 5
        assert said.count("a b " * 15) == 3


async def test_a_client_that_leaves_while_its_request_waits_for_a_worker_holds_nothing() -> None:
    async with supervised(restart_wait_s_min=30.0, restart_wait_s_max=30.0) as engine:
        engine.supervisor._dice = lambda: 0.9
        with pytest.raises(EngineError):
            await answer(engine, "!die")
        asking = [asyncio.create_task(answer(engine, "hello")) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert [held.kind for held in engine.holdings()] == ["engine_request"] * 3
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        assert list(engine.holdings()) == []


async def test_what_a_client_left_behind_is_reported_when_it_is_freed() -> None:
    async with supervised(options={"decode_s": 0.01, "prefill_s": 0.2}) as engine:
        events = engine.generate(now_request("a b c", tokens_max=900, ignore_eos=True))
        await anext(events)
        await anext(events)
        early = asyncio.create_task(answer(engine, "one two three", stream=False))
        await asyncio.sleep(0.05)
        await events.aclose()
        early.cancel()
        assert len(list(engine.holdings())) >= 1
        await until(lambda: len(engine.freed) == 2)
        assert list(engine.holdings()) == []
        by_phase = {phase: (wait_s, tokens) for wait_s, phase, tokens in engine.freed}
        assert by_phase.keys() == {"prefill", "decode"}
        assert by_phase["prefill"][1] == 4
        assert max(wait_s for wait_s, _ in by_phase.values()) < 0.25
