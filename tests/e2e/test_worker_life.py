"""A real worker from start to stop: nothing is held, nothing is left, nothing is blocked."""

import asyncio
import contextlib
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import EngineError
from forebay.core.request import Delta, Finished, Scheduled
from forebay.engine.supervisor import State
from forebay.engine.worker_socket import listening
from tests.support.supervised import (
    LOOPS,
    Kept,
    a_supervisor,
    answer,
    entries,
    events_of,
    lives,
    now_request,
    run_on,
    supervised,
    until,
)

ON_BOTH = pytest.mark.parametrize("loop", LOOPS)
PACED: dict[str, object] = {"decode_s": 0.02}


def holds_nothing(supervisor: Kept) -> bool:
    stats = supervisor.gauges()
    return stats is not None and stats.running + stats.waiting == 0


@ON_BOTH
def test_closing_a_stream_frees_its_sequences_within_a_step(loop: str) -> None:
    async def main() -> None:
        async with supervised(options=PACED) as supervisor:
            request = now_request("a b c", tokens_max=5000, ignore_eos=True, choices=3)
            async with contextlib.aclosing(supervisor.generate(request)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        break
            await until(lambda: not holds_nothing(supervisor))
            freed_s = await until(lambda: holds_nothing(supervisor))
            assert freed_s < 0.5, "a step takes 20 ms"
            made = supervisor.progress()
            await asyncio.sleep(0.1)
            assert supervisor.progress() == made

    run_on(loop, main())


@ON_BOTH
def test_after_200_readers_were_cancelled_at_random_nothing_is_held(loop: str) -> None:
    dice = random.Random(5)

    async def main() -> None:
        async with supervised(options={"decode_s": 0.005}) as supervisor:

            async def read(stream: bool) -> None:
                request = now_request(
                    "a b c", tokens_max=50_000, ignore_eos=True, stream=stream, choices=2
                )
                await events_of(supervisor, request)

            tasks = [asyncio.create_task(read(dice.random() < 0.5)) for _ in range(200)]
            for task in dice.sample(tasks, len(tasks)):
                if dice.random() < 0.3:
                    await asyncio.sleep(0.01 * dice.random())
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert len(supervisor.supervisor._flights) == 0
            await until(lambda: holds_nothing(supervisor))
            assert await answer(supervisor, "all well") == "all well "

    run_on(loop, main())


async def test_a_slow_reader_gets_every_token_in_few_deltas() -> None:
    async with supervised(pending_deltas_max=8) as supervisor:
        request = now_request("one two", tokens_max=3_000, ignore_eos=True)
        deltas = []
        async with contextlib.aclosing(supervisor.generate(request)) as events:
            async for event in events:
                if isinstance(event, Delta):
                    deltas.append(event)
                    await asyncio.sleep(0.01)
        assert "".join(delta.text for delta in deltas) == "one two " * 1_500
        assert sum(delta.tokens for delta in deltas) == 3_000
        assert len(deltas) < 1_000


async def test_events_carry_usage_and_the_engines_own_durations() -> None:
    async with supervised(options={"decode_s": 0.01, "prefill_s": 0.05}) as supervisor:
        events = await events_of(supervisor, now_request("one two three", stream=False))
    assert [type(event) for event in events] == [Scheduled, Delta, Finished]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.usage.completion_tokens == 3
    assert finished.usage.prompt_tokens == 4
    assert finished.timing.first_token_s == pytest.approx(0.05, abs=0.05)
    assert finished.timing.decode_s == pytest.approx(0.02, abs=0.02)


async def test_two_supervisors_live_in_one_process() -> None:
    async with supervised() as first, supervised() as second:
        assert first.pid != second.pid
        with pytest.raises(EngineError):
            await answer(first, "!die")
        assert second.restarts == {}
        one, two = await asyncio.gather(answer(first, "one"), answer(second, "two"))
        assert (one, two) == ("one ", "two ")


@ON_BOTH
def test_stop_ends_what_runs_and_the_worker_and_may_be_called_twice(loop: str) -> None:
    async def main() -> None:
        supervisor = a_supervisor(options=PACED)
        await supervisor.start()
        pid = supervisor.pid
        assert pid is not None
        running = asyncio.create_task(
            answer(supervisor, "one two", tokens_max=5_000, ignore_eos=True)
        )
        await asyncio.sleep(0.1)
        await asyncio.gather(supervisor.stop(), supervisor.stop())
        assert not lives(pid), "the worker, or its zombie, is still there"
        with pytest.raises(EngineError):
            await running
        assert supervisor.state is State.STOPPED
        assert not supervisor.well(MONOTONIC())
        await supervisor.stop()
        with pytest.raises(EngineError):
            await answer(supervisor, "hello")

    run_on(loop, main())


@pytest.mark.parametrize("direction", ["!stall", "!hang"])
async def test_a_worker_that_does_not_stop_is_killed(direction: str) -> None:
    supervisor = a_supervisor(stall_s=30.0, stop_s_max=0.3)
    await supervisor.start()
    pid = supervisor.pid
    assert pid is not None
    stuck = asyncio.create_task(answer(supervisor, direction))
    await asyncio.sleep(0.1)
    await supervisor.stop()
    assert not lives(pid)
    with pytest.raises(EngineError):
        await stuck


async def test_sigterm_to_the_worker_is_left_to_the_gateway() -> None:
    async with supervised() as supervisor:
        pid = supervisor.pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        await asyncio.sleep(0.2)
        assert await answer(supervisor, "still here") == "still here "
        assert supervisor.pid == pid


async def test_the_socket_is_ours_alone_and_gone_once_connected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with listening() as (_, path):
        assert mode_of(Path(path)) == 0o600
        assert mode_of(Path(path).parent) == 0o700
    async with supervised():
        assert not entries(tmp_path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


PARENT = """
import asyncio, sys
from forebay.core.clock import MONOTONIC
from forebay.engine.supervisor import Supervisor, SupervisorConfig, WorkerSpec
from tests.support.supervised import answer
async def main():
    spec = WorkerSpec(engine="scripted", options={}, model=None)
    config = SupervisorConfig(stall_s=60.0)
    supervisor = Supervisor(spec, config, now=MONOTONIC, log=lambda event, /, **fields: None)
    await supervisor.start()
    busy = asyncio.create_task(answer(supervisor, sys.argv[1]))
    await asyncio.sleep(0.2)
    sys.stdout.write(f"{supervisor.pid}\\n")
    sys.stdout.flush()
    await asyncio.sleep(60)
asyncio.run(main())
"""


@pytest.mark.parametrize("text", ["hello", "!hang", "!stall"])
def test_the_worker_dies_with_its_gateway(text: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PARENT), text]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert lives(pid)
        parent.kill()
        asyncio.run(until(lambda: not running(pid)))


def running(pid: int) -> bool:
    """Whether it runs; who is orphaned may stay a zombie until init looks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
