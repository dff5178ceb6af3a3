"""What a process may take is the least of the machine's and each cgroup's above it."""

from pathlib import Path

from forebay.engines.machine import read_machine

GB = 1 << 30


def a_root(folder: Path, files: dict[str, str], *, available_bytes: int = 16 * GB) -> Path:
    total, available = 32 * GB // 1024, available_bytes // 1024
    known = {"proc/meminfo": f"MemTotal: {total} kB\nMemAvailable:   {available} kB\n"}
    for name, text in (known | files).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_without_cgroups_the_machine_decides(tmp_path: Path) -> None:
    assert read_machine(a_root(tmp_path, {})).memory_bytes == 16 * GB


def test_a_limit_of_version_2_leaves_what_is_not_used(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/box\n",
        "sys/fs/cgroup/box/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/box/memory.current": f"{3 * GB}\n",
    }
    assert read_machine(a_root(tmp_path, files)).memory_bytes == GB


def test_page_cache_counts_as_free(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/memory.current": f"{3 * GB}\n",
        "sys/fs/cgroup/memory.stat": f"anon {GB}\ninactive_file {2 * GB}\n",
    }
    assert read_machine(a_root(tmp_path, files)).memory_bytes == 3 * GB


def test_a_limit_further_up_counts_too(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/container\n",
        "sys/fs/cgroup/pod/memory.max": f"{2 * GB}\n",
        "sys/fs/cgroup/pod/memory.current": "0\n",
        "sys/fs/cgroup/pod/container/memory.max": "max\n",
    }
    assert read_machine(a_root(tmp_path, files)).memory_bytes == 2 * GB


def test_a_limit_of_version_1_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/box\n2:cpu,cpuacct:/box\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{3 * GB}\n",
        "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{GB}\n",
    }
    assert read_machine(a_root(tmp_path, files)).memory_bytes == 2 * GB


def test_version_1_without_a_limit_leaves_the_machine_to_decide(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "5:memory:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
    }
    assert read_machine(a_root(tmp_path, files)).memory_bytes == 16 * GB


def test_a_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": f"{GB}\n",
        "sys/fs/cgroup/memory.current": f"{2 * GB}\n",
    }
    assert read_machine(a_root(tmp_path, files)).memory_bytes == 0


def test_a_share_of_a_processor_counts_as_one(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "50000 100000\n"}
    assert read_machine(a_root(tmp_path, files)).processors == 1


def test_a_group_without_a_share_leaves_the_processors_there_are(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": "max 100000\n"}
    here = read_machine(a_root(tmp_path / "a", {})).processors
    assert read_machine(a_root(tmp_path / "b", files)).processors == here
