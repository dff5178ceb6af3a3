"""Engine name -> how to make one, by entry point (group `forebay.engines`)."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from forebay.core.clock import Clock
from forebay.core.record import EventLog
from forebay.engine.manifest import Form
from forebay.engine.protocol import LaneEngine, StepEngine

GROUP: Final = "forebay.engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """An engine library on offer."""

    name: str
    config: type
    """Its configuration: a frozen dataclass of knobs."""
    form: Form | None
    """The form of a prepared model that it loads; None for one without a model, as `scripted`."""
    needs: tuple[str, ...] = ()
    """Modules of the library: without them it cannot run."""
    make: Callable[[Any, Path | None], StepEngine]
    """(configuration, folder of the artefact) -> a loaded engine; called in the worker."""


class Connect(Protocol):
    """How a remote engine is made."""

    def __call__(self, config: Any, /, *, now: Clock, log: EventLog) -> LaneEngine:  # noqa: ANN401 - of the kind's own class
        """Return an engine that is not started; raises EngineError with the fix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteKind:
    """An engine that others run: no worker, no artefact."""

    name: str
    config: type
    """Its configuration: a frozen dataclass of knobs."""
    connect: Connect
    form: Form | None = None
    """None: nothing is prepared for it."""


class UnknownEngine(ValueError):
    """No such engine is installed."""


def names() -> list[str]:
    """Names of the engines that are installed, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find(name: str) -> EngineKind | RemoteKind:
    """Return the engine of that name, or raise `UnknownEngine` with the names there are."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            kind = point.load()
            assert isinstance(kind, EngineKind | RemoteKind), f"{point.value} is no kind of engine"
            return kind
    raise UnknownEngine(f"There is no engine {name!r}. Installed: {', '.join(names())}.")


def runnable(name: str) -> bool:
    """Whether the library of an engine is installed; nothing of it is imported."""
    try:
        kind = find(name)
    except ImportError:
        return False
    needs = kind.needs if isinstance(kind, EngineKind) else ()
    return all(find_spec(module) is not None for module in needs)
