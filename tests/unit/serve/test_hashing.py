"""Slow work for strangers: few threads that give way, a bounded queue, a bounded share."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from forebay.core.clock import MONOTONIC, ManualClock
from forebay.core.errors import Overloaded
from forebay.serve.hashing import Hashing
from forebay.serve.login_config import LoginConfig


class Bench:
    """A pool on a clock of ours, and work that lasts until it is let go."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock(100.0)
        self.hashing = Hashing(LoginConfig(**config), self.clock)
        self.go = threading.Event()

    def work(self) -> str:
        assert self.go.wait(5.0)
        return "done"

    async def one(self, *, known: bool = False) -> str:
        with self.hashing.place(known=known) as place:
            return await place.run(self.work)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench(hashing_waiting_max=3)
    yield bench
    bench.go.set()
    bench.hashing.close()


async def test_work_is_done_off_the_event_loop_and_its_answer_returned(bench: Bench) -> None:
    with bench.hashing.place(known=False) as place:
        assert await place.run(threading.get_ident) != threading.get_ident()
    assert (bench.hashing.inside, bench.hashing.done) == (0, 1)


async def test_who_finds_the_queue_full_is_refused_at_once_and_told_how_long_it_is(
    bench: Bench,
) -> None:
    tasks = [asyncio.create_task(bench.one()) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as caught:
        await bench.one(known=True)
    assert caught.value.retry_after_s == pytest.approx(4 * 0.05)
    assert caught.value.status == 503
    bench.go.set()
    assert await asyncio.gather(*tasks) == ["done"] * 4
    assert bench.hashing.inside == 0


async def test_one_thread_works_at_a_time_by_default() -> None:
    bench, running, most = Bench(), 0, 0

    def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.001)
        running -= 1

    async def one() -> None:
        with bench.hashing.place(known=True) as place:
            await place.run(work)

    await asyncio.gather(*(one() for _ in range(10)))
    bench.hashing.close()
    assert most == 1


async def test_a_spent_budget_refuses_before_anything_is_asked() -> None:
    bench = Bench(hashing_share_max=0.1, hashing_burst_s=0.2, hashing_waiting_max=100)
    entered = 0
    with pytest.raises(Overloaded) as caught:  # noqa: PT012 - it is refused at some time
        while True:
            bench.hashing.place(known=False).__enter__()
            entered += 1
    assert entered == 2  # 0.1 s for strangers, 0.05 s each
    assert caught.value.retry_after_s == pytest.approx(0.5)
    bench.hashing.place(known=True).__enter__()  # what is kept
    bench.clock.advance(1.6)
    bench.hashing.place(known=False).__enter__()
    bench.hashing.close()


async def test_a_place_that_was_not_used_costs_nothing(bench: Bench) -> None:
    for _ in range(1_000):
        with bench.hashing.place(known=False):
            assert bench.hashing.inside == 1
    assert (bench.hashing.inside, bench.hashing.done) == (0, 0)


async def test_who_leaves_leaves_the_place_taken_until_the_work_is_done(bench: Bench) -> None:
    task = asyncio.create_task(bench.one())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.hashing.inside == 1
    bench.go.set()
    async with asyncio.timeout(5):
        while bench.hashing.inside:
            await asyncio.sleep(0)
    assert bench.hashing.done == 1


async def test_work_that_raises_frees_its_place_and_tells_who_asked(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError), bench.hashing.place(known=False) as place:
        await place.run(lambda: 1 // 0)
    assert (bench.hashing.inside, bench.hashing.done) == (0, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has threads that give way")
async def test_its_threads_give_way_and_no_other_does() -> None:
    hashing = Hashing(LoginConfig(), MONOTONIC, nice=7)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    with hashing.place(known=False) as place:
        assert await place.run(niceness) == max(7, before)
    assert niceness() == before
    hashing.close()
