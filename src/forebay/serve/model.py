"""A model that can be served, and how its engine begins: with the adapters that are on offer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from forebay.core.request import SamplingAdvice
from forebay.engine.protocol import LaneEngine
from forebay.serve.lanes import Listing


@dataclass(slots=True, kw_only=True)
class Model:
    """A model that can be served, and how its engine is made.

    Mutable: `listing` and `adapters`, as versions come and go.
    """

    listing: Listing
    make: Callable[[Mapping[str, Path]], LaneEngine]
    """Makes its engine, which begins with these adapters; nothing runs before that is started."""
    folder: Path | None = None
    """Its prepared artefact, if its engine loads one."""
    adapters: dict[str, Path] = field(default_factory=dict)
    """What its engine calls an adapter -> its folder."""
    advice: SamplingAdvice = field(default_factory=SamplingAdvice)
    bytes_needed: int = 0
    """Memory that loading it takes at least; 0: not known, not checked."""
    preload: bool = True
    """Load it when the server starts."""
    pinned: bool = False
    """It never makes room."""
    remote: bool = False
    """It runs elsewhere: it takes no memory here, and loading it keeps nobody waiting."""


async def started(model: Model) -> LaneEngine:
    """Start a model's engine, with the adapters that are on offer once it runs."""
    adapters = dict(model.adapters)
    engine = model.make(adapters)
    try:
        await engine.start()
        await _catch_up(engine, adapters, model.adapters)
    except BaseException:
        await engine.stop()
        raise
    return engine


async def _catch_up(engine: LaneEngine, has: dict[str, Path], wanted: Mapping[str, Path]) -> None:
    """Load adapters that came on offer while the engine started, and forget those withdrawn."""
    while missing := [name for name in wanted if name not in has]:
        for name in missing:
            if name in wanted:  # it may be withdrawn while another is loaded
                has[name] = wanted[name]
                await engine.load_adapter(name, has[name])
    for name in has.keys() - wanted.keys():
        engine.unload_adapter(name)
