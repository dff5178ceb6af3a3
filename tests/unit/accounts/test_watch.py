import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forebay.accounts.watch import Watch

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20.0)
        yield ours, theirs


def test_who_waits_too_long_is_told_that_the_connection_ended(pair: Pair) -> None:
    watch = Watch(0.1)
    began = time.monotonic()
    watch.enter(pair[0].fileno())
    assert pair[0].recv(1) == b""
    assert 0.1 <= time.monotonic() - began < 10.0
    watch.close()


def test_who_is_answered_in_time_keeps_the_connection(pair: Pair) -> None:
    watch = Watch(0.1)
    for _ in range(5):
        number = watch.enter(pair[0].fileno())
        time.sleep(0.05)
        watch.leave(number)
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"
    watch.close()


def test_a_descriptor_that_somebody_else_got_meanwhile_is_left_alone(pair: Pair) -> None:
    watch = Watch(0.1)
    lost, _ = socket.socketpair()
    number = watch.enter(lost.fileno())
    os.dup2(pair[0].fileno(), lost.fileno())  # the driver closed it, the system gave it away
    time.sleep(0.3)
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"
    watch.leave(number)
    watch.close()
    lost.close()
    _.close()


def test_leaving_what_was_cut_disturbs_nobody(pair: Pair) -> None:
    watch = Watch(0.05)
    first = watch.enter(pair[0].fileno())
    assert pair[0].recv(1) == b""
    other, _ = socket.socketpair()
    with other, _:
        second = watch.enter(other.fileno())
        watch.leave(first)
        assert watch._used.keys() == {second}
        watch.leave(second)
        watch.leave(second)
    watch.close()


def test_nothing_is_left_behind(pair: Pair) -> None:
    folder = Path("/proc/self/fd")
    before = len([*folder.iterdir()])
    watch = Watch(0.05)
    for _ in range(10):
        watch.leave(watch.enter(pair[0].fileno()))
    watch.enter(pair[0].fileno())
    assert pair[0].recv(1) == b""
    watch.close()
    limit = time.monotonic() + 10.0
    while time.monotonic() < limit and watch._thread in threading.enumerate():
        time.sleep(0.01)
    assert len([*folder.iterdir()]) <= before, "others' files may be closed meanwhile"
    assert watch._thread not in threading.enumerate()
