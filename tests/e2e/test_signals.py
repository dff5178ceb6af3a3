"""Signals to a whole server: stop at any moment, hurry, read the settings again."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.support.client import chat_body, post
from tests.support.server import Server, serving

PACE = ("--engine", "scripted", "--set", "scripted.decode_s=0.01")


def a_stream(tokens: int) -> dict[str, object]:
    return chat_body("scripted", "one two three", max_tokens=tokens, ignore_eos=True, stream=True)


def order(server: Server, path: str) -> dict[str, dict[str, str]]:
    request = urllib.request.Request(server.url + path, method="POST")
    with urllib.request.urlopen(request, timeout=10) as answer:
        body: dict[str, dict[str, str]] = json.load(answer)
        return body


def logged(server: Server, event: str, wait_s_max: float = 10.0) -> dict[str, object]:
    """Wait for a line of the log."""
    until = time.monotonic() + wait_s_max
    while time.monotonic() < until:
        for line in server.log_lines():
            if line["message"] == event:
                return line
        time.sleep(0.02)
    raise AssertionError(f"no line {event}: {server.log.read_text()[-2000:]}")


@pytest.mark.parametrize("after_s", [0.25, 0.4, 0.6, 0.8, 1.0])
def test_sigterm_in_the_first_second_ends_the_start_cleanly(tmp_path: Path, after_s: float) -> None:
    with serving(tmp_path, *PACE, ready=False) as server:
        time.sleep(after_s)
        worker_pids = server.worker_pids()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    for pid in worker_pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_second_sigterm_ends_what_runs_at_once(tmp_path: Path) -> None:
    with serving(tmp_path, *PACE) as server:
        running = asyncio.create_task(post(server.port, "/v1/chat/completions", a_stream(5_000)))
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert server.process.poll() is None, "it did not wait for what runs"
        server.process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert await asyncio.to_thread(server.process.wait, 10) == 0
        assert time.monotonic() - asked < 3.0
        answer = await running
    assert "error" in json.loads(answer.frames[-2])
    assert answer.frames[-1] == "[DONE]"


async def test_sighup_applies_what_is_live_and_cuts_nobody_off(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text("gateway: {n_max: 2}\n")
    path = "/v1/chat/completions"
    with serving(tmp_path, *PACE, "--config", str(file)) as server:
        running = asyncio.create_task(post(server.port, path, a_stream(150)))
        two = a_stream(1) | {"n": 2, "stream": False}
        assert (await post(server.port, path, two)).status == 200
        file.write_text("gateway: {n_max: 1}\nserver: {backlog_max: 9}\n")
        server.process.send_signal(signal.SIGHUP)
        applied = await asyncio.to_thread(logged, server, "settings.applied")
        assert (applied["forebay.setting"], applied["forebay.value"]) == ("gateway.n_max", "1")
        refused = await asyncio.to_thread(logged, server, "settings.refused")
        assert refused["forebay.setting"] == "server.backlog_max"
        assert refused["forebay.reason"] == "needs a restart"
        assert (await post(server.port, path, two)).status == 400
        file.write_text("gateway: {n_max: none}\n")
        server.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(logged, server, "settings.invalid")
        assert server.process.poll() is None
        answer = await running
        assert server.stop() == 0
    assert answer.frames[-1] == "[DONE]"
    assert "error" not in json.loads(answer.frames[-2])


def test_a_reload_over_http_answers_with_what_it_did(tmp_path: Path) -> None:
    file = tmp_path / "forebay.yaml"
    file.write_text("{}\n")
    with serving(tmp_path, *PACE, "--config", str(file)) as server:
        assert order(server, "/admin/reload") == {"applied": {}, "refused": {}}
        file.write_text("server: {drain_s_max: 1, keep_alive_s: 5}\n")
        done = order(server, "/admin/reload")
        assert done["applied"] == {"server.drain_s_max": "1.0"}
        assert done["refused"] == {"server.keep_alive_s": "needs a restart"}


def test_the_ledger_of_a_whole_server_is_in_balance(tmp_path: Path) -> None:
    with serving(tmp_path, *PACE) as server:
        status, text = server.get("/admin/ledger")
        page = json.loads(text)
    assert (status, page["balanced"], page["in_flight"]) == (200, True, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="a terminal is made as Linux makes one")
def test_a_server_whose_terminal_goes_stops(tmp_path: Path) -> None:
    script = (
        "import os, pty, sys, time\n"
        "pid, terminal = pty.fork()\n"
        "if not pid:\n"
        "    os.execv(sys.executable, [sys.executable, '-m', 'forebay', 'serve',"
        " '--engine', 'scripted', '--port', '0'])\n"
        "seen = b''\n"
        "while b'Try it' not in seen:\n"
        "    seen += os.read(terminal, 4096)\n"
        "os.close(terminal)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, timeout=60, check=False, cwd=tmp_path
    )
    assert done.stdout.strip() == b"0", done.stderr
