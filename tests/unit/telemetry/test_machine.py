"""What the server runs on is read where the limit is, and what cannot be read is nothing."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forebay.telemetry import machine
from forebay.telemetry.machine import Machine, Places
from tests.support.certificates import Authority

GB = 1 << 30
MEMINFO = f"MemTotal: {16 * GB // 1024} kB\nMemAvailable: {12 * GB // 1024} kB\nHugePages: 0\n"


def a_root(folder: Path, **files: str) -> Path:
    for name, text in ({"proc/meminfo": MEMINFO} | files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def of(root: Path) -> Machine:
    return Machine(Places(root=root))


def test_without_a_limit_the_machines_memory_counts(tmp_path: Path) -> None:
    reading = of(a_root(tmp_path)).read()
    assert reading.memory_limit_bytes == 16 * GB
    assert reading.memory_used_bytes == 4 * GB
    assert reading.cpu_throttled_s is None
    assert reading.cpu_limit_cores == len(os.sched_getaffinity(0))


def test_a_limit_of_version_2_counts_without_the_page_cache(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/box\n",
        "sys/fs/cgroup/box/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/box/memory.current": f"{3 * GB}\n",
        "sys/fs/cgroup/box/memory.stat": f"anon {GB}\ninactive_file {GB}\n",
        "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
        "sys/fs/cgroup/box/cpu.stat": "nr_throttled 7\nthrottled_usec 2500000\n",
    }
    reading = of(a_root(tmp_path, **files)).read()
    assert reading.memory_limit_bytes == 4 * GB
    assert reading.memory_used_bytes == 2 * GB
    assert reading.cpu_limit_cores == 0.5
    assert reading.cpu_throttled_s == 2.5


def test_a_limit_of_version_1_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/box\n2:cpu,cpuacct:/box\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{3 * GB}\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{2 * GB}\n",
        "sys/fs/cgroup/memory/box/memory.stat": f"total_inactive_file {GB}\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us": "25000\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/cpu,cpuacct/box/cpu.stat": "throttled_time 1500000000\n",
    }
    reading = of(a_root(tmp_path, **files)).read()
    assert reading.memory_limit_bytes == 3 * GB
    assert reading.memory_used_bytes == GB
    assert reading.cpu_limit_cores == 0.25
    assert reading.cpu_throttled_s == 1.5


def test_the_group_that_leaves_the_least_decides(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/memory.max": f"{8 * GB}\n",
        "sys/fs/cgroup/pod/memory.current": f"{7 * GB}\n",
        "sys/fs/cgroup/pod/container/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/pod/container/memory.current": f"{GB}\n",
    }
    reading = of(a_root(tmp_path, **files)).read()
    assert (reading.memory_used_bytes, reading.memory_limit_bytes) == (7 * GB, 8 * GB)


def test_a_limit_that_is_none_leaves_the_machines(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/box\n1:cpu:/box\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{GB}\n",
        "sys/fs/cgroup/cpu/box/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/box/cpu.cfs_period_us": "100000\n",
    }
    reading = of(a_root(tmp_path, **files)).read()
    assert reading.memory_limit_bytes == 16 * GB
    assert reading.cpu_limit_cores == len(os.sched_getaffinity(0))


def test_a_kernel_that_tells_nothing_leaves_nothing(tmp_path: Path) -> None:
    reading = of(tmp_path).read()
    assert reading.memory_used_bytes is None
    assert reading.memory_limit_bytes is None
    assert reading.certificate_expires_s is None
    assert not reading.disks


def test_a_folder_that_is_not_made_yet_is_read_where_it_will_lie(tmp_path: Path) -> None:
    volumes = {"state": tmp_path / "not" / "yet", "models": tmp_path}
    disks = Machine(Places(volumes=volumes)).read().disks
    whole = os.statvfs(tmp_path)
    assert disks["state"].size_bytes == whole.f_blocks * whole.f_frsize
    assert disks["state"].size_bytes == disks["models"].size_bytes
    assert 0 < disks["state"].free_bytes <= disks["state"].size_bytes


def test_a_file_system_that_fails_has_no_reading_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    def statvfs(path: Path) -> os.statvfs_result:
        if path.name == "gone":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    volumes = {"state": tmp_path / "gone", "models": tmp_path}
    assert list(Machine(Places(volumes=volumes)).read().disks) == ["models"]


def ends(found: float | None) -> datetime:
    assert found is not None
    return datetime.fromtimestamp(found, UTC)


def test_the_end_of_a_certificate_is_told_and_read_again_when_it_was_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority()
    issued = authority.issue(tmp_path, "server", days=(-1.0, 9.0))
    reader = Machine(Places(root=tmp_path, certificate=issued.certificate))
    in_days = ends(reader.read().certificate_expires_s) - datetime.now(UTC)
    assert timedelta(days=8.9) < in_days < timedelta(days=9.1)

    monkeypatch.setattr(machine, "_end", lambda _: pytest.fail("read, though it did not change"))
    assert ends(reader.read().certificate_expires_s) - datetime.now(UTC) > timedelta(days=8.9)
    monkeypatch.undo()

    authority.issue(tmp_path, "server", days=(-1.0, 90.0))
    os.utime(issued.certificate, ns=(1, 1))
    in_days = ends(reader.read().certificate_expires_s) - datetime.now(UTC)
    assert in_days > timedelta(days=89)


@pytest.mark.parametrize("content", [b"", b"no PEM", None])
def test_a_certificate_that_cannot_be_read_has_no_end(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "server.pem"
    if content is not None:
        path.write_bytes(content)
    assert Machine(Places(certificate=path)).read().certificate_expires_s is None
