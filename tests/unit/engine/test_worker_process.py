"""What is written to a worker: all of one turn of the loop at once, in order."""

import asyncio
from asyncio.subprocess import Process
from typing import cast

from forebay.engine.wire import Abort, Stop, frame
from forebay.engine.worker_process import Loss, WorkerProcess


class Written:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closing = False
        self.unread = 0

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.unread


def connected() -> tuple[WorkerProcess, Written]:
    worker = WorkerProcess(cast("Process", None), lambda _: None, unread_bytes_max=100)
    transport = Written()
    worker._transport = cast("asyncio.Transport", transport)
    return worker, transport


async def test_a_message_goes_at_once_and_those_that_follow_it_go_together() -> None:
    worker, transport = connected()
    for number in (1, 2, 3):
        worker.send(Abort(number))
    assert transport.writes == [frame(Abort(1))]
    await asyncio.sleep(0)
    assert transport.writes[1:] == [frame(Abort(2)) + frame(Abort(3))]
    worker.send(Stop())
    assert transport.writes[2:] == [frame(Stop())]


async def test_nothing_is_written_to_a_worker_that_closed_meanwhile() -> None:
    worker, transport = connected()
    worker.send(Abort(1))
    worker.send(Abort(2))
    transport.closing = True
    await asyncio.sleep(0)
    worker.send(Abort(3))
    assert transport.writes == [frame(Abort(1))]


async def test_a_worker_that_does_not_read_is_given_up() -> None:
    worker, transport = connected()
    transport.unread = 100
    worker.send(Abort(1))
    await asyncio.sleep(0)
    assert not worker.lost.done()
    transport.unread = 101
    worker.send(Abort(2))
    await asyncio.sleep(0)
    assert worker.lost.result() is Loss.STALLED
