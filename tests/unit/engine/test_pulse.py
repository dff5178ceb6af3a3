"""A silent process: slow, or stuck."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forebay.engine.pulse import Pulse, Vitals, read_vitals, resident_bytes, share_of

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        (None, Vitals("R", 1.0), 1.0),
        (Vitals("R", 1.0), None, 1.0),
        (Vitals("R", 1.0), Vitals("R", 2.0), 1.0),
        (Vitals("S", 1.0), Vitals("S", 3.0), 1.0),
        (Vitals("R", 1.0), Vitals("R", 1.75), 0.75),
        (Vitals("S", 1.0), Vitals("S", 1.75), 0.75),
        (Vitals("R", 1.0), Vitals("R", 1.0), 0.5),
        (Vitals("S", 1.0), Vitals("S", 1.0), 1.0),
        (Vitals("D", 1.0), Vitals("D", 1.0), 1.0),
        (Vitals("T", 1.0), Vitals("T", 1.0), 1.0),
    ],
    ids=[
        *("first", "vanished", "busy", "two threads", "half starved", "threads starved"),
        *("starved", "asleep", "disk", "stopped"),
    ],
)
def test_time_counts_as_far_as_it_could_be_used(
    before: Vitals | None, after: Vitals | None, share: float
) -> None:
    assert share_of(before, after, 1.0) == share


def a_stat(folder: Path, state: str, ticks: int) -> None:
    fields = [state, *["0"] * 10, str(ticks), str(ticks), "0"]
    (folder / "7").mkdir(exist_ok=True)
    (folder / "7" / "stat").write_text(f"7 (a ) name) {' '.join(fields)}")


def test_the_kernels_line_is_read_whatever_the_name_is(tmp_path: Path) -> None:
    a_stat(tmp_path, "T", 150)
    vitals = read_vitals(7, tmp_path)
    assert vitals is not None
    assert vitals.stopped
    assert vitals.cpu_s == pytest.approx(300 / os.sysconf("SC_CLK_TCK"))


def test_where_there_is_nothing_to_read_nothing_is_known(tmp_path: Path) -> None:
    assert read_vitals(7, tmp_path) is None
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text("7 (odd")
    assert read_vitals(7, tmp_path) is None


def test_the_memory_of_a_process_is_what_it_has_in_ram_and_none_where_nobody_tells(
    tmp_path: Path,
) -> None:
    assert resident_bytes(7, tmp_path) == 0
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "statm").write_text("900 30 20 1 0 40 0\n")
    assert resident_bytes(7, tmp_path) == 30 * os.sysconf("SC_PAGE_SIZE")
    (tmp_path / "7" / "statm").write_text("odd")
    assert resident_bytes(7, tmp_path) == 0


@linux_only
def test_a_stopped_process_is_seen_once_it_is_silent() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        pulse = Pulse(process.pid)
        try:
            assert pulse.share(0.0, heard=1) == 1.0
            os.kill(process.pid, signal.SIGSTOP)
            began = time.monotonic()
            while not pulse.stopped and time.monotonic() - began < 5.0:
                pulse.share(time.monotonic(), heard=1)
            assert pulse.stopped
            pulse.share(time.monotonic(), heard=2)
            assert not pulse.stopped, "who talks is not looked at"
        finally:
            process.kill()
