"""Real workers are lost in every way: what happens to requests, and that the next one comes."""

import asyncio
import os
import signal

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import DeadlineExceeded, EngineError
from forebay.core.request import Delta, Event, Finished, Scheduled, Usage
from forebay.engine.supervisor import State
from tests.support.events import EventList
from tests.support.supervised import (
    LOOPS,
    answer,
    events_of,
    lives,
    now_request,
    run_on,
    supervised,
    until,
)

ON_BOTH = pytest.mark.parametrize("loop", LOOPS)
PACED: dict[str, object] = {"decode_s": 0.02}


@ON_BOTH
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_stream_goes_on_unbroken_and_a_whole_request_is_run_again(
    loop: str, number: signal.Signals
) -> None:
    async def main() -> None:
        async with supervised(options=PACED) as supervisor:
            events = supervisor.generate(now_request("one two", tokens_max=100, ignore_eos=True))
            heard: list[Event] = []
            while not (heard and isinstance(heard[-1], Delta)):
                heard.append(await anext(events))
            whole = asyncio.create_task(
                answer(supervisor, "one two", tokens_max=20, ignore_eos=True, stream=False)
            )
            began = MONOTONIC()
            await asyncio.sleep(0.1)
            pid = supervisor.pid
            assert pid is not None
            os.kill(pid, number)
            heard += [event async for event in events]
            assert "".join(e.text for e in heard if isinstance(e, Delta)) == "one two " * 50
            assert [type(event) for event in heard].count(Scheduled) == 1
            assert isinstance(heard[-1], Finished)
            assert heard[-1].usage == Usage(prompt_tokens=3, completion_tokens=100)
            assert heard[-1].timing.decode_s == pytest.approx(MONOTONIC() - began, abs=0.5)
            assert supervisor.reruns == 2
            assert await whole == "one two " * 10
            assert supervisor.restarts.keys() == {
                "exited" if number is signal.SIGKILL else "stalled"
            }
            assert supervisor.pid != pid
            await until(lambda: not lives(pid))

    run_on(loop, main())


@ON_BOTH
@pytest.mark.parametrize(
    ("direction", "reason"),
    [("!die", "exited"), ("!stall", "stalled"), ("!garbage", "garbage")],
)
def test_a_request_that_kills_workers_is_run_twice_and_no_more(
    loop: str, direction: str, reason: str
) -> None:
    async def main() -> None:
        async with supervised() as supervisor:
            with pytest.raises(EngineError):
                await answer(supervisor, direction)
            assert dict(supervisor.restarts) == {reason: 2}
            assert await answer(supervisor, "are you well", stream=False) == "are you well "

    run_on(loop, main())


async def test_while_there_is_no_worker_requests_wait_and_it_is_not_well() -> None:
    async with supervised(restart_wait_s_min=1.0, restart_wait_s_max=1.0) as supervisor:
        supervisor.supervisor._dice = lambda: 0.5
        with pytest.raises(EngineError):
            await answer(supervisor, "!die")
        assert not supervisor.well(MONOTONIC())
        assert supervisor.pid is None
        assert supervisor.gauges() is None
        started = MONOTONIC()
        assert await answer(supervisor, "hello") == "hello "
        assert MONOTONIC() - started > 0.3
        assert supervisor.well(MONOTONIC())


async def test_one_sequence_that_hangs_ends_at_its_deadline_and_others_go_on() -> None:
    async with supervised(options=PACED) as supervisor:
        request = now_request("one !hang", deadline=MONOTONIC() + 0.5)
        hanging = asyncio.create_task(events_of(supervisor, request))
        assert await answer(supervisor, "one two three") == "one two three "
        with pytest.raises(DeadlineExceeded):
            await hanging
        assert supervisor.restarts == {}


async def test_beats_without_tokens_while_work_runs_do_not_go_on_for_ever() -> None:
    async with supervised(progress_s_max=1.0) as supervisor:
        with pytest.raises(EngineError):
            await answer(supervisor, "one !hang")
        assert supervisor.restarts["stalled"] >= 1


async def test_an_idle_worker_that_is_stopped_is_noticed_before_anyone_asks() -> None:
    async with supervised() as supervisor:
        pid = supervisor.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: supervisor.pid not in {pid, None})
        assert dict(supervisor.restarts) == {"stalled": 1}


async def test_a_slow_step_is_not_a_stall() -> None:
    async with supervised(stall_s=0.5) as supervisor:
        assert await answer(supervisor, "one !slow two") == "one two "
        assert supervisor.restarts == {}


async def test_a_sequence_that_fails_fails_alone() -> None:
    async with supervised() as supervisor:
        with pytest.raises(EngineError, match="told it to fail"):
            await answer(supervisor, "one !fail two", stream=False)
        assert supervisor.restarts == {}
        assert supervisor.state is State.READY


async def test_what_happens_is_told_to_the_log() -> None:
    log = EventList()
    async with supervised(log=log) as supervisor:
        with pytest.raises(EngineError):
            await answer(supervisor, "!die")
        await answer(supervisor, "hello")
    names = [name for name, _ in log.events]
    assert names == [
        *("worker.ready", "worker.lost", "worker.ended", "worker.restarting") * 2,
        *("worker.ready", "worker.ended"),
    ]
    assert [fields["reason"] for fields in log.named("worker.lost")] == ["exited"] * 2
    assert [fields["status"] for fields in log.named("worker.ended")] == [1, 1, 0]
