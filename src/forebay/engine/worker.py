"""The worker process: one step engine, one thread, one loop.

Run by the supervisor as `python -m forebay.engine.worker SOCKET`.  The loop reads every message
that waits (and sleeps only when nothing runs), lets the engine make one step, and writes one
frame.  A beat is sent by that loop and by nothing else, so a beat proves that it turns.
"""

import ctypes
import faulthandler
import os
import random
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Final, cast

import msgspec

from forebay.core.errors import Outcome
from forebay.engine.answering import Answering
from forebay.engine.protocol import Adaptable, CannotLoad, Feature, StepEngine
from forebay.engine.registry import RemoteKind, UnknownEngine, find
from forebay.engine.wire import (
    PROTOCOL_VERSION,
    Abort,
    Adapted,
    Beat,
    Down,
    Fault,
    FrameReader,
    Hello,
    Load,
    LoadAdapter,
    Ready,
    Stop,
    Submit,
    UnloadAdapter,
    Up,
    frame,
)

_FRAME_BYTES_MAX: Final = 2**30
"""The gateway bounds what it sends; this only keeps a length that is nonsense from being read."""

_RECEIVE_BYTES: Final = 1 << 18
_PR_SET_PDEATHSIG: Final = 1


class GatewayGone(Exception):
    """The gateway has closed the connection, or died."""


class Connection:
    """The worker's end of the socket, blocking."""

    def __init__(self, its_socket: socket.socket) -> None:
        """Own an open socket."""
        self._socket = its_socket
        # One buffer for all reads: a new one of this size costs three system calls each time.
        self._received = memoryview(bytearray(_RECEIVE_BYTES))
        self._reader: FrameReader[Down] = FrameReader(Down, _FRAME_BYTES_MAX)  # type: ignore[arg-type]  # a union is a type to msgspec
        self._poll = select.poll()
        self._poll.register(its_socket, select.POLLIN)

    def send(self, *messages: Up) -> None:
        """Write messages; blocks while the gateway does not read.  Raises GatewayGone."""
        try:
            self._socket.sendall(b"".join([frame(message) for message in messages]))
        except OSError as error:
            raise GatewayGone from error

    def receive(self, wait_s: float) -> list[Down]:
        """Return every message that has arrived, after waiting up to `wait_s` for the first."""
        if not self._poll.poll(wait_s * 1000.0):
            return []
        try:
            size = self._socket.recv_into(self._received)
        except OSError as error:
            raise GatewayGone from error
        if not size:
            raise GatewayGone
        return self._reader.feed(self._received[:size].tobytes())


class Worker:
    """The loop.

    Mutable state: when it last said something, whether it has said that steps may be slow now,
    and whether it was told to stop.
    """

    def __init__(self, connection: Connection, engine: StepEngine, beat_s: float) -> None:
        """Serve a loaded engine over a connection."""
        self._connection = connection
        self._engine = engine
        self._answering = Answering(engine, seed=lambda: random.getrandbits(63), stats_s=beat_s)
        self._beat_s = beat_s
        self._spoke = time.monotonic()
        self._told_slow = False
        self._stopping = False

    def run(self) -> None:
        """Turn until told to stop.  Raises what the engine raises, and GatewayGone."""
        answering = self._answering
        while not self._stopping:
            for message in self._connection.receive(0.0 if answering.busy else self._beat_s):
                self._obey(message)
            answering.expire(time.monotonic())
            if answering.slow and not self._told_slow:
                self._say(time.monotonic(), self._beat())
            outputs = answering.step()
            now = time.monotonic()
            made, faults = answering.answer(outputs, now)
            if made is not None:
                self._say(now, made, *faults)
            elif faults:
                self._say(now, *faults)
            elif now - self._spoke >= self._beat_s:
                self._say(now, self._beat())

    def _beat(self) -> Beat:
        return Beat(self._answering.tokens_made, self._engine.stats(), self._answering.slow)

    def _say(self, now: float, *messages: Up) -> None:
        self._spoke = now
        self._told_slow = self._answering.slow
        self._connection.send(*messages)

    def _obey(self, message: Down) -> None:
        match message:
            case Submit():
                self._submit(message)
            case Abort(request_id):
                self._answering.abort(request_id)
            case LoadAdapter(name, folder):
                self._connection.send(Adapted(name, self._adapt(name, folder)))
            case UnloadAdapter(name):
                if Feature.ADAPTERS in self._engine.info.supports:
                    cast("Adaptable", self._engine).unload_adapter(name)
            case Stop():
                self._stopping = True
            case Load():
                assert message is None, "a worker loads once"

    def _adapt(self, name: str, folder: str) -> str:
        """Load an adapter; return why that cannot be, or an empty text."""
        try:
            load_adapter(self._engine, name, folder)
        except CannotLoad as error:
            return str(error)
        except Exception:  # noqa: BLE001 - a foreign library's error; what runs is unharmed
            traceback.print_exc()
            return "The adapter could not be loaded; the worker's lines in the log say why."
        return ""

    def _submit(self, submit: Submit) -> None:
        try:
            self._answering.submit(submit, time.monotonic())
        except Exception as error:  # noqa: BLE001 - whatever a request breaks, it fails alone
            # Its text may hold what a client wrote, and prompts are not logged: say where only.
            traceback.print_tb(error.__traceback__)
            sys.stderr.write(f"{type(error).__name__} while a request was taken in\n")
            message = "The engine could not take the request in."
            self._answering.fail(submit.id, Fault(submit.id, Outcome.ENGINE_ERROR, message))


def load_adapter(engine: StepEngine, name: str, folder: str) -> None:
    """Let an engine load a LoRA adapter; raises CannotLoad with the fix."""
    if Feature.ADAPTERS not in engine.info.supports:
        raise CannotLoad(
            f"The engine {engine.info.name} lays no adapters over a model. Choose one that does "
            "(docs/engines.md), or leave the version out."
        )
    cast("Adaptable", engine).load_adapter(name, Path(folder))


def load(connection: Connection, order: Load) -> StepEngine | None:
    """Make the engine; None if that failed, and the gateway has been told why."""
    try:
        kind = find(order.engine)
        if isinstance(kind, RemoteKind):
            raise CannotLoad(f"{order.engine} runs in the gateway: no worker loads it.")  # noqa: TRY301 - told like the others
        config: object = msgspec.convert(order.options, kind.config)
        engine = kind.make(config, Path(order.model) if order.model is not None else None)
        for name, folder in order.adapters.items():
            load_adapter(engine, name, folder)
        return engine  # noqa: TRY300 - what follows are the ways in which it fails
    except (CannotLoad, UnknownEngine) as error:
        message = str(error)
    except msgspec.ValidationError:
        message = "The engine's options are not what it takes."
        traceback.print_exc()
    except MemoryError:
        message = "There is not enough memory to load the engine."
    except Exception:  # noqa: BLE001 - a foreign library's error; the gateway gets a fixed text
        message = "The engine could not be loaded; the worker's lines in the log say why."
        traceback.print_exc()
    connection.send(Fault(None, Outcome.ENGINE_ERROR, message))
    return None


def serve(connection: Connection) -> int:
    """Greet, load, and turn until told to stop; return the exit status."""
    connection.send(Hello(os.getpid(), PROTOCOL_VERSION))
    orders: list[Down] = []
    while not orders:
        orders = connection.receive(60.0)
    order = orders[0]
    assert isinstance(order, Load), "the first message is Load"
    engine = load(connection, order)
    if engine is None:
        return 1
    try:
        connection.send(Ready(engine.info))
        Worker(connection, engine, order.beat_s).run()
    except GatewayGone:
        return 0
    except Exception:  # noqa: BLE001 - the main loop: whatever the engine raises, it is lost
        traceback.print_exc()
        message = "The engine failed; everything it was doing is lost."
        connection.send(Fault(None, Outcome.ENGINE_ERROR, message))
        return 1
    finally:
        engine.close()
    return 0


def main(path: str) -> int:
    """Connect to the gateway's socket and serve it; return the exit status."""
    _die_with_the_gateway()
    faulthandler.enable()
    # The gateway decides when it ends; a SIGTERM to the whole group is for the gateway.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as its_socket:
        try:
            its_socket.connect(path)
            return serve(Connection(its_socket))
        except (GatewayGone, OSError):
            return 0


def _die_with_the_gateway() -> None:
    """Ask the kernel to kill this process when the gateway dies, where it can (Linux).

    Elsewhere the end of the socket tells it, unless its engine never returns from a step.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
