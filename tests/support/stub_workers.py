"""Worker programs that misbehave on purpose, to be started in a real worker's place."""

import sys
import textwrap
from pathlib import Path

import pytest

_HEAD = """\
#!{python}
import os, socket, sys, time
from forebay.engine.protocol import EngineInfo, StepStats
from forebay.engine.wire import *
INFO = EngineInfo(name="stub", context_tokens_max=9, running_max=1, supports=frozenset())
def connect():
    its = socket.socket(socket.AF_UNIX)
    its.connect(sys.argv[-1])
    return its
def greet(its):
    its.sendall(frame(Hello(os.getpid(), PROTOCOL_VERSION)))
    its.recv(65536)
"""


def use_stub(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Let every worker be this program from now on."""
    program = folder / "worker.py"
    program.write_text(_HEAD.format(python=sys.executable) + textwrap.dedent(body))
    program.chmod(0o700)
    monkeypatch.setattr("forebay.engine.worker_process.sys.executable", str(program))
