"""The worker's loop over a socket, in a thread of the test: what it says, and how it ends."""

import dataclasses
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import pytest

from forebay.core.errors import Outcome
from forebay.core.request import FinishReason, Message, Sampling
from forebay.engine.manifest import Form
from forebay.engine.protocol import CannotLoad, SequenceId, StepEngine
from forebay.engine.registry import EngineKind, UnknownEngine
from forebay.engine.wire import (
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
    Step,
    Stop,
    Submit,
    UnloadAdapter,
    Up,
    frame,
    pack_prompt,
    pack_sampling,
)
from forebay.engine.worker import Connection, serve
from tests.support.requests import a_chat
from tests.support.step_engines import PuppetStepEngine

LENGTH = FinishReason.LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class PuppetConfig:
    """How loading it goes."""

    mood: str = "good"


class Gateway:
    """The other end: sends, and reads with a bound."""

    def __init__(self) -> None:
        self._ours, self._its = socket.socketpair()
        self._ours.settimeout(5.0)
        self._reader: FrameReader[Any] = FrameReader(Up, 1 << 20)  # type: ignore[arg-type]  # a union
        self._waiting: list[Any] = []
        self._thread = threading.Thread(target=self._run)
        self.status: int | None = None

    def _run(self) -> None:
        with self._its:
            self.status = serve(Connection(self._its))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        self._ours.close()
        self._thread.join(5.0)
        assert not self._thread.is_alive(), "the worker goes on without its gateway"

    def send(self, *messages: Down) -> None:
        self._ours.sendall(b"".join(map(frame, messages)))

    def receive(self) -> Up:
        """Return the next message that is no beat and not only gauges."""
        while True:
            while not self._waiting:
                self._waiting += self._reader.feed(self._ours.recv(65_536))
            message: Up = self._waiting.pop(0)
            empty = isinstance(message, Step) and not (message.pieces or message.ends)
            if not isinstance(message, Beat) and not empty:
                return message

    def until_running(self, count: int) -> Up:
        """Return the first message whose gauges say that so many sequences run."""
        while True:
            for message in self._reader.feed(self._ours.recv(65_536)):
                if message.stats is not None and message.stats.running == count:
                    return cast("Up", message)

    def ended(self) -> int | None:
        self._thread.join(5.0)
        return self.status


class Puppet(PuppetStepEngine):
    """Says one byte of each sequence a step; `boom` loses the engine."""

    closed = False

    def __init__(self) -> None:
        super().__init__()
        self.adapters: dict[str, Path] = {}

    def load_adapter(self, name: str, folder: Path) -> None:
        if folder.name == "other":
            raise CannotLoad("It is for another model.")
        if folder.name == "strange":
            raise ZeroDivisionError
        self.adapters[name] = folder

    def unload_adapter(self, name: str) -> None:
        self.adapters.pop(name, None)

    def step(self) -> Any:
        for id in sorted(self.held - set(self.aborted)):
            prompt = bytes(self.submitted[id][0])
            if prompt == b"boom":
                raise ZeroDivisionError
            if prompt != b"mute":
                self.say(id, b"x", LENGTH)
        return super().step()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Puppet:
    puppet = Puppet()

    def make(config: PuppetConfig, folder: Path | None) -> StepEngine:
        match config.mood:
            case "shy":
                raise CannotLoad("The model is too shy; be kind.")
            case "large":
                raise MemoryError
            case "broken":
                raise ZeroDivisionError
        assert folder == Path("/models/x")
        return puppet

    def find(name: str) -> EngineKind:
        if name != "puppet":
            raise UnknownEngine("There is no such engine.")
        return EngineKind(name="puppet", config=PuppetConfig, form=Form.OPENVINO, make=make)

    monkeypatch.setattr("forebay.engine.worker.find", find)
    return puppet


def a_load(engine: str = "puppet", **options: object) -> Load:
    return Load(engine, options, "/models/x", 0.05)


def a_submit(id: int, text: str, **how: Any) -> Submit:
    sampling = pack_sampling(Sampling(**how))
    return Submit(id, pack_prompt(a_chat(text)), sampling, stream=True, time_left_s=60.0)


@pytest.fixture
def gateway(engine: Puppet) -> Iterator[Gateway]:
    """Return a gateway whose worker is ready."""
    with Gateway() as gateway:
        assert isinstance(gateway.receive(), Hello)
        gateway.send(a_load())
        assert gateway.receive() == Ready(engine.info)
        yield gateway


def test_it_answers_and_stops_when_told(gateway: Gateway, engine: Puppet) -> None:
    gateway.send(a_submit(1, "hello"))
    step = gateway.receive()
    assert isinstance(step, Step)
    assert [(piece.id, piece.text) for piece in step.pieces] == [(1, "x")]
    gateway.send(Stop())
    assert gateway.ended() == 0
    assert engine.closed


def test_with_nothing_to_do_it_beats(gateway: Gateway) -> None:
    while not isinstance(gateway.until_running(0), Beat):
        pass


def test_with_work_that_makes_nothing_it_gives_signs_too(gateway: Gateway, engine: Puppet) -> None:
    gateway.send(a_submit(1, "mute"))
    for _ in range(3):
        gateway.until_running(1)
    gateway.send(Abort(1))
    gateway.until_running(0)
    assert engine.aborted == [SequenceId(1)]


def test_what_a_request_breaks_while_it_is_taken_in_is_its_own_end_only(
    gateway: Gateway, capfd: pytest.CaptureFixture[str]
) -> None:
    gateway.send(a_submit(1, "BUG"), a_submit(2, "BAD"), a_submit(3, "fine"))
    found: list[Up] = [gateway.receive() for _ in range(3)]
    faults = {each.id: each.outcome for each in found if isinstance(each, Fault)}
    assert faults == {1: Outcome.ENGINE_ERROR, 2: Outcome.INVALID}
    assert [each.ends[0].id for each in found if isinstance(each, Step)] == [3]
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_what_a_client_wrote_is_not_printed_when_it_breaks_something(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def chat(_: object, messages: Sequence[Message]) -> list[int]:
        raise ZeroDivisionError(messages[0].content)

    monkeypatch.setattr("tests.support.step_engines.ByteTokenizer.chat", chat)
    gateway.send(a_submit(1, "my secret"))
    assert isinstance(gateway.receive(), Fault)
    printed = capfd.readouterr().err
    assert "ZeroDivisionError" in printed
    assert "secret" not in printed


def test_an_engine_that_raises_is_lost_and_the_worker_says_so_and_ends(
    gateway: Gateway, engine: Puppet, capfd: pytest.CaptureFixture[str]
) -> None:
    gateway.send(a_submit(1, "boom"))
    fault = gateway.receive()
    assert isinstance(fault, Fault)
    assert fault.id is None
    assert gateway.ended() == 1
    assert engine.closed
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_when_the_gateway_is_gone_it_ends(engine: Puppet) -> None:
    with Gateway() as gateway:
        gateway.receive()
        gateway.send(a_load())
        gateway.receive()
    assert gateway.ended() == 0
    assert engine.closed


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (a_load(mood="shy"), "The model is too shy; be kind."),
        (a_load(mood="large"), "memory"),
        (a_load(mood="broken"), "log"),
        (a_load(mood=7), "options"),
        (a_load(engine="other"), "There is no such engine."),
    ],
)
@pytest.mark.usefixtures("engine")
def test_what_cannot_be_loaded_is_told_in_a_fixed_text(
    load: Load, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with Gateway() as gateway:
        gateway.receive()
        gateway.send(load)
        fault = gateway.receive()
        assert isinstance(fault, Fault)
        assert fault.id is None
        assert words in fault.message
        assert gateway.ended() == 1
    assert "ZeroDivision" not in fault.message
    capfd.readouterr()


def told(gateway: Gateway) -> Adapted:
    message = gateway.receive()
    assert isinstance(message, Adapted)
    return message


def test_it_loads_and_unloads_adapters_as_it_is_told(gateway: Gateway, engine: Puppet) -> None:
    gateway.send(LoadAdapter("v2", "/adapters/v2"))
    assert told(gateway) == Adapted("v2")
    assert engine.adapters == {"v2": Path("/adapters/v2")}
    gateway.send(UnloadAdapter("v2"))
    gateway.send(Stop())
    assert gateway.ended() == 0
    assert engine.adapters == {}


@pytest.mark.parametrize(
    ("folder", "words"),
    [("other", "It is for another model."), ("strange", "The adapter could not be loaded;")],
)
def test_an_adapter_that_cannot_be_loaded_harms_nobody(
    gateway: Gateway, folder: str, words: str
) -> None:
    gateway.send(LoadAdapter("v2", f"/adapters/{folder}"))
    assert told(gateway).error.startswith(words)
    gateway.send(a_submit(1, "hello"))
    assert isinstance(gateway.receive(), Step)


def test_an_engine_that_takes_no_adapters_is_not_asked_to_forget_one(engine: Puppet) -> None:
    engine.info = dataclasses.replace(engine.info, supports=frozenset())
    engine.adapters["v2"] = Path("/adapters/v2")
    with Gateway() as gateway:
        gateway.receive()
        gateway.send(Load("puppet", {}, "/models/x", 0.05))
        assert isinstance(gateway.receive(), Ready)
        gateway.send(UnloadAdapter("v2"))
        gateway.send(Stop())
        assert gateway.ended() == 0
    assert engine.adapters == {"v2": Path("/adapters/v2")}


def test_it_begins_with_the_adapters_it_is_given(engine: Puppet) -> None:
    with Gateway() as gateway:
        gateway.receive()
        gateway.send(Load("puppet", {}, "/models/x", 0.05, {"v1": "/adapters/v1"}))
        assert isinstance(gateway.receive(), Ready)
    assert engine.adapters == {"v1": Path("/adapters/v1")}


def test_an_engine_that_takes_no_adapters_does_not_start_with_one(engine: Puppet) -> None:
    engine.info = dataclasses.replace(engine.info, supports=frozenset())
    with Gateway() as gateway:
        gateway.receive()
        gateway.send(Load("puppet", {}, "/models/x", 0.05, {"v1": "/adapters/v1"}))
        fault = gateway.receive()
        assert isinstance(fault, Fault)
        assert "lays no adapters over a model" in fault.message
        assert gateway.ended() == 1
