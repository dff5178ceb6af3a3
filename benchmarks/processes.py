"""Servers under measurement: start, wait, count their CPU and memory, stop."""

import http.client
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from forebay.bench.client import Target
from forebay.bench.processes import Usage, descendants, free_port, usage_of

_START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 20.0


class NotServing(Exception):
    """The server did not start; the text ends with its last words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answers."""

    target: Target
    pid: int
    ready_s: float
    """Seconds from its start to the first 200 of its readiness page."""

    def own(self) -> Usage:
        """Return what the process itself uses: the gateway."""
        return usage_of([self.pid])

    def workers(self) -> Usage:
        """Return what its descendants use."""
        return usage_of(descendants(self.pid))


@contextmanager
def forebay(engine: str, *, settings: Sequence[str] = (), model: str = "") -> Iterator[Server]:
    """Serve with Forebay; `settings` are KEY=VALUE."""
    program = [str(Path(sys.executable).with_name("forebay")), "serve"]
    words = [*program, *([model] if model else []), "--engine", engine]
    for setting in settings:
        words += ["--set", setting]
    with _serving(words, "/readyz") as server:
        yield server


@contextmanager
def floor() -> Iterator[Server]:
    """Serve constant answers with uvicorn alone: what this machine allows at most."""
    with _serving([sys.executable, "-m", "benchmarks.floor"], "/readyz") as server:
        yield server


@contextmanager
def mock_upstream(*, pace_s: float = 0.0) -> Iterator[Server]:
    """Answer like an OpenAI-compatible server, at once or an event every `pace_s`."""
    words = [sys.executable, "-m", "benchmarks.mock_upstream", "--pace", str(pace_s)]
    with _serving(words, "/health") as server:
        yield server


@contextmanager
def _serving(words: list[str], page: str) -> Iterator[Server]:
    target = Target(host="127.0.0.1", port=free_port())
    with tempfile.TemporaryFile() as words_out:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*words, "--port", str(target.port)], stdout=subprocess.DEVNULL, stderr=words_out
        )
        try:
            _wait_for(process, target, page=page, words_out=words_out)
            yield Server(target=target, pid=process.pid, ready_s=time.perf_counter() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(
    process: "subprocess.Popen[bytes]", target: Target, *, page: str, words_out: IO[bytes]
) -> None:
    until = time.perf_counter() + _START_S_MAX
    while time.perf_counter() < until:
        if process.poll() is not None:
            words_out.seek(0)
            raise NotServing(words_out.read()[-2000:].decode(errors="replace"))
        connection = http.client.HTTPConnection(target.host, target.port, timeout=5)
        try:
            connection.request("GET", page)
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            pass  # it does not listen yet
        finally:
            connection.close()
        time.sleep(0.01)
    raise NotServing(f"no 200 from {page} within {_START_S_MAX:.0f} s")
