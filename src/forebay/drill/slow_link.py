"""A link to another port that can be made slow: what `tc netem` does where it is installed."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

_PIECE_BYTES: Final = 65_536


class SlowLink:
    """Passes bytes between whoever connects and a port of this machine, late by `delay_s`.

    Mutable state: the delay, which may be changed at any time and counts for what comes next,
    and the tasks that pass bytes.
    """

    def __init__(self, target: int) -> None:
        """Lead to port `target`."""
        self.delay_s = 0.0
        self._target = target
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None, "it is not open"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)

    async def close(self) -> None:
        """Drop every connection and listen no more."""
        assert self._server is not None, "it is not open"
        self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        await self._server.wait_closed()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            # Only the way there is late: the delay of a question and its answer is `delay_s`.
            task = asyncio.create_task(self._pass(source, sink, late=source is reader))
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, late: bool
    ) -> None:
        try:
            with contextlib.suppress(OSError):
                while piece := await source.read(_PIECE_BYTES):
                    if late and self.delay_s:
                        await asyncio.sleep(self.delay_s)
                    sink.write(piece)
                    await sink.drain()
        finally:
            sink.transport.abort()


@contextlib.asynccontextmanager
async def slow_link(target: int) -> AsyncGenerator[SlowLink, None]:
    """Keep a link to a port open while the body runs."""
    link = SlowLink(target)
    await link.open()
    try:
        yield link
    finally:
        await link.close()
