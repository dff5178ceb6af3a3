"""Where a drill plays: servers to be started, faults to be made and undone, words on the way."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

from forebay.drill.faults import Fault
from forebay.drill.findings import Broken, Findings, Skipped
from forebay.drill.server import Server, Serving, serving

SCRIPTED: Final = "scripted"
"""The engine without a model; every other needs one, and a library."""


class Say(Protocol):
    """Told how far a drill is: what it does, and of how much (0: unknown)."""

    def __call__(self, what: str, done: float = 0, total: float = 0) -> None:
        """Show it."""


class Stage:
    """What a drill is given.  Mutable state: the faults that were made, the servers' number."""

    def __init__(self, *, engine: str, quick: bool, folder: Path, models: Path, say: Say) -> None:
        """Keep logs and state of servers in `folder`; prepared models are in `models`."""
        self.engine = engine
        self.models = models
        self.quick = quick
        self.folder = folder
        self.say = say
        self.only: tuple[str, ...] = ()
        """The parts of the drill that were asked for by name; none: all of them."""
        self.faults: list[Broken] = []
        self._began = time.monotonic()
        self._servers = 0

    @property
    def passed_s(self) -> float:
        """Seconds since the drill began."""
        return time.monotonic() - self._began

    def wish(self, *settings: str, engine: str = "", port: int = 0) -> Serving:
        """Return how a server of this drill is started; each has a state folder of its own."""
        self._servers += 1
        return Serving(
            engine=engine or self.engine,
            folder=self.folder,
            settings=settings,
            port=port,
            name=f"server-{self._servers}",
        )

    @contextlib.contextmanager
    def serving(self, *settings: str, engine: str = "") -> Iterator[Server]:
        """Run a ready server with these settings (KEY=VALUE) until the body ends."""
        if self.engine != SCRIPTED and find_spec("openvino_genai") is None:
            raise Skipped("openvino-genai is not installed: pip install 'forebay[openvino]'")
        self.say("starting a server")
        with serving(self.wish(*settings, engine=engine)) as server:
            yield server

    @contextlib.contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """Make a fault, and undo it when the body ends."""
        at_s = self.passed_s
        fault.inject()
        try:
            yield
        finally:
            fault.undo()
            self.faults.append(Broken(fault=fault.name, at_s=at_s, undone_s=self.passed_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill: a name to call it by, and what it does on a stage.

    1. `run` starts what it needs through the stage, and leaves nothing behind.
    2. It returns gates, also where they fail; it raises Skipped where the machine lacks
       something, and DrillFailed where nothing could be measured.
    3. `stage.quick` makes it short, never its gates looser.
    """

    name: str
    about: str
    run: Callable[[Stage], Findings]
    engines: tuple[str, ...] = ("scripted",)
    """It is run on each of these, unless others are asked for; "auto" is the default model's."""
