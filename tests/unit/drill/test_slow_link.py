"""The link that drills make slow: it must delay, pass all bytes on, and drop both ends."""

import asyncio
import time

from forebay.drill.slow_link import slow_link


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(1_000):
        writer.write(piece)
    writer.close()


async def an_echo() -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_what_goes_in_comes_out() -> None:
    server, port = await an_echo()
    async with server, slow_link(port) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        sent = bytes(range(256)) * 1_000
        writer.write(sent)
        assert await asyncio.wait_for(reader.readexactly(len(sent)), 5.0) == sent
        writer.close()


async def test_a_slow_link_is_late_and_can_become_quick_again() -> None:
    server, port = await an_echo()
    async with server, slow_link(port) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        delays = []
        for delay_s in (0.1, 0.0):
            link.delay_s = delay_s
            started = time.monotonic()
            writer.write(b"x")
            assert await asyncio.wait_for(reader.readexactly(1), 5.0) == b"x"
            delays.append(time.monotonic() - started)
        assert delays[0] >= 0.1 > delays[1]
        writer.close()


async def test_where_nobody_listens_the_link_drops_its_caller() -> None:
    server, port = await an_echo()
    server.close()
    await server.wait_closed()
    async with slow_link(port) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        try:
            assert await asyncio.wait_for(reader.read(), 5.0) == b""
        except ConnectionResetError:
            pass
        finally:
            writer.close()


async def test_closing_the_link_drops_who_is_connected() -> None:
    server, port = await an_echo()
    async with server:
        async with slow_link(port) as link:
            reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
            writer.write(b"x")
            await asyncio.wait_for(reader.readexactly(1), 5.0)
        try:
            assert await asyncio.wait_for(reader.read(), 5.0) == b""
        except ConnectionResetError:
            pass
        finally:
            writer.close()
