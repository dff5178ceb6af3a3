"""Engine name -> how to make one, by entry point (group `forebay.engines`)."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from forebay.engine.manifest import Form
from forebay.engine.protocol import StepEngine

GROUP: Final = "forebay.engines"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineKind:
    """An engine library on offer."""

    name: str
    config: type
    """Its configuration: a frozen dataclass of knobs."""
    form: Form | None
    """The form of a prepared model that it loads; None for one without a model, as `scripted`."""
    make: Callable[[Any, Path | None], StepEngine]
    """(configuration, folder of the artefact) -> a loaded engine; called in the worker."""


class UnknownEngine(ValueError):
    """No such engine is installed."""


def names() -> list[str]:
    """Names of the engines that are installed, sorted."""
    return sorted({point.name for point in entry_points(group=GROUP)})


def find(name: str) -> EngineKind:
    """Return the engine of that name, or raise `UnknownEngine` with the names there are."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            kind = point.load()
            assert isinstance(kind, EngineKind), f"{point.value} is not an EngineKind"
            return kind
    raise UnknownEngine(f"There is no engine {name!r}. Installed: {', '.join(names())}.")
