"""How a worker and its gateway find each other, and nobody else.

The socket is a file in a folder that only we can enter, for as long as it takes the worker to
connect; who connects must be the process that was started.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    """Listen on a socket file in a folder of our own."""
    folder = tempfile.mkdtemp(prefix="forebay-")  # mode 0700
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            path = str(Path(folder) / "worker.sock")
            listener.bind(path)
            Path(path).chmod(0o600)
            listener.listen(1)
            listener.setblocking(False)  # noqa: FBT003 - the library's own signature
            yield listener, path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def accept(listener: socket.socket, pid: int) -> socket.socket:
    """Return the connection of this process; anyone else's is closed."""
    loop = asyncio.get_running_loop()
    while True:
        connected, _ = await loop.sock_accept(listener)
        if _is_peer(connected, pid):
            return connected
        connected.close()


def _is_peer(connected: socket.socket, pid: int) -> bool:
    """Whether the other end is this process, as the kernel tells it (Linux)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the folder's mode is what protects the socket elsewhere
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    its_pid, its_uid, _ = struct.unpack("iII", credentials)
    return (its_pid, its_uid) == (pid, os.getuid())
