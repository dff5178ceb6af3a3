"""Versions of a model: LoRA adapters over it, put on offer and withdrawn while it serves.

An adapter's name in the engine tells its content too, so whatever is remembered of a version (a
cached answer, a shared prefix) is never taken for that of another under the same name.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from forebay.core.errors import Invalid, UnknownModel
from forebay.core.record import EventLog
from forebay.serve.lanes import Lanes, Listing
from forebay.serve.model import Model
from forebay.serve.residency import Residency

_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MARK_CHARACTERS: Final = 8

TakeIn = Callable[[Path, str], Path]
"""(folder of the model, source of an adapter) -> its checked folder; blocks.  Raises Invalid."""


def adapter_name(version: str, folder: Path) -> str:
    """Return what engines call an adapter: the version, and a mark of its content."""
    return f"{version}@{folder.name[:_MARK_CHARACTERS]}"


class Versions:
    """Puts versions on offer.  Mutable state: who is being loaded."""

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        residency: Residency,
        lanes: Lanes,
        *,
        take_in: TakeIn,
        log: EventLog,
        known: Callable[[str], None],
        versions_max: int,
    ) -> None:
        """Take adapters in with `take_in`; `known` is told each name that is new."""
        self._residency = residency
        self._lanes = lanes
        self._take_in = take_in
        self._log = log
        self._known = known
        self._versions_max = versions_max
        self._turn = asyncio.Lock()

    async def add(self, name: str, version: str, source: str) -> str:
        """Put a version on offer, and return its name; raises ServingError with the fix.

        A model in memory loads it at once, beside what runs; one that is asleep when it wakes.
        """
        model = self._model(name)
        self._checked(model, version)
        # Out of turn: it may be fetched from far away, and others are not to wait for that.
        folder = await asyncio.to_thread(self._take_in, model.folder or Path(), source)
        async with self._turn:
            listing = self._checked(model, version)
            adapter = adapter_name(version, folder)
            lane = self._lanes.get(name)
            if lane is not None:
                await lane.engine.load_adapter(adapter, folder)
            model.adapters[adapter] = folder
            self._known(f"{name}:{version}")
            self._offer(model, replace(listing, versions={**listing.versions, version: adapter}))
            self._log("version.added", model=name, version=version)
            return f"{name}:{version}"

    async def remove(self, name: str, version: str) -> None:
        """Withdraw a version; what runs with it ends as the engine lets it.  Raises UnknownModel.

        It is found under no name any more before the engine forgets it.
        """
        async with self._turn:
            model = self._model(name)
            versions = dict(model.listing.versions)
            adapter = versions.pop(version, None)
            if adapter is None:
                raise UnknownModel(f"The model {name} has no version of that name.")
            self._offer(model, replace(model.listing, versions=versions))
            model.adapters.pop(adapter, None)
            lane = self._lanes.get(name)
            if lane is not None:
                lane.engine.unload_adapter(adapter)
            self._log("version.removed", model=name, version=version)

    def _model(self, name: str) -> Model:
        model = self._residency.model(name)
        if model is None:
            known = ", ".join(listing.name for listing in self._lanes.listings)
            message = f"model: there is none of that name. Served: {known}."
            raise UnknownModel(message, param="model")
        return model

    def _checked(self, model: Model, version: str) -> Listing:
        listing = model.listing
        if not _VERSION.fullmatch(version):
            message = "version: 1 to 64 letters, digits and . _ -, beginning with one of the first."
            raise Invalid(message, param="version")
        if version in listing.versions:
            message = f"version: the model has a version {version}. Withdraw it first."
            raise Invalid(message, param="version", status=409)
        if len(listing.versions) >= self._versions_max:
            message = f"version: the model has {self._versions_max}, as many as may be."
            raise Invalid(message, param="version")
        if model.folder is None:
            message = "model: its engine loads no weights of ours that an adapter could change."
            raise Invalid(message, param="model")
        return listing

    def _offer(self, model: Model, listing: Listing) -> None:
        model.listing = listing
        self._lanes.offer(listing)
