"""What the settings offer, prepared: from `models` and `model.name` to what is served."""

import dataclasses
from typing import TYPE_CHECKING, Final

from forebay.cli.loading import USAGE, fail
from forebay.cli.supply import engine_of, prepared, require_library

if TYPE_CHECKING:
    from pathlib import Path

    from forebay.engine.manifest import Manifest
    from forebay.engine.registry import EngineKind, RemoteKind
    from forebay.fleet import ServedModel
    from forebay.settings import Loaded, OfferConfig, Settings

_LIBRARY_BYTES: Final = 400 << 20
"""An engine library, its kernels and the activations of a step: 383 MB measured (openvino.py)."""


def offered(found: "Loaded") -> "list[ServedModel]":
    """Return every model on offer, prepared under a progress bar if need be; or end, saying why."""
    from forebay.settings import OfferConfig  # noqa: PLC0415 - see main

    settings, offers = found.settings, dict(found.settings.models)
    if not offers or _asked_for(found):
        named = OfferConfig(source=settings.model.name, preload=True)
        first = _name_of(found, engine_of(settings, "", settings.model.name))
        if any(first in offer.other_names for offer in offers.values()) or first in settings.routes:
            fail(f"model.name: {first} is an alias under models, or a route. Rename that.")
        offers = {first: offers.get(first, named), **offers}
    return [_served(found, name, offer) for name, offer in offers.items()]


def _served(found: "Loaded", name: str, offer: "OfferConfig") -> "ServedModel":
    from forebay.fleet import ServedModel  # noqa: PLC0415 - see main

    settings = found.settings
    kind = engine_of(settings, offer.engine, offer.source or name)
    require_library(kind.name)
    model = ServedModel(
        name=name,
        engine=kind.name,
        aliases=offer.other_names,
        options=offer.engine_options,
        description=offer.description,
        workers=offer.workers,
        preload=offer.preload,
        pinned=offer.pinned,
    )
    if kind.form is None:
        if offer.adapters:
            fail(f"models.{name}.versions: the engine {kind.name} takes no adapters.")
        return model
    precision = offer.precision or settings.model.precision
    wanted = dataclasses.replace(settings.model, name=offer.source or name, precision=precision)
    entry, artefact = prepared(wanted, kind.form)
    return dataclasses.replace(
        model,
        folder=artefact.path,
        adapters=_adapters(settings, name, offer=offer, base=artefact.manifest),
        advice=entry.advice,
        bytes_needed=(model.workers or settings.engine.workers) * _bytes_needed(artefact.manifest),
    )


def _adapters(
    settings: "Settings", name: str, *, offer: "OfferConfig", base: "Manifest"
) -> "dict[str, Path]":
    """Return the checked folder of each version's adapter; or end, saying what is wrong."""
    from forebay.models.adapters import open_adapter  # noqa: PLC0415 - see main
    from forebay.models.stages import PreparationError  # noqa: PLC0415 - see main

    found = {}
    for version, source in offer.adapters.items():
        try:
            found[version] = open_adapter(source, base, cache=settings.model.folder()).path
        except PreparationError as error:
            fail(f"models.{name}.versions.{version}: {error}")
    return found


def _bytes_needed(manifest: "Manifest") -> int:
    """Return the memory that a worker takes at the least: its KV cache takes what is left."""
    return manifest.weights_bytes + _LIBRARY_BYTES


def _asked_for(found: "Loaded") -> bool:
    """Whether somebody named a model beside those under `models`."""
    from forebay.settings.loading import BY_DEFAULT  # noqa: PLC0415 - see main

    (chosen,) = (each for each in found.effective if each.setting.key == "model.name")
    return chosen.set_by != BY_DEFAULT


def _name_of(found: "Loaded", kind: "EngineKind | RemoteKind") -> str:
    """Return the name that `model.name` is served under."""
    from forebay.models import catalogue  # noqa: PLC0415 - see main
    from forebay.models.stages import PreparationError  # noqa: PLC0415 - see main

    chosen = found.settings.model.name
    if kind.form is None:  # without a model there is no name either, unless somebody chose one
        return chosen if _asked_for(found) else kind.name
    if chosen in found.settings.models:
        return chosen
    try:
        return catalogue.resolve(chosen).name
    except PreparationError as error:
        fail(str(error), status=USAGE)
