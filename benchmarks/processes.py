"""Servers under measurement: start, wait, count their CPU and memory, stop."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from benchmarks import machine
from forebay.bench.client import Target
from forebay.bench.processes import Usage, descendants, free_port, usage_of

_START_S_MAX: Final = 60.0
STOP_S_MAX: Final = 20.0
_ANSWER_S_MAX: Final = 180.0

Bare = Callable[[list[list[int]], int], dict[str, Any]]
"""Prompts and the tokens to make of each -> seconds, tokens, seconds to each first token."""


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
def forebay(
    engine: str,
    *,
    settings: Sequence[str] = (),
    model: str = "",
    python: str = sys.executable,
    start_s_max: float = _START_S_MAX,
) -> Iterator[Server]:
    """Serve with Forebay; `settings` are KEY=VALUE, `python` is of the environment to run in."""
    program = [str(Path(python).with_name("forebay")), "serve"]
    words = [*program, *([model] if model else []), "--engine", engine]
    for setting in settings:
        words += ["--set", setting]
    with serving(words, "/readyz", start_s_max=start_s_max) as server:
        yield server


@contextmanager
def floor() -> Iterator[Server]:
    """Serve constant answers with uvicorn alone: what this machine allows at most."""
    with serving([sys.executable, "-m", "benchmarks.floor"], "/readyz") as server:
        yield server


@contextmanager
def mock_upstream(*, pace_s: float = 0.0) -> Iterator[Server]:
    """Answer like an OpenAI-compatible server, at once or an event every `pace_s`."""
    words = [sys.executable, "-m", "benchmarks.mock_upstream", "--pace", str(pace_s)]
    with serving(words, "/health") as server:
        yield server


@contextmanager
def bare(words: list[str]) -> Iterator[tuple[Bare, dict[str, Any]]]:
    """Run a bare engine in a process of its own; also yields what it said of itself."""
    with tempfile.TemporaryFile() as words_out:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words_out,
            text=True,
            cwd=machine.ROOT,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin, process.stdout

        def said() -> dict[str, Any]:
            """Return its next line; a library's own words on standard output are passed over."""
            watchdog = threading.Timer(_ANSWER_S_MAX, process.kill)
            watchdog.start()
            try:
                for line in back:
                    if line.startswith("{"):
                        found: dict[str, Any] = json.loads(line)
                        return found
            finally:
                watchdog.cancel()
            raise NotServing(f"it ended, or said nothing: {_last_words(words_out)}")

        def asked(wanted: list[list[int]], tokens: int) -> dict[str, Any]:
            to.write(json.dumps({"prompts": wanted, "tokens": tokens}) + "\n")
            to.flush()
            return said()

        try:
            yield asked, said()
        finally:
            to.close()
            _ended(process)


@contextmanager
def serving(
    words: list[str],
    page: str,
    *,
    environ: Mapping[str, str] | None = None,
    start_s_max: float = _START_S_MAX,
) -> Iterator[Server]:
    """Run a server, which is told its port by `--port` at the end, until the body ends."""
    target = Target(host="127.0.0.1", port=free_port())
    with tempfile.TemporaryFile() as words_out:
        began = time.perf_counter()
        process = subprocess.Popen(
            [*words, "--port", str(target.port)],
            stdout=subprocess.DEVNULL,
            stderr=words_out,
            env={**os.environ, **(environ or {})},
        )
        try:
            until = began + start_s_max
            _wait_for(process, target, page=page, words_out=words_out, until=until)
            yield Server(target=target, pid=process.pid, ready_s=time.perf_counter() - began)
        finally:
            process.send_signal(signal.SIGTERM)
            _ended(process)


def _ended(process: "subprocess.Popen[Any]") -> None:
    """Wait for a process that was told to end, and end it if it does not."""
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_words(words_out: IO[bytes]) -> str:
    words_out.seek(0)
    return words_out.read()[-2000:].decode(errors="replace")


def _wait_for(
    process: "subprocess.Popen[bytes]",
    target: Target,
    *,
    page: str,
    words_out: IO[bytes],
    until: float,
) -> None:
    while time.perf_counter() < until:
        if process.poll() is not None:
            raise NotServing(_last_words(words_out))
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
    raise NotServing(f"no 200 from {page} in time; {_last_words(words_out)}")
