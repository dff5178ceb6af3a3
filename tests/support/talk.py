"""Bytes to a gateway over a real connection, and the answers that come back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from forebay.drill.hostile_reply import Reply, replies
from tests.support.gateways import Stage
from tests.support.listening import listening

_END_S_MAX = 10.0


async def said(stage: Stage, *pieces: bytes) -> list[Reply]:
    """Send pieces on a connection of their own, and return the answers."""
    async with port_of(stage) as port:
        return await answers(port, *pieces)


@asynccontextmanager
async def port_of(stage: Stage) -> AsyncIterator[int]:
    """Serve a stage; yield its port."""
    async with listening(stage) as url:
        yield int(url.rpartition(":")[2])


async def answers(port: int, *pieces: bytes) -> list[Reply]:
    """Send pieces, close our side at the first answer unless the server does, and return all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    seen = b""
    try:
        async with asyncio.timeout(_END_S_MAX):
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                seen = await reader.read(1_048_576)
                if b"Connection: close" not in pieces[0]:
                    writer.write_eof()
                seen += await reader.read(-1)
            except OSError:
                pass  # it hung up on us; what came is what was said
    finally:
        writer.close()
    return replies(seen, headless=pieces[0].startswith(b"HEAD "))[0]


@asynccontextmanager
async def a_trap() -> AsyncIterator[tuple[str, list[bytes]]]:
    """Listen for whoever follows an address that a client named: yields it, and what came."""
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(1_024))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/secret", came
