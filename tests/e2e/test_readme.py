"""The README's own words, run: `make serve`, then each example against it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server, free_port

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:8000"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`make serve` as the README has it, with the engine that needs no model."""
    port, log = free_port(), tmp_path_factory.mktemp("make") / "server.log"
    kept = {name: os.environ[name] for name in ("HOME", "PATH") if name in os.environ}
    environment = kept | {
        "PORT": str(port),
        "MODEL": "smollm2-135m-instruct",
        "ARGS": "--engine scripted --set log.format=json",
    }
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["make", "serve"],
            cwd=ROOT,
            env=environment,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    server = Server(process=process, port=port, log=log)
    try:
        server.until_ready()
        yield server
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def examples(language: str, server: Server) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [body.replace(ADDRESS, f"127.0.0.1:{server.port}") for body in found if ADDRESS in body]


def test_make_serve_and_the_curl_example_answer(made: Server) -> None:
    shell = examples("bash", made)
    assert shell
    for body in shell:
        done = subprocess.run(["bash", "-euc", body], check=True, capture_output=True, timeout=30)
        assert b'"finish_reason"' in done.stdout


def test_the_python_example_streams(made: Server) -> None:
    pytest.importorskip("openai", reason="the openai package is not installed")
    for body in examples("python", made):
        done = subprocess.run(
            [sys.executable, "-c", body], check=True, capture_output=True, timeout=60
        )
        assert done.stdout.strip()
