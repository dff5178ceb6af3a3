"""The life of a whole server: start, drain, stop."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.client import chat_body, post
from tests.support.server import serving

PACE = ("--engine", "scripted", "--set", "scripted.decode_s=0.01")


def a_stream(tokens: int, text: str = "one two three four five") -> dict[str, object]:
    return chat_body("scripted", text, max_tokens=tokens, ignore_eos=True, stream=True)


async def test_sigterm_lets_everything_that_runs_finish_and_exits_0(tmp_path: Path) -> None:
    with serving(tmp_path, *PACE) as server:
        whole = a_stream(80) | {"stream": False}
        bodies = [a_stream(80), whole] * 10
        path = "/v1/chat/completions"
        running = [asyncio.create_task(post(server.port, path, body)) for body in bodies]
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        while (await asyncio.to_thread(server.get, "/readyz"))[0] == 200:
            assert time.monotonic() - asked < 2.0, "still ready long after SIGTERM"
        assert (await asyncio.to_thread(server.get, "/livez"))[0] == 200
        refused = await post(server.port, path, a_stream(5))
        answers = await asyncio.gather(*running)
        status = await asyncio.to_thread(server.process.wait, 30)
        assert status == 0
    assert refused.status == 503
    assert refused.json()["error"]["code"] == "draining"
    assert "retry-after" in refused.headers
    assert [answer.status for answer in answers] == [200] * 20
    assert all(answer.frames[-1] == "[DONE]" for answer in answers[::2])
    assert all(answer.json()["usage"]["completion_tokens"] == 80 for answer in answers[1::2])


async def test_what_outlasts_the_drain_ends_with_an_error_frame(tmp_path: Path) -> None:
    with serving(tmp_path, *PACE, "--set", "server.drain_s_max=0.3") as server:
        running = asyncio.create_task(post(server.port, "/v1/chat/completions", a_stream(5000)))
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        answer = await running
        assert await asyncio.to_thread(server.process.wait, 30) == 0
    assert answer.status == 200
    assert "error" in json.loads(answer.frames[-2])
    assert answer.frames[-1] == "[DONE]"


def test_a_server_that_is_still_starting_stops_when_asked(tmp_path: Path) -> None:
    with serving(tmp_path, *PACE, "--set", "scripted.prefill_s=20", ready=False) as server:
        while not server.worker_pids():
            assert server.process.poll() is None, server.log.read_text()
            time.sleep(0.02)
        assert server.stop() == 0


def test_a_taken_port_is_refused_with_the_fix(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine", "scripted") as server:
        command = [sys.executable, "-m", "forebay.cli.main", "serve", "--engine", "scripted"]
        again = subprocess.run(
            [*command, "--port", str(server.port)], capture_output=True, timeout=60, check=False
        )
    assert again.returncode == 1
    assert b"--port" in again.stderr
    assert b"Traceback" not in again.stderr


@pytest.mark.parametrize("route", ["/livez", "/readyz", "/startupz", "/health"])
def test_probes_answer(tmp_path: Path, route: str) -> None:
    with serving(tmp_path, "--engine", "scripted") as server:
        assert server.get(route)[0] == 200
