"""A worker as the gateway holds it: a process, and a connection over which frames go."""

import asyncio
import contextlib
import enum
import os
import shutil
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from forebay.core.knob import knob
from forebay.core.record import EventLog
from forebay.engine.protocol import EngineInfo
from forebay.engine.wire import (
    PROTOCOL_VERSION,
    Adapted,
    Beat,
    Down,
    Fault,
    FrameReader,
    Garbage,
    Hello,
    Load,
    Ready,
    Step,
    Stop,
    Up,
    frame,
)
from forebay.engine.worker_output import forward
from forebay.engine.worker_socket import accept, listening

_LAST_FRAMES_S: Final = 0.5
"""How long after a worker's exit its socket may still be open: only if it left children."""

_REAP_S_MAX: Final = 5.0
"""How long a process that was killed may take to vanish."""

_ENVIRONMENT: Final = frozenset(
    {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH"}
    | {"TMPDIR", "TZ", "USER", "VIRTUAL_ENV", "XDG_CACHE_HOME"}
)
_ENVIRONMENT_PREFIXES: Final = ("CUDA_", "KMP_", "NVIDIA_", "OMP_", "OPENVINO_", "OV_", "PYTHON")
"""What engine libraries read.  The rest stays here: it may hold secrets."""


class Loss(enum.StrEnum):
    """Why a worker is no more."""

    EXITED = "exited"
    STALLED = "stalled"
    GARBAGE = "garbage"
    START_FAILED = "start_failed"


class StartFailed(Exception):
    """A worker did not become ready.  `reason` is its own fixed text, if it gave one."""

    def __init__(self, reason: str | None) -> None:
        """Keep what the worker said."""
        super().__init__(reason or "the worker ended or fell silent")
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSpec:
    """What a worker is to load."""

    engine: str
    options: dict[str, object]
    """The engine's own configuration, as plain data."""
    model: Path | None
    adapters: Mapping[str, Path] = field(default_factory=dict)
    """Name -> folder of each LoRA adapter over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How a worker process is held."""

    start_s_max: float = knob(
        300.0,
        "Longest time for a worker to load its engine, in seconds.",
        minimum=1.0,
        maximum=3_600.0,
    )
    stop_s_max: float = knob(
        3.0,
        "Longest time for a worker to exit when it is asked to; then it is killed, in seconds.",
        minimum=0.0,
        maximum=60.0,
    )
    beat_s: float = knob(
        0.25,
        "How often a worker with nothing else to say sends a sign of life, in seconds.",
        minimum=0.05,
        maximum=10.0,
    )
    frame_bytes_max: int = knob(
        67_108_864,
        "Longest message from a worker, in bytes; a longer one counts as garbage.",
        minimum=65_536,
        maximum=1_073_741_824,
    )


class _Link(asyncio.Protocol):
    """Reads frames; says once why it cannot go on."""

    def __init__(
        self, receive: Callable[[Up], None], lose: Callable[[Loss], None], bytes_max: int
    ) -> None:
        self._receive = receive
        self._lose = lose
        self._reader: FrameReader[Up] = FrameReader(Up, bytes_max)  # type: ignore[arg-type]  # a union is a type to msgspec

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._reader.feed(data)
        except Garbage:
            self._lose(Loss.GARBAGE)
            return
        for message in messages:
            self._receive(message)

    def connection_lost(self, _: Exception | None) -> None:
        self._lose(Loss.EXITED)


class WorkerProcess:
    """A running worker.  Mutable state: two futures, its last words, and frames to be sent."""

    def __init__(
        self, process: Process, receive: Callable[[Up], None], *, unread_bytes_max: int
    ) -> None:
        """Hold `process`; Step, Beat, Adapted and Fault of one request go to `receive`.

        A worker that leaves more than `unread_bytes_max` bytes unread is lost.
        """
        loop = asyncio.get_running_loop()
        self._process = process
        self._pass_on = receive
        self._unread_bytes_max = unread_bytes_max
        self._info: asyncio.Future[EngineInfo] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._last_words: str | None = None
        self._outgoing: list[bytes] = []
        self._corked = False
        self.lost: asyncio.Future[Loss] = loop.create_future()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def last_words(self) -> str | None:
        """Why its engine failed, if it said so."""
        return self._last_words

    def send(self, message: Down) -> None:
        """Write a message; what cannot be written is lost with the worker.

        The first of a turn of the loop goes at once, for somebody waits for its answer; those
        that follow go together at the turn's end, for a system call costs more than all else.
        """
        if self._corked:
            self._outgoing.append(frame(message))
            return
        self._corked = True
        asyncio.get_running_loop().call_soon(self._uncork)
        self._write(frame(message))

    def _uncork(self) -> None:
        self._corked = False
        if self._outgoing:
            frames, self._outgoing = self._outgoing, []
            self._write(b"".join(frames))

    def _write(self, data: bytes) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(data)
            if transport.get_write_buffer_size() > self._unread_bytes_max:
                self.lose(Loss.STALLED)

    def lose(self, loss: Loss) -> None:
        """Give it up; only the first reason counts."""
        if not self.lost.done():
            self.lost.set_result(loss)

    async def ready(self, wait_s_max: float) -> EngineInfo:
        """Wait until the engine is loaded; raises StartFailed."""
        events: set[asyncio.Future[Any]] = {self._info, self.lost}
        await asyncio.wait(events, timeout=wait_s_max, return_when=asyncio.FIRST_COMPLETED)
        if self._info.done() and not self.lost.done():
            return self._info.result()
        raise StartFailed(self._last_words)

    async def _connect(self, listener: socket.socket, config: WorkerConfig) -> None:
        """Wait for the process to connect; raises StartFailed."""
        loop = asyncio.get_running_loop()
        accepting = asyncio.create_task(accept(listener, self.pid))
        events: set[asyncio.Future[Any]] = {accepting, self.lost}
        try:
            await asyncio.wait(
                events, timeout=config.start_s_max, return_when=asyncio.FIRST_COMPLETED
            )
            if not accepting.done():
                raise StartFailed(None)
        finally:
            accepting.cancel()
        link = _Link(self._receive, self.lose, config.frame_bytes_max)
        transport, _ = await loop.connect_accepted_socket(lambda: link, accepting.result())
        self._transport = transport

    def _exited(self, _: "asyncio.Task[int]") -> None:
        """Give it up, but let what it said before it went be read first."""
        if self._transport is None:
            self.lose(Loss.EXITED)
        else:
            asyncio.get_running_loop().call_later(_LAST_FRAMES_S, self.lose, Loss.EXITED)

    def _receive(self, message: Up) -> None:
        if self.lost.done():
            return  # its requests are the next worker's
        match message:
            case Step() | Beat() | Adapted():
                self._pass_on(message)
            case Fault(id=None):
                self._last_words = message.message
            case Fault():
                self._pass_on(message)
            case Hello(pid, version):
                if pid != self.pid or version != PROTOCOL_VERSION:
                    self.lose(Loss.GARBAGE)
            case Ready(info):
                if not self._info.done():
                    self._info.set_result(info)

    async def _end(self, stop_s_max: float) -> None:
        """Let it exit, or make it; nothing of it is left."""
        exited = asyncio.create_task(self._process.wait())
        if self._info.done() and not self.lost.done():  # one that still loads reads no orders
            self.send(Stop())
            await asyncio.wait({exited}, timeout=stop_s_max)
        # The whole group, also after it has exited: an engine library may have left helpers.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._transport is not None:
            self._transport.abort()
        await asyncio.wait({exited}, timeout=_REAP_S_MAX)
        exited.cancel()


@contextlib.asynccontextmanager
async def open_worker(
    spec: WorkerSpec, config: WorkerConfig, receive: Callable[[Up], None], *, log: EventLog
) -> AsyncIterator[WorkerProcess]:
    """Start a worker and connect to it; when the block ends, it is gone.  Raises StartFailed."""
    with contextlib.ExitStack() as stack:
        with _starting():
            listener, path = stack.enter_context(listening())
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "forebay.engine.worker", path),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                env=environment(os.environ),
                start_new_session=True,
            )
        worker = WorkerProcess(process, receive, unread_bytes_max=config.frame_bytes_max)
        output = asyncio.create_task(forward(process, log))
        exited = asyncio.create_task(process.wait())
        exited.add_done_callback(worker._exited)  # noqa: SLF001 - one unit
        try:
            with _starting():
                await worker._connect(listener, config)  # noqa: SLF001 - one unit
            listener.close()
            shutil.rmtree(Path(path).parent)
            model = None if spec.model is None else str(spec.model)
            adapters = {name: str(folder) for name, folder in spec.adapters.items()}
            worker.send(Load(spec.engine, spec.options, model, config.beat_s, adapters))
            yield worker
        finally:
            await _unbroken(worker._end(config.stop_s_max))  # noqa: SLF001 - one unit
            await _unbroken(_settled(output, exited))
            log("worker.ended", pid=worker.pid, status=process.returncode)


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return what of the environment a worker may see."""
    return {
        name: value
        for name, value in inherited.items()
        if name in _ENVIRONMENT or name.startswith(_ENVIRONMENT_PREFIXES)
    }


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Let what the system refuses (memory, processes, files, space) be a start that failed."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise StartFailed(f"The worker process could not be started: {why}.") from error


async def _settled(*tasks: "asyncio.Task[Any]") -> None:
    """Let tasks end by themselves, which they do once the process is gone; or end them."""
    await asyncio.wait(tasks, timeout=1.0)
    for task in tasks:
        task.cancel()


async def _unbroken(ending: Coroutine[None, None, None]) -> None:
    """Run to the end, bounded by itself, even if we are cancelled; then be cancelled."""
    task = asyncio.ensure_future(ending)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
