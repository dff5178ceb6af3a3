"""The sink by itself: outlets that a test leads, and no thread but where one is the point."""

import errno
import os
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from forebay.telemetry import sink as sink_module
from forebay.telemetry.outlet import WAIT_S, Peer
from forebay.telemetry.sink import BATCH_LINES_MAX, LineSink


class Led:
    """An outlet that takes as many bytes as it is told to, on streams that a test changes."""

    def __init__(self) -> None:
        self.stream = 0
        self.room = 10**9
        self.up = True
        self.streams: dict[int, bytes] = {}

    def ready(self) -> bool:
        return self.up

    def write(self, data: memoryview) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "full")
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.streams[self.stream] = self.streams.get(self.stream, b"") + taken
        return len(taken)

    def close(self) -> None:
        self.up = False


@pytest.fixture(autouse=True)
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the thread sleep until the end: the test writes."""
    monkeypatch.setattr(sink_module, "FLUSH_S", 3_600.0)


@pytest.fixture
def led(tmp_path: Path) -> Iterator[tuple[LineSink, Led]]:
    sink, outlet = LineSink(str(tmp_path / "unused"), 100), Led()
    sink._outlet.close()
    sink._outlet = outlet
    yield sink, outlet
    sink.stop(1.0)


def lines(first: int, count: int) -> list[bytes]:
    return [f"line {number:03}\n".encode() for number in range(first, first + count)]


def test_what_a_full_disk_did_not_take_follows_where_it_stopped(led: tuple[LineSink, Led]) -> None:
    sink, outlet = led
    outlet.room = 13
    for line in lines(0, 3):
        sink.put(line)
    sink._flush()
    assert outlet.streams[0] == b"line 000\nline"
    assert sink.sent == 0
    outlet.room = 10**9
    sink._flush()
    assert outlet.streams[0] == b"".join(lines(0, 3))
    assert (sink.sent, sink.dropped) == (3, 0)


def test_another_stream_begins_with_the_line_in_which_the_last_one_broke(
    led: tuple[LineSink, Led],
) -> None:
    sink, outlet = led
    outlet.room = 13
    for line in lines(0, 3):
        sink.put(line)
    sink._flush()
    outlet.stream, outlet.room = 1, 10**9
    sink._flush()
    assert outlet.streams[0] == b"line 000\nline"
    assert outlet.streams[1] == b"".join(lines(1, 2))
    assert sink.sent == 3


def test_while_nothing_goes_out_lines_are_held_and_then_dropped_and_counted(
    led: tuple[LineSink, Led],
) -> None:
    sink, outlet = led
    outlet.up = False
    for line in lines(0, 150):
        sink.put(line)
        sink._flush()
    assert (sink.sent, sink.dropped) == (0, 50)
    outlet.up = True
    sink._flush()
    assert outlet.streams[0] == b"".join(lines(0, 100))
    assert (sink.sent, sink.dropped) == (100, 50)


def test_at_the_end_what_never_went_out_counts_as_dropped(led: tuple[LineSink, Led]) -> None:
    sink, outlet = led
    outlet.room = 12
    for line in lines(0, 5):
        sink.put(line)
    sink.stop(5.0)
    assert sink.sent + sink.dropped == 5
    assert sink.dropped == 5


def test_lines_go_out_in_batches(led: tuple[LineSink, Led]) -> None:
    sink, outlet = led
    sink._lines_max = 10**6
    for line in lines(0, BATCH_LINES_MAX + 1):
        sink.put(line)
    sink._flush()
    assert outlet.streams[0].count(b"\n") == BATCH_LINES_MAX + 1
    assert sink.sent == BATCH_LINES_MAX + 1


def test_a_file_that_was_rotated_is_left_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = LineSink(str(path), 1_000_000)
    written = 0
    for number in range(20):
        for line in lines(written, 50):
            sink.put(line)
        written += 50
        sink._flush()
        path.rename(tmp_path / f"log.{number}")
    sink.stop(5.0)
    rotated = [tmp_path / f"log.{number}" for number in range(20)]
    found = b"".join(file.read_bytes() for file in rotated)
    assert found == b"".join(lines(0, written))
    assert (sink.sent, sink.dropped) == (written, 0)
    assert len({file.stat().st_ino for file in rotated}) == 20


def test_a_file_that_was_rotated_and_made_anew_is_left_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = LineSink(str(path), 1000)
    path.rename(tmp_path / "log.1")
    path.touch()  # as logrotate's `create` does
    sink.put(b"after\n")
    sink.stop(5.0)
    assert path.read_bytes() == b"after\n"


def test_a_file_that_was_cut_in_place_is_written_from_its_new_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    sink = LineSink(str(path), 1000)
    sink.put(b"before\n")
    sink._flush()
    os.truncate(path, 0)
    sink.put(b"after\n")
    sink.stop(5.0)
    assert path.read_bytes() == b"after\n"


def test_a_file_whose_folder_has_gone_is_written_on(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    held = tmp_path / "held"
    sink = LineSink(str(folder / "log"), 1000)
    os.link(folder / "log", held)
    (folder / "log").unlink()
    folder.rmdir()
    sink.put(b"a line\n")
    sink.stop(5.0)
    assert held.read_bytes() == b"a line\n"
    assert sink.dropped == 0


def test_a_pipe_whose_name_has_gone_is_written_on_and_no_file_takes_its_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = LineSink(str(path), 1000)
    path.unlink()
    sink.put(b"a line\n")
    sink.stop(5.0)
    assert os.read(reader, 100) == b"a line\n"
    os.close(reader)
    assert not path.exists()


def test_a_peer_that_is_away_is_tried_more_and_more_rarely_but_never_forgotten() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    now, tried = 0.0, []
    peer = Peer(f"tcp://127.0.0.1:{port}", now=lambda: now)
    for tick in range(10_000):
        now, before = tick / 100, peer._not_before
        assert not peer.ready()
        if peer._not_before != before:
            tried.append(now)
    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert waits[:3] == pytest.approx([0.1, 0.2, 0.4], abs=0.02)
    assert max(waits) == pytest.approx(WAIT_S[1], abs=0.02)
    with socket.create_server(("127.0.0.1", port)) as back:
        now = 200.0
        assert peer.ready()
        peer.write(memoryview(b"a line\n"))
        back.accept()[0].close()
    now = 300.0
    assert not any(peer.ready() for _ in range(3))
    assert peer._not_before == pytest.approx(now + WAIT_S[0])  # what arrived ended the long waits


def test_a_pipe_that_nobody_reads_yet_holds_no_start_up_and_keeps_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    made: list[LineSink] = []
    start = threading.Thread(target=lambda: made.append(LineSink(str(path), 1000)), daemon=True)
    start.start()
    start.join(5.0)
    assert made, "the start waits for a reader"
    made[0].put(b"a line\n")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    made[0].stop(5.0)
    assert os.read(reader, 100) == b"a line\n"
    os.close(reader)


@pytest.mark.parametrize(
    "url", ["tcp://", "tcp://host", "tcp://host:0", "tcp://host:99999", "tcp://h:1/path"]
)
def test_an_address_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValueError, match="tcp://host:port"):
        LineSink(url, 100)


def test_a_full_device_costs_lines_that_are_counted() -> None:
    sink = LineSink("/dev/full", 100)
    for line in lines(0, 150):
        sink.put(line)
    sink.stop(5.0)
    assert (sink.sent, sink.dropped) == (0, 150)
