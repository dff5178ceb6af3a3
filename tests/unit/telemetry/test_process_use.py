import os
from pathlib import Path

from forebay.core.clock import ManualClock
from forebay.telemetry.process_use import SAMPLE_S, ProcessUse

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Kernel:
    """A `/proc` with processes that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.own = os.getpid()

    def tell(self, pid: int, *, cpu_s: float, memory_mb: float = 0, below: str = "") -> None:
        task = self.folder / str(pid) / "task" / str(pid)
        task.mkdir(parents=True, exist_ok=True)
        (task / "children").write_text(below)
        pages = int(memory_mb * 1_000_000 / PAGE_BYTES)
        ticks = int(cpu_s * TICKS_PER_S)
        fields = ["S", *["0"] * 10, str(ticks), "0", *["0"] * 8, str(pages)]
        (task.parent.parent / "stat").write_text(f"{pid} (a (b) c) {' '.join(fields)} 0 0\n")

    def end(self, pid: int) -> None:
        (self.folder / str(pid) / "stat").unlink()


def test_what_the_process_and_its_workers_used_in_the_last_second_is_told(tmp_path: Path) -> None:
    kernel, clock = Kernel(tmp_path), ManualClock()
    kernel.tell(kernel.own, cpu_s=1.0, below="7001 ")
    kernel.tell(7001, cpu_s=10.0, below="7002")
    kernel.tell(7002, cpu_s=0.0)
    use = ProcessUse(now=clock, proc=tmp_path)
    assert use.use is None
    kernel.tell(kernel.own, cpu_s=1.5, memory_mb=100, below="7001 ")
    kernel.tell(7001, cpu_s=12.0, memory_mb=1000, below="7002")
    kernel.tell(7002, cpu_s=0.5, memory_mb=50)
    clock.advance(2.0)
    assert use.sample()
    assert use.use is not None
    assert use.use.cpu_percent == 150.0
    assert abs(use.use.memory_mb - 1150) < 0.1


def test_within_a_second_nothing_is_read_again(tmp_path: Path) -> None:
    clock = ManualClock()
    use = ProcessUse(now=clock, proc=tmp_path)
    clock.advance(SAMPLE_S / 2)
    assert not use.sample()
    clock.advance(SAMPLE_S / 2)
    assert use.sample()


def test_a_worker_that_has_gone_takes_nothing_off_the_others(tmp_path: Path) -> None:
    kernel, clock = Kernel(tmp_path), ManualClock()
    kernel.tell(kernel.own, cpu_s=1.0, below="7001")
    kernel.tell(7001, cpu_s=100.0)
    use = ProcessUse(now=clock, proc=tmp_path)
    kernel.tell(kernel.own, cpu_s=1.5, below="7001")
    kernel.end(7001)
    clock.advance(1.0)
    use.sample()
    assert use.use is not None
    assert use.use.cpu_percent == 50.0


def test_a_worker_that_has_come_counts_from_its_start(tmp_path: Path) -> None:
    kernel, clock = Kernel(tmp_path), ManualClock()
    kernel.tell(kernel.own, cpu_s=1.0)
    use = ProcessUse(now=clock, proc=tmp_path)
    kernel.tell(kernel.own, cpu_s=1.0, below="7001")
    kernel.tell(7001, cpu_s=0.25)
    clock.advance(1.0)
    use.sample()
    assert use.use is not None
    assert use.use.cpu_percent == 25.0


def test_a_system_without_such_files_tells_nothing(tmp_path: Path) -> None:
    clock = ManualClock()
    use = ProcessUse(now=clock, proc=tmp_path / "none")
    clock.advance(1.0)
    use.sample()
    assert use.use is None


def test_the_real_kernel_is_understood() -> None:
    clock = ManualClock()
    use = ProcessUse(now=clock)
    sum(range(2_000_000))
    clock.advance(1.0)
    use.sample()
    assert use.use is not None
    assert use.use.memory_mb > 5
