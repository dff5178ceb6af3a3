"""What a case of the drill of alerts may need around its server, and what is broken there.

Each is a plan with its surroundings: they are prepared before the server starts, and put away
after it has ended.  What only root may do is skipped by name for anybody else.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from forebay.drill import alerts_faults as faults
from forebay.drill.alerts_callers import repeatable, said
from forebay.drill.alerts_case import Fault, Plan
from forebay.drill.alerts_scene import Scene
from forebay.drill.certificates import Authority
from forebay.drill.findings import Skipped
from forebay.drill.hostile_accounts import a_key
from forebay.drill.redis_server import is_installed, running_redis
from forebay.drill.stand_ins import pynvml

_SAMPLED: Final = "metrics.sample_s=0.5"
_STATE: Final = Path("server", "forebay")
"""Where a server's state lies in its scene's folder."""
_DISK_BYTES: Final = 64 << 20
_MEMORY_BYTES: Final = 512 << 20
_GPU_BYTES: Final = 80 << 30
_CGROUP: Final = Path("/sys/fs/cgroup/memory")
_NEVER_S: Final = 3_600.0

Surroundings = Callable[[Path], AbstractContextManager[Plan]]


@contextlib.contextmanager
def with_redis(_folder: Path) -> Iterator[Plan]:
    """Share a store, and lose it."""
    if not is_installed():
        raise Skipped("redis-server is not installed: apt install redis-server")
    with running_redis() as redis:
        yield Plan(
            fault=faults.redis_killed(redis), settings=(f"store.url={redis.url}",), wish=repeatable
        )


def with_accounts(*settings: str) -> Surroundings:
    """Ask for keys, and lock the file of the accounts."""

    @contextlib.contextmanager
    def surroundings(folder: Path) -> Iterator[Plan]:
        key = a_key(folder / _STATE)
        yield Plan(
            fault=_locked,
            settings=(
                *("access.mode=closed", "limits.requests=1000000/minute"),
                *("accounts.timeout_s=0.2", *settings),
            ),
            key=key,
        )

    return surroundings


@contextlib.asynccontextmanager
async def _locked(scene: Scene) -> AsyncIterator[None]:
    with contextlib.closing(sqlite3.connect(scene.state / "accounts.sqlite")) as database:
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.rollback()


def on_a_disk(free: float) -> Surroundings:
    """Keep the state on a file system of its own, and leave so much of it free."""

    @contextlib.contextmanager
    def surroundings(folder: Path) -> Iterator[Plan]:
        place = folder / _STATE.parent
        place.mkdir()
        with _mounted(place):
            file = place / "filling"
            fault = faults.done(
                lambda _scene: _fill(file, free),
                lambda _scene: file.unlink(),
            )
            yield Plan(fault=fault, settings=(_SAMPLED,))

    return surroundings


def _fill(file: Path, free: float) -> None:
    found = os.statvfs(file.parent)
    file.write_bytes(bytes(int((found.f_bavail - free * found.f_blocks) * found.f_frsize)))


@contextlib.contextmanager
def _mounted(place: Path) -> Iterator[None]:
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None or os.geteuid() != 0:
        raise Skipped("only root may mount a file system")
    command = [mount, "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(place)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise Skipped(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run([unmount, "--lazy", str(place)], check=True)  # noqa: S603 - ours


@contextlib.contextmanager
def in_a_group(_folder: Path) -> Iterator[Plan]:
    """Run in a control group with a limit of memory, and let a neighbour take what is left."""
    group = _CGROUP / f"forebay-drill-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(_MEMORY_BYTES), encoding="ascii")
    except OSError:
        raise Skipped("no control group for memory can be made here (version 1, as root)") from None
    try:
        yield Plan(
            fault=_neighbour(group), settings=(_SAMPLED,), on_start=lambda pid: _join(group, pid)
        )
    finally:
        _leave(group)


def _join(group: Path, pid: int) -> None:
    (group / "cgroup.procs").write_text(str(pid), encoding="ascii")


def _leave(group: Path) -> None:
    """Put those who are left back, and the group away."""
    for pid in (group / "cgroup.procs").read_text(encoding="ascii").split():
        with contextlib.suppress(OSError):
            _join(group.parent, int(pid))
    group.rmdir()


def _neighbour(group: Path) -> Fault:
    """Return a process of the group that takes memory until 95 % of the limit are in use."""

    @contextlib.asynccontextmanager
    async def fault(_scene: Scene) -> AsyncIterator[None]:
        used = int((group / "memory.usage_in_bytes").read_text(encoding="ascii"))
        wanted = int(0.95 * _MEMORY_BYTES) - used
        words = f"import signal; kept = b'x' * {wanted}; signal.pause()"
        process = await asyncio.to_thread(subprocess.Popen, [sys.executable, "-S", "-c", words])
        _join(group, process.pid)
        try:
            yield
        finally:
            process.kill()
            process.wait()

    return fault


def with_certificate(days_left: float) -> Surroundings:
    """Serve with TLS, and come to a certificate that ends soon."""

    @contextlib.contextmanager
    def surroundings(folder: Path) -> Iterator[Plan]:
        authority = Authority(folder)
        files = authority.issue(days=90.0)
        yield Plan(
            fault=faults.done(
                lambda scene: _renewed(scene, authority, days=days_left),
                lambda scene: _renewed(scene, authority, days=90.0),
            ),
            settings=(
                *(f"server.tls_certificate={files.certificate}", f"server.tls_key={files.key}"),
                _SAMPLED,
            ),
            ca_file=authority.file,
            pace_s=_NEVER_S,
        )

    return surroundings


def _renewed(scene: Scene, authority: Authority, *, days: float) -> None:
    authority.issue(days=days)
    scene.server.process.send_signal(signal.SIGHUP)


def with_gpus(*, used: float = 0.5, busy: int = 50) -> Surroundings:
    """See a GPU that a stand-in for NVML makes up, and come to one that is fuller or busier."""

    @contextlib.contextmanager
    def surroundings(folder: Path) -> Iterator[Plan]:
        file = folder / "gpus.json"
        _gpu(file, used=0.5, busy=50)
        yield Plan(
            fault=faults.done(
                lambda _scene: _gpu(file, used=used, busy=busy),
                lambda _scene: _gpu(file, used=0.5, busy=50),
            ),
            settings=(_SAMPLED,),
            environment={
                "PYTHONPATH": str(Path(pynvml.__file__).parent),
                "DRILL_GPUS": str(file),
            },
        )

    return surroundings


def _gpu(file: Path, *, used: float, busy: int) -> None:
    gpu = {"used": int(used * _GPU_BYTES), "total": _GPU_BYTES, "utilization": busy}
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps([gpu]), encoding="utf-8")
    beside.rename(file)


@contextlib.contextmanager
def with_a_reader_of_the_log(folder: Path) -> Iterator[Plan]:
    """Log into a pipe that somebody reads, and who then reads no more."""
    pipe = folder / "log.fifo"
    os.mkfifo(pipe)
    reader = _Reader(pipe)
    try:
        yield Plan(
            fault=faults.done(lambda _scene: reader.pause(), lambda _scene: reader.go_on()),
            settings=(f"log.destination={pipe}", "log.lines_max=100"),
            pace_s=0.02,
        )
    finally:
        reader.end()


class _Reader:
    """Reads a pipe in a thread.  Mutable state: whether it may."""

    def __init__(self, pipe: Path) -> None:
        # For writing as well, so that there is no end of the file while nobody writes.
        self._pipe = os.open(pipe, os.O_RDWR)
        self._may, self._ends = threading.Event(), False
        self._may.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def pause(self) -> None:
        self._may.clear()

    def go_on(self) -> None:
        self._may.set()

    def end(self) -> None:
        self._ends = True
        self._may.set()
        os.write(self._pipe, b"\n")
        self._thread.join()
        os.close(self._pipe)

    def _run(self) -> None:
        while not self._ends:
            os.read(self._pipe, 65_536)
            self._may.wait()


def two_models() -> Surroundings:
    """Have a second model, which callers come to ask for, and whose workers die as they start."""

    @contextlib.asynccontextmanager
    async def fault(scene: Scene) -> AsyncIterator[None]:
        spared = set(scene.server.workers())
        with scene.callers.asking(lambda number: said(f"words {number}", model="other")):
            async with faults.workers_killed(every_s=0.02, spared=spared)(scene):
                yield
        # Somebody has to ask again, for it to be tried again.
        scene.callers.wish = lambda number: said(f"words {number}", model="other")

    settings = (
        *("models.scripted.engine=scripted", "models.other.engine=scripted"),
        *("models.other.preload=false", "residency.failed_s=1", "supervisor.starts_max=1"),
    )
    return plan(fault, settings=settings)


def plan(fault: Fault, **fields: Any) -> Surroundings:  # noqa: ANN401 - fields of a Plan
    """Return a plan that needs nothing around it."""
    return lambda _folder: contextlib.nullcontext(Plan(fault=fault, **fields))
