"""What is written to a worker: all of one turn of the loop at once, in order."""

import asyncio
from asyncio.subprocess import Process
from typing import cast

from forebay.engine.wire import Abort, Stop, frame
from forebay.engine.worker_process import WorkerProcess


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closing


def connected() -> tuple[WorkerProcess, Written]:
    worker = WorkerProcess(cast("Process", None), lambda _: None)
    transport = Written()
    worker._transport = cast("asyncio.Transport", transport)
    return worker, transport


async def test_messages_of_one_turn_are_one_write() -> None:
    worker, transport = connected()
    worker.send(Abort(1))
    worker.send(Abort(2))
    assert transport.writes == []
    await asyncio.sleep(0)
    worker.send(Stop())
    await asyncio.sleep(0)
    assert transport.writes == [frame(Abort(1)) + frame(Abort(2)), frame(Stop())]


async def test_nothing_is_written_to_a_worker_that_closed_meanwhile() -> None:
    worker, transport = connected()
    worker.send(Abort(1))
    transport.closing = True
    await asyncio.sleep(0)
    assert transport.writes == []
