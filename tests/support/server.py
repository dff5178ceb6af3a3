"""A real `forebay serve` in a process of its own, for tests that need the whole thing."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

START_S_MAX = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server: its process and its address."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a GET."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, /, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels; 0 if there are none."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith((name + "{", name + " ")) and all(
                f'{label}="{value}"' in line for label, value in labels.items()
            ):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def worker_pids(self) -> list[int]:
        """Return the ids of the worker processes."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [
            int(pid)
            for pid in children.read_text().split()
            if b"forebay.engine.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log's lines so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]

    def until_ready(self, wait_s_max: float = START_S_MAX) -> float:
        """Wait until it is ready; return the seconds that took."""
        started = time.monotonic()
        while time.monotonic() - started < wait_s_max:
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                if self.get("/readyz")[0] == 200:
                    return time.monotonic() - started
            assert self.process.poll() is None, f"it ended: {self.log.read_text()[-2000:]}"
            time.sleep(0.02)
        raise AssertionError(f"not ready in {wait_s_max} s: {self.log.read_text()[-2000:]}")

    def stop(self) -> int:
        """Ask it to stop and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serving(
    folder: Path,
    *arguments: str,
    ready: bool = True,
    port: int = 0,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Run `forebay serve` with these arguments; its log goes to a file in `folder`.

    `environment` comes on top of this process's own, less what is Forebay's in that.
    """
    port, log = port or free_port(), folder / "server.log"
    command = [sys.executable, "-m", "forebay", "serve", "--port", str(port), *arguments]
    command += ["--set", "log.format=json"]
    own = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
    own |= {"XDG_STATE_HOME": str(folder), **environment}
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink, env=own)
    server = Server(process=process, port=port, log=log)
    try:
        if ready:
            server.until_ready()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
