"""A redis-server of our own, to be killed, hung and emptied on purpose."""

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Final

from forebay.bench.processes import free_port

_START_S_MAX: Final = 10.0


def is_installed() -> bool:
    """Whether this machine has a redis-server (Debian: `apt install redis-server`)."""
    return shutil.which("redis-server") is not None


class RedisServer:
    """One redis-server on one port of this machine; it keeps nothing on disk.

    Mutable state: the process, if it runs.
    """

    def __init__(self, folder: str) -> None:
        """Choose a port; it stays the same over every restart."""
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers, as `store.url` wants it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, and wait until it answers; TimeoutError if it does not."""
        assert self._process is None, "it runs already"
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", self._folder]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - fixed
        limit = time.monotonic() + _START_S_MAX
        while not self._answers():
            if time.monotonic() > limit:
                raise TimeoutError(f"redis-server did not start in {_START_S_MAX:.0f} s.")
            time.sleep(0.01)

    def crash(self) -> None:
        """End it at once: SIGKILL."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    def hang(self) -> None:
        """Let it hold its connections and say nothing: SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let it go on: SIGCONT."""
        self._signal(signal.SIGCONT)

    def flush(self) -> None:
        """Empty it while it runs: FLUSHALL."""
        self.say("FLUSHALL")

    def say(self, command: str) -> bytes:
        """Send one inline command; return the beginning of what it answers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(65_536)

    def stop(self) -> None:
        """End it, if it runs, whatever was done to it."""
        if self._process is not None:
            self.crash()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.say("PING").startswith(b"+PONG")
        return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)


@contextlib.contextmanager
def running_redis() -> Iterator[RedisServer]:
    """Run a redis-server while the body runs."""
    with tempfile.TemporaryDirectory(prefix="forebay-redis-") as folder:
        server = RedisServer(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
