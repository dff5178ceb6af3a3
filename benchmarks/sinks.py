"""Peers of telemetry: `python -m benchmarks.sinks collector|hole` prints its port, and serves.

A collector answers each POST with 200 and nothing; a hole takes connections and never reads.
Both are processes of their own, so that they do not share the load generator's interpreter.
"""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_KINDS: Final = ("collector", "hole")
_ANSWER: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
)


@contextmanager
def sink(kind: str) -> Iterator[int]:
    """Run one; yields its port."""
    words = [sys.executable, "-m", "benchmarks.sinks", kind]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


async def _collect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            await reader.readexactly(int(length or b"0"))
            writer.write(_ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve(kind: str) -> None:
    never = asyncio.Event()
    if kind == "collector":
        server = await asyncio.start_server(_collect, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
    else:
        # The kernel takes connections into its queue, and what they send into their buffers.
        hole = socket.create_server(("127.0.0.1", 0), backlog=128)
        port = hole.getsockname()[1]
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await never.wait()


if __name__ == "__main__":
    assert sys.argv[1] in _KINDS
    asyncio.run(_serve(sys.argv[1]))
