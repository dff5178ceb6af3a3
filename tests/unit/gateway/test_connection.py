"""A connection's own objects, without a network.  What clients see is in tests/http."""

import asyncio
import weakref

import pytest
import uvicorn
from uvicorn.server import ServerState

from forebay.gateway.connection import Connection
from forebay.gateway.cycle import Cycle
from forebay.gateway.exchange import CONNECTED, Receive, Scope, Send


class Wire(asyncio.Transport):
    """What a client was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self._closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    def resume_reading(self) -> None:
        """Nothing comes by itself."""


class Answers:
    """An application that answers everything at once, and knows which requests still exist."""

    def __init__(self) -> None:
        self._cycles: list[weakref.ref[Cycle]] = []

    async def __call__(self, scope: Scope, _receive: Receive, _send: Send) -> None:
        cycle = scope["extensions"][CONNECTED]
        self._cycles.append(weakref.ref(cycle))
        await cycle.answer(200, [(b"content-length", b"2")], b"ok", close=False)

    def exist(self) -> list[bool]:
        return [cycle() is not None for cycle in self._cycles]


@pytest.mark.usefixtures("no_collector")
async def test_a_request_is_gone_once_the_next_one_has_come() -> None:
    answers, wire = Answers(), Wire()
    config = uvicorn.Config(answers, lifespan="off", log_config=None, access_log=False)
    loop = asyncio.get_running_loop()
    connection = Connection(config, ServerState(), {}, loop)
    connection.connection_made(wire)
    for _ in range(3):
        connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(5):
            while connection.tasks:
                await asyncio.sleep(0)
    assert wire.sent.count(b"200 OK") == 3
    assert answers.exist() == [False, False, True]
    connection.connection_lost(None)
