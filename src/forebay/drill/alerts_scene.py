"""One server with its callers, its Prometheus, its Alertmanager and what those deliver to.

Every case of the drill has a scene of its own, so that what fires there is its own fault's doing.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from forebay.bench.client import Target
from forebay.bench.processes import free_port
from forebay.drill import alertmanager
from forebay.drill.alertmanager import Alertmanager, running_alertmanager
from forebay.drill.alerts_callers import Callers
from forebay.drill.alerts_case import Plan
from forebay.drill.alerts_watch import Watch
from forebay.drill.findings import DrillFailed
from forebay.drill.prometheus import Prometheus, Watched, running_prometheus
from forebay.drill.server import Server, Serving, started
from forebay.drill.sinks import Sinks, listening

_START_S_MAX: Final = 60.0
_NAP_S: Final = 0.1


class Scene:
    """What a fault may lay hands on.  Mutable state: the server, which may be started again."""

    def __init__(self, folder: Path, plan: Plan, *, speed: float) -> None:
        """Keep everything below `folder`."""
        self.folder = folder
        self.plan = plan
        self.speed = speed
        self._wish = Serving(
            engine="scripted",
            folder=folder,
            settings=plan.settings,
            port=free_port(),
            key=plan.key,
            module=plan.module,
            environment=plan.environment,
        )
        self.sinks: Sinks
        self.alertmanager: Alertmanager
        self.prometheus: Prometheus
        self.watch: Watch
        self.server: Server
        self.callers: Callers

    @property
    def state(self) -> Path:
        """The folder of the server's state."""
        return self.folder / self._wish.name / "forebay"

    def start(self) -> None:
        """Start the server, at the port where it may have run before."""
        self.server = started(self._wish)
        self.plan.on_start(self.server.process.pid)

    def stop(self) -> None:
        """Stop the server that runs now."""
        self.server.stop()

    async def value(self, query: str) -> float | None:
        """Return what Prometheus answers now."""
        return await asyncio.to_thread(self.prometheus.value, query)

    async def until_listening(self) -> None:
        """Wait until the server takes connections: Prometheus may not find it away."""
        target = self.server.target

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection(target.host, target.port)
            except OSError:
                return False
            writer.close()
            return True

        await self._until(listens, "The server does not listen.")

    async def until_scraped(self) -> None:
        """Wait until Prometheus sees a server that is ready."""

        async def seen() -> bool:
            return await self.value("forebay_ready") == 1.0

        await self._until(seen, "Prometheus never saw a server that is ready.")

    async def _until(self, true: Callable[[], Awaitable[bool]], otherwise: str) -> None:
        limit = time.monotonic() + _START_S_MAX
        while not await true():
            if self.server.process.poll() is not None:
                words = self.server.log.read_text(encoding="utf-8", errors="replace")[-1_000:]
                raise DrillFailed(f"The server ended: {words}")
            if time.monotonic() > limit:
                raise DrillFailed(otherwise)
            await asyncio.sleep(_NAP_S)


@contextlib.asynccontextmanager
async def opened(scene: Scene, *, rules: str, config: str) -> AsyncIterator[Scene]:
    """Run all of a scene until the body ends."""
    async with contextlib.AsyncExitStack() as stack:
        scene.sinks = await stack.enter_async_context(listening())
        folder, manager_port = scene.folder, free_port()
        scene.start()
        stack.push_async_callback(asyncio.to_thread, scene.stop)
        await scene.until_listening()
        target = scene.server.target
        watched = Watched(
            folder=folder,
            server=target,
            alertmanager=Target(host="127.0.0.1", port=manager_port),
            speed=scene.speed,
            ca_file=scene.plan.ca_file,
            key=scene.plan.key,
        )
        prometheus_runs = running_prometheus(watched)
        scene.prometheus = await asyncio.to_thread(stack.enter_context, prometheus_runs)
        await scene.until_scraped()
        await asyncio.to_thread(scene.prometheus.load, rules)
        at_hand = alertmanager.at_hand(config, speed=scene.speed, sinks=scene.sinks, folder=folder)
        manager = running_alertmanager(at_hand, folder, port=manager_port)
        scene.alertmanager = await asyncio.to_thread(stack.enter_context, manager)
        scene.watch = Watch(scene.prometheus)
        scene.callers = Callers(
            target, pace_s=scene.plan.pace_s, wish=scene.plan.wish, key=scene.plan.key
        )
        for work in (scene.watch.run(), scene.callers.run()):
            task = asyncio.create_task(work)
            stack.push_async_callback(_ended, task)
        yield scene


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
