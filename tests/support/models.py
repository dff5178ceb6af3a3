"""The default model where tests find it, and small GGUF files made for them."""

from pathlib import Path
from typing import Any

from forebay.models.artefacts import Artefact
from forebay.models.catalogue import resolve
from forebay.models.preparation import prepare
from forebay.settings import ModelConfig


def artefact_of(name: str) -> Artefact:
    """Return a model that `forebay pull` has prepared."""
    return prepare(resolve(name), cache=ModelConfig().folder(), progress=lambda _: None)
