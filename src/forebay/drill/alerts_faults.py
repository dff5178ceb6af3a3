"""The faults that make alerts fire, each of which knows how it is undone."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from typing import Final

from forebay.drill.alerts_callers import Wish, ordinary, said
from forebay.drill.alerts_case import Fault
from forebay.drill.alerts_scene import Scene
from forebay.drill.redis_server import RedisServer

_LOOK_S: Final = 0.02


def asking(wish: Wish | None = None, *, pace_s: float | None = None) -> Fault:
    """Return callers who ask for something else, or at another pace."""

    @contextlib.asynccontextmanager
    async def fault(scene: Scene) -> AsyncIterator[None]:
        with scene.callers.asking(wish, pace_s=pace_s):
            yield

    return fault


def one_in(every: int, words: str) -> Wish:
    """Return requests of which one in so many says these words."""
    return lambda number: ordinary(number) if number % every else said(f"{words} {number}")


@contextlib.asynccontextmanager
async def server_killed(scene: Scene) -> AsyncIterator[None]:
    """Kill the server; start it again."""
    scene.server.process.kill()
    await asyncio.to_thread(scene.server.process.wait)
    yield
    scene.start()
    # The second until it is ready is a minute to the rules; a balancer sends nobody there.
    with scene.callers.staying_away():
        await asyncio.to_thread(scene.server.until_ready)


def again_and_again(act: Callable[[Scene], Coroutine[None, None, None]]) -> Fault:
    """Return an act that is repeated until it is undone."""

    @contextlib.asynccontextmanager
    async def fault(scene: Scene) -> AsyncIterator[None]:
        async def repeat() -> None:
            while True:
                await act(scene)

        task = asyncio.create_task(repeat())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    return fault


def workers_killed(every_s: float, *, spared: Collection[int] = ()) -> Fault:
    """Return the death of each worker that there is, again and again, but for some."""

    async def act(scene: Scene) -> None:
        for pid in set(scene.server.workers()).difference(spared):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(max(every_s, _LOOK_S))

    return again_and_again(act)


def stop_and_go(pids: Callable[[Scene], list[int]], *, stop_s: float, go_s: float) -> Fault:
    """Return processes that stand still for a while, again and again."""

    async def act(scene: Scene) -> None:
        stopped = pids(scene)
        try:
            _signal(stopped, signal.SIGSTOP)
            await asyncio.sleep(stop_s)
        finally:
            _signal(stopped, signal.SIGCONT)
        await asyncio.sleep(go_s)

    return again_and_again(act)


def gateway(scene: Scene) -> list[int]:
    """Return the process of the gateway."""
    return [scene.server.process.pid]


def redis_killed(redis: RedisServer) -> Fault:
    """Return the death of Redis."""

    @contextlib.asynccontextmanager
    async def fault(_scene: Scene) -> AsyncIterator[None]:
        redis.crash()
        yield
        await asyncio.to_thread(redis.start)

    return fault


def done(act: Callable[[Scene], None], undo: Callable[[Scene], None]) -> Fault:
    """Return something that is done at once, and undone at once."""

    @contextlib.asynccontextmanager
    async def fault(scene: Scene) -> AsyncIterator[None]:
        await asyncio.to_thread(act, scene)
        try:
            yield
        finally:
            await asyncio.to_thread(undo, scene)

    return fault


def _signal(pids: list[int], which: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, which)
