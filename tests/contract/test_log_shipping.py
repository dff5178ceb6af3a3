"""A log that goes to a TCP peer: what the peer does costs lines, and nothing else."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from forebay.telemetry.logs import LogConfig, RequestLog
from tests.support.records import a_completed
from tests.support.server import free_port

NEVER_READS = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
held = []
while True:
    held.append(listener.accept())
"""


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forebay.telemetry.outlet.SEND_S_MAX", 0.3)
    monkeypatch.setattr("forebay.telemetry.outlet.WAIT_S", (0.02, 0.1))
    monkeypatch.setattr("forebay.telemetry.sink.FLUSH_S", 0.01)


@contextlib.contextmanager
def listening(port: int = 0) -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(10)
        yield listener


def url_of(listener: socket.socket) -> str:
    return f"tcp://127.0.0.1:{listener.getsockname()[1]}"


def until(true: Callable[[], bool], wait_s_max: float = 10.0) -> None:
    end = time.monotonic() + wait_s_max
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def read_whole(peer: socket.socket) -> bytes:
    peer.settimeout(10)
    with peer:
        return b"".join(iter(lambda: peer.recv(65536), b""))


def numbers(text: bytes) -> list[int]:
    """Return the numbers of the steps in whole lines; a torn one does not parse."""
    assert text == b"" or text.endswith(b"\n")
    lines = [json.loads(line) for line in text.splitlines()]
    return [line["forebay.number"] for line in lines if line["message"] == "step"]


def test_a_peer_gets_each_line_once_and_in_order() -> None:
    with listening() as listener:
        log = RequestLog(LogConfig(destination=url_of(listener)))
        for number in range(3_000):
            log.event("step", number=number)
        peer, _ = listener.accept()
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(read_whole, peer)
            until(lambda: log.sent == 3_000)
            log.stop()
            assert numbers(reading.result()) == list(range(3_000))
        assert (log.sent, log.dropped) == (3_000, 0)


@pytest.mark.parametrize("stopped", [False, True], ids=["never reads", "stopped"])
def test_a_black_hole_costs_lines_that_are_counted_and_never_time(
    tmp_path: Path, *, stopped: bool
) -> None:
    hole = subprocess.Popen([sys.executable, "-c", NEVER_READS], stdout=subprocess.PIPE)
    try:
        assert hole.stdout is not None
        port = int(hole.stdout.readline())
        if stopped:
            os.kill(hole.pid, signal.SIGSTOP)
        log = RequestLog(LogConfig(destination=f"tcp://127.0.0.1:{port}", lines_max=100))
        longest_s, record, asked = 0.0, a_completed(), 0
        while log.dropped < 1_000:
            began = time.perf_counter()
            log(record)
            longest_s = max(longest_s, time.perf_counter() - began)
            asked += 1
            assert asked < 1_000_000
        assert longest_s < 0.25, "0.3 s is what one attempt of the thread may wait"
        began = time.perf_counter()
        log.stop()
        assert time.perf_counter() - began < 3.0
        assert log.sent + log.dropped >= asked
    finally:
        hole.kill()
        hole.communicate()


def test_a_peer_that_is_not_there_is_waited_for() -> None:
    port = free_port()
    log = RequestLog(LogConfig(destination=f"tcp://127.0.0.1:{port}", lines_max=100))
    for number in range(150):
        log.event("step", number=number)
    until(lambda: log._sink._outlet._wait_s > 0.05)  # type: ignore[attr-defined]
    assert log.dropped == 50
    with listening(port) as listener:
        peer, _ = listener.accept()
        log.stop()
        assert numbers(read_whole(peer)) == list(range(100))
    assert log.sent + log.dropped == 151, "the last one says that some were lost, if it can"


def test_after_a_reset_in_the_middle_of_a_line_no_line_is_torn() -> None:
    with listening() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        log = RequestLog(LogConfig(destination=url_of(listener)))
        for number in range(5_000):
            log.event("step", number=number, filler="x" * 500)
        first, _ = listener.accept()
        begun = first.recv(777, socket.MSG_WAITALL)
        assert not begun.endswith(b"\n")
        first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.close()  # a reset: it does not read what has come
        second, _ = listener.accept()
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(read_whole, second)
            until(lambda: log.sent == 5_000)
            log.stop()
            seen = numbers(reading.result())
        assert seen == list(range(seen[0], 5_000)), "whole lines, in order, to the last one"
        assert 0 < seen[0] < 2_000, "what the kernels held is lost, and no more"
        assert (log.sent, log.dropped) == (5_000, 0)


def test_a_peer_that_says_goodbye_is_left_before_more_is_lost() -> None:
    with listening() as listener:
        log = RequestLog(LogConfig(destination=url_of(listener)))
        log.event("step", number=0)
        first, _ = listener.accept()
        assert numbers(first.recv(65536)) == [0]
        first.close()
        time.sleep(0.05)
        for number in range(1, 100):
            log.event("step", number=number)
        second, _ = listener.accept()
        log.stop()
        assert numbers(read_whole(second)) == list(range(1, 100))


def test_what_a_peer_says_is_read_and_forgotten() -> None:
    with listening() as listener:
        log = RequestLog(LogConfig(destination=url_of(listener)))
        log.event("step", number=0)
        peer, _ = listener.accept()
        for number in range(1, 50):
            peer.sendall(b"200 OK\n" * 10)
            log.event("step", number=number)
            time.sleep(0.001)
        log.stop()
        assert numbers(read_whole(peer)) == list(range(50))
