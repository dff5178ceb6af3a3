import asyncio

import pytest

from forebay.core.clock import MONOTONIC
from forebay.core.errors import DeadlineExceeded, Overloaded, QueueTimeout
from forebay.core.request import Request
from forebay.policy.admission_queue import AdmissionQueue
from forebay.policy.limit import FixedLimit
from forebay.serve.admission import Admission, AdmissionConfig
from tests.support.requests import a_request


def a_door(**knobs: float) -> Admission:
    config = AdmissionConfig(**({"forecast": False} | knobs))  # type: ignore[arg-type] # ints too
    return Admission(AdmissionQueue(config, FixedLimit(1)), MONOTONIC)


def a_caller(tenant: str = "a", lives_s: float = 60.0) -> Request:
    now = MONOTONIC()
    return a_request(tenant=tenant, received=now, deadline=now + lives_s)


async def hold(door: Admission, request: Request, until: asyncio.Event) -> None:
    async with door.admit(request):
        await until.wait()


async def waiting(door: Admission, count: int) -> None:
    async with asyncio.timeout(5):
        while door.load.waiting != count:
            await asyncio.sleep(0)


async def held(door: Admission, over: asyncio.Event) -> "asyncio.Task[None]":
    """Let somebody hold the only place."""
    holder = asyncio.create_task(hold(door, a_caller(), over))
    async with asyncio.timeout(5):
        while not door.load.running:
            await asyncio.sleep(0)
    return holder


async def test_who_is_displaced_is_told_so_at_once() -> None:
    door, over = a_door(waiting_max=2), asyncio.Event()
    holder = await held(door, over)
    noisy = [asyncio.create_task(hold(door, a_caller("noisy"), over)) for _ in range(2)]
    await waiting(door, 2)
    quiet = asyncio.create_task(hold(door, a_caller("quiet"), over))
    async with asyncio.timeout(5):
        with pytest.raises(Overloaded, match="The server is full"):
            await noisy[1]
    over.set()
    await asyncio.gather(holder, noisy[0], quiet)
    assert (door.load.running, door.load.waiting, [*door.holdings()]) == (0, 0, [])


async def test_a_wait_in_vain_ends_by_itself() -> None:
    door, over = a_door(wait_s_max=0.02), asyncio.Event()
    holder = await held(door, over)
    with pytest.raises(QueueTimeout):
        await hold(door, a_caller(), over)
    over.set()
    await holder


async def test_a_deadline_that_passes_in_the_queue_is_told_as_such() -> None:
    door, over = a_door(), asyncio.Event()
    holder = await held(door, over)
    with pytest.raises(DeadlineExceeded):
        await hold(door, a_caller(lives_s=0.02), over)
    over.set()
    await holder


async def test_who_leaves_the_queue_leaves_nothing_behind() -> None:
    door, over = a_door(), asyncio.Event()
    holder = await held(door, over)
    leaver = asyncio.create_task(hold(door, a_caller(), over))
    await waiting(door, 1)
    leaver.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaver
    assert door.load.waiting == 0
    over.set()
    await holder
    assert door.load.running == 0


async def test_who_is_cancelled_in_the_moment_it_is_let_in_gives_the_place_back() -> None:
    door, over = a_door(), asyncio.Event()
    holder = await held(door, over)
    unlucky = asyncio.create_task(hold(door, a_caller(), asyncio.Event()))
    await waiting(door, 1)
    over.set()
    await holder
    assert door.load.running == 1  # its place is given, its task has not turned yet
    unlucky.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unlucky
    assert door.load.running == 0


async def test_who_leaves_in_the_moment_of_being_let_in_gives_the_place_back() -> None:
    door, over = a_door(), asyncio.Event()
    holder = await held(door, over)
    next_one = asyncio.create_task(hold(door, a_caller("b"), over))
    await waiting(door, 1)
    holder.cancel()
    while door.load.waiting:
        await asyncio.sleep(0)
    next_one.cancel()
    await asyncio.gather(holder, next_one, return_exceptions=True)
    assert (door.load.running, [*door.holdings()]) == (0, [])
