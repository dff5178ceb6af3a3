"""A reading in a thread: nobody waits for it, and one that fails or hangs harms nobody."""

import threading
from collections.abc import Callable, Iterator

import pytest

from forebay.telemetry.sampled import Sampled

WAIT_S_MAX = 5.0


class Source:
    """Is read when the test lets it, and says when it was."""

    def __init__(self) -> None:
        self.goes: threading.Semaphore = threading.Semaphore(0)
        self.done: threading.Semaphore = threading.Semaphore(0)
        self.value: int | Exception = 0

    def read(self) -> int:
        assert self.goes.acquire(timeout=WAIT_S_MAX)
        try:
            if isinstance(self.value, Exception):
                raise self.value
            return self.value
        finally:
            self.done.release()

    def go(self, value: int | Exception) -> None:
        """Let one reading end with this, and wait until the next one is asked for."""
        self.value = value
        self.goes.release()
        assert self.done.acquire(timeout=WAIT_S_MAX)


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.goes.release(1_000)


def sampled(source: Source, now: Callable[[], float]) -> Sampled[int]:
    return Sampled(source.read, period_s=0.001, now=now, name="test")


def wait_for(found: Callable[[], bool]) -> None:
    ended = threading.Event()
    for _ in range(5_000):
        if found():
            return
        ended.wait(0.001)
    raise AssertionError("it never came")


def test_before_the_first_reading_there_is_none(source: Source) -> None:
    with sampled(source, lambda: 0.0) as reading:
        assert reading.latest() is None
        source.go(7)
        wait_for(lambda: reading.latest() == 7)
        source.goes.release(1_000)


def test_what_was_read_long_ago_is_no_reading(source: Source) -> None:
    moments = [100.0]
    with sampled(source, lambda: moments[0]) as reading:
        source.go(7)
        wait_for(lambda: reading.latest() == 7)
        moments[0] = 100.002
        assert reading.latest() == 7
        moments[0] = 100.0031  # the next reading hangs meanwhile
        assert reading.latest() is None
        source.goes.release(1_000)


def test_a_reading_that_fails_is_none_and_the_next_is_made(source: Source) -> None:
    with sampled(source, lambda: 0.0) as reading:
        source.go(OSError("the disk has gone"))
        source.go(ValueError("still"))
        assert reading.latest() is None
        source.go(8)
        wait_for(lambda: reading.latest() == 8)
        source.goes.release(1_000)


def test_one_that_hangs_does_not_keep_the_end_waiting_for_long(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forebay.telemetry.sampled._STOP_S_MAX", 0.01)
    reading = sampled(source, lambda: 0.0)
    with reading:
        pass  # its first reading never ends
    assert reading.latest() is None
    assert reading._thread.daemon, "it would keep the process from ending"
