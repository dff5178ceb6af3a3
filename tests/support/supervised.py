"""A supervisor over the scripted engine, in a test: started, stopped, and on either loop."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from forebay.core.clock import MONOTONIC
from forebay.core.request import Delta, Event, Request
from forebay.engine.protocol import Engine
from forebay.engine.supervisor import State, Supervisor, SupervisorConfig, WorkerSpec
from forebay.serve.replicas import Replicas
from tests.support.events import EventList
from tests.support.requests import a_request

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run_on(loop: str, main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine on one of `LOOPS`, for at most a minute."""

    async def bounded() -> None:
        async with asyncio.timeout(60.0):
            await main

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(bounded())


class Kept(Replicas):
    """An engine of scripted workers; what is asked of one worker is asked of the first."""

    def __init__(self, supervisors: list[Supervisor], config: SupervisorConfig) -> None:
        super().__init__(supervisors, config, now=MONOTONIC, freed=self._note_freed)
        self.supervisors = supervisors
        self.supervisor = supervisors[0]
        self.freed: list[tuple[float, str, int]] = []

    def _note_freed(self, wait_s: float, phase: str, *, tokens: int) -> None:
        self.freed.append((wait_s, phase, tokens))

    @property
    def pid(self) -> int | None:
        return self.supervisor.pid

    @property
    def pids(self) -> list[int | None]:
        return [supervisor.pid for supervisor in self.supervisors]

    @property
    def state(self) -> State:
        return self.supervisor.state


def a_supervisor(
    *,
    log: EventList | None = None,
    options: dict[str, object] | None = None,
    workers: int = 1,
    **knobs: Any,
) -> Kept:
    """Return workers that are quick to be noticed when lost, and to be replaced."""
    quick = {"stall_s": 1.0, "beat_s": 0.1, "restart_wait_s_max": 0.05, "stop_s_max": 2.0}
    spec = WorkerSpec(engine="scripted", options=options or {}, model=None)
    config = SupervisorConfig(**(quick | knobs))
    log = log or EventList()
    supervisors = [Supervisor(spec, config, now=MONOTONIC, log=log) for _ in range(workers)]
    return Kept(supervisors, config)


@contextlib.asynccontextmanager
async def supervised(**facts: Any) -> AsyncIterator[Kept]:
    """Yield a started engine; stop it, and see that nothing of it is left."""
    supervisor = a_supervisor(**facts)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        pids = supervisor.pids
        await supervisor.stop()
        for pid in pids:
            assert pid is None or not lives(pid), "the worker outlived its supervisor"


def now_request(text: str, /, **facts: Any) -> Request:
    """Return a request that is valid for 30 seconds from now."""
    now = MONOTONIC()
    return a_request(text, **({"received": now, "deadline": now + 30.0, "stream": True} | facts))


async def answer(supervisor: Engine, text: str, /, **facts: Any) -> str:
    """Return the whole text that is made of a request."""
    events = await events_of(supervisor, now_request(text, **facts))
    return "".join(event.text for event in events if isinstance(event, Delta))


async def events_of(supervisor: Engine, request: Request) -> list[Event]:
    """Return every event of a request."""
    async with contextlib.aclosing(supervisor.generate(request)) as events:
        return [event async for event in events]


async def until(condition: Callable[[], bool], wait_s_max: float = 10.0) -> float:
    """Wait for something to become true; return the seconds that took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < wait_s_max, "it did not happen in time"
        await asyncio.sleep(0.005)
    return time.monotonic() - started


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder."""
    return list(folder.iterdir())


def of_process(pid: int | None, *names: str) -> list[bytes]:
    """Return what the kernel tells of a process under these names."""
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in names]


def lives(pid: int) -> bool:
    """Whether there is a process of this id, be it a zombie."""
    return Path(f"/proc/{pid}").exists()
