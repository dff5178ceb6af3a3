"""Somebody else's server, run for as long as a drill needs it."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from forebay.bench.client import Target
from forebay.drill.findings import DrillFailed, Skipped
from forebay.drill.server import page

_START_S_MAX: Final = 30.0
_STOP_S_MAX: Final = 10.0
_NAP_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A server that runs: its process, where it answers, where it logs."""

    process: "subprocess.Popen[bytes]"
    target: Target
    log: Path


def present(program: str, package: str) -> str:
    """Return where a program lies, or raise Skipped with the Debian package that has it."""
    found = shutil.which(program)
    if found is None:
        raise Skipped(f"{program} is not installed: apt install {package}")
    return found


@contextlib.contextmanager
def daemon(command: Sequence[str], *, target: Target, log: Path, ready: str) -> Iterator[Daemon]:
    """Run a command until the body ends; it runs once its page `ready` answers 200."""
    with log.open("ab") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)  # noqa: S603 - ours
    try:
        _until_ready(process, target, ready=ready, log=log)
        yield Daemon(process=process, target=target, log=log)
    finally:
        _stop(process)


def _until_ready(
    process: "subprocess.Popen[bytes]", target: Target, *, ready: str, log: Path
) -> None:
    began = time.monotonic()
    while page(target, ready)[0] != HTTPStatus.OK:
        if process.poll() is not None or time.monotonic() - began > _START_S_MAX:
            words = log.read_text(encoding="utf-8", errors="replace")[-1_000:]
            raise DrillFailed(f"{log.stem} did not start: {words}")
        time.sleep(_NAP_S)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End it, also where it was stopped by a signal."""
    process.terminate()
    process.send_signal(signal.SIGCONT)  # what stands still cannot end
    try:
        process.wait(_STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
