"""A gateway behind a real uvicorn, inside the test's own process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn

from forebay.gateway.connection import Connection
from forebay.gateway.terms import Terms
from tests.support.gateways import Stage


class _Server(uvicorn.Server):
    """uvicorn that sees at once that it is to end, and not ten times a second."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await asyncio.sleep(0.002)


@asynccontextmanager
async def listening(
    stage: Stage, keep_alive_s: float = 5.0, terms: Terms | None = None
) -> AsyncIterator[str]:
    """Serve a stage on a free port of this machine; yield the base of its addresses."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        stage.gateway,
        http=partial(Connection, terms=terms or Terms(config=stage.gateway.config)),  # type: ignore[arg-type]  # it makes one
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=keep_alive_s,  # type: ignore[arg-type]  # fractions do as well
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    task = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        while not server.started:
            await asyncio.sleep(0.001)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
