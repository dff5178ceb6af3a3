"""An nginx of our own before replicas, by the file that we tell operators to use."""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from forebay.bench.client import Target
from forebay.bench.processes import free_port
from forebay.drill.findings import DrillFailed, Skipped

CONFIGURATION: Final = Path(__file__).parents[3] / "deploy" / "nginx" / "forebay.conf"
"""Beside the source; an installed package does not have it."""

_NOTED: Final = {
    "connection refused": "connect() failed (111",
    "closed as the request came": "upstream prematurely closed connection",
    "reset as the request came": "failed (104",
    "no replica left": "no live upstreams",
}
"""What nginx writes of replicas that come and go, and goes over without a word to the client."""

ACCESS_LOG: Final = "access.log"
"""In nginx's folder: a line for each request as nginx read it, where that is asked for."""

_LOG: Final = "nginx.log"
_UNLOGGED: Final = "access_log off;"
_PORTS: Final = (8001, 8002, 8003)
_LISTENS: Final = "listen 127.0.0.1:8080;"
_START_S_MAX: Final = 10.0


@contextlib.contextmanager
def balancing(replicas: Sequence[int], folder: Path, *, logged: bool = False) -> Iterator[Target]:
    """Run nginx before the replicas at these ports; yield where it answers.

    `logged`: it writes down each request as it read it.
    Raises Skipped where nginx or its file is missing, DrillFailed where it does not start.
    """
    if shutil.which("nginx") is None:
        raise Skipped("no nginx here (Debian: apt install nginx)")
    if not CONFIGURATION.is_file():
        raise Skipped("no deploy/nginx here: run this drill from a checkout")
    target = Target(host="127.0.0.1", port=free_port())
    file = folder / "nginx.conf"
    text = configuration(replicas, target.port)
    if logged:
        assert _UNLOGGED in text
        text = text.replace(_UNLOGGED, f"access_log {ACCESS_LOG};")
    file.write_text(text, encoding="utf-8")
    command = ["nginx", "-p", str(folder), "-c", str(file), "-g", "daemon off;"]
    with (folder / _LOG).open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)  # noqa: S603 - ours
    try:
        _until_open(process, target, folder / _LOG)
        yield target
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def noted(folder: Path) -> dict[str, int]:
    """Return how often nginx met what."""
    text = (folder / _LOG).read_text(encoding="utf-8", errors="replace")
    return {what: text.count(words) for what, words in _NOTED.items()}


def configuration(replicas: Sequence[int], port: int) -> str:
    """Return the file for replicas at these ports, behind `port`."""
    assert len(replicas) == len(_PORTS)
    text = CONFIGURATION.read_text(encoding="utf-8")
    swaps = {
        f"127.0.0.1:{theirs} ": f"127.0.0.1:{ours} "
        for theirs, ours in zip(_PORTS, replicas, strict=True)
    } | {_LISTENS: f"listen 127.0.0.1:{port};"}
    for theirs, ours in swaps.items():
        assert text.count(theirs) == 1, f"{CONFIGURATION.name} says {theirs} not once"
        text = text.replace(theirs, ours)
    return text


def _until_open(process: "subprocess.Popen[bytes]", target: Target, log: Path) -> None:
    limit = time.monotonic() + _START_S_MAX
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((target.host, target.port), 1):
            return
        time.sleep(0.02)
    words = log.read_text(encoding="utf-8", errors="replace")[-500:]
    raise DrillFailed(f"nginx does not answer: {words}")
