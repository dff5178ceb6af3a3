"""Models on offer, one section each: `models.NAME.source`.  Their names come from the sources.

In a file, aliases may be a list and versions a section:

    models:
      chat:
        source: smollm2-135m-instruct
        aliases: [gpt-4o-mini]
        versions:
          polite: file:/adapters/polite
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from forebay.core.knob import knob
from forebay.settings.sources import Assignment

MODELS: Final = "models"
_VERSIONS: Final = ".versions."
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_NAME_WORDS: Final = "letters, digits and . _ - /, at most 128"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferConfig:
    """One model on offer."""

    source: str = knob(
        "",
        "What it is: a name that `forebay models` lists, or hf:, pypi:, file:; empty: its own "
        "name.",
    )
    engine: str = knob("", "Its engine; empty: engine.name.")
    workers: int = knob(
        0, "Worker processes that hold it; 0: engine.workers.", minimum=0, maximum=64
    )
    aliases: str = knob("", "Other names that it is asked for by, separated by commas.")
    versions: str = knob(
        "", "LoRA adapters over it, each a model NAME:VERSION: VERSION=SOURCE, separated by commas."
    )
    description: str = knob("", "What GET /models says of it.")
    preload: bool = knob(default=True, help="Load it when the server starts.")
    pinned: bool = knob(default=False, help="Never unload it to make room for another.")

    @property
    def other_names(self) -> tuple[str, ...]:
        """Its aliases."""
        return tuple(each.strip() for each in self.aliases.split(",") if each.strip())

    @property
    def adapters(self) -> Mapping[str, str]:
        """Version -> source; raises ValueError with the fix."""
        found: dict[str, str] = {}
        for each in filter(None, (part.strip() for part in self.versions.split(","))):
            version, equals, source = (part.strip() for part in each.partition("="))
            if not (equals and source and _VERSION.fullmatch(version)):
                raise ValueError(f"'{each[:60]}' is not VERSION=SOURCE, as in v2=file:/adapters/v2")
            if version in found:
                raise ValueError(f"the version {version} stands twice")
            found[version] = source
        return found


def offers_in(assignments: Iterable[Assignment]) -> tuple[dict[str, type], list[Assignment]]:
    """Return a section for each model that is named, and the assignments as its knobs take them."""
    classes: dict[str, type] = {}
    kept: list[Assignment] = []
    versions: dict[str, dict[str, Assignment]] = {}
    for each in assignments:
        head, _, rest = each.key.partition(".")
        if head != MODELS or not rest:
            if head != MODELS or each.value is not None:
                kept.append(each)
            continue
        if _VERSIONS in rest:
            name, _, version = rest.partition(_VERSIONS)
            versions.setdefault(name, {})[version] = each
        else:
            name = rest.rpartition(".")[0]
            bare = not name or (each.value is None and rest.rpartition(".")[2] not in _FIELDS)
            name = rest if bare else name
            if not (bare and each.value is None):  # `chat:` alone is the model of that name
                kept.append(_listed(each))
        classes[f"{MODELS}.{name}"] = OfferConfig
    return classes, kept + [_joined(name, found) for name, found in versions.items()]


_FIELDS: Final = frozenset(OfferConfig.__dataclass_fields__)


def _listed(each: Assignment) -> Assignment:
    if isinstance(each.value, list) and all(isinstance(part, str) for part in each.value):
        return replace(each, value=", ".join(each.value))
    return each


def _joined(name: str, found: Mapping[str, Assignment]) -> Assignment:
    text = ", ".join(f"{version}={each.value}" for version, each in found.items())
    *_, last = found.values()
    return replace(last, key=f"{MODELS}.{name}.versions", value=text)


def misfits(offers: Mapping[str, OfferConfig], engines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the key of each wrong setting and what is wrong with it."""
    known, taken = set(engines), dict[str, str]()
    for name, offer in offers.items():
        key = f"{MODELS}.{name}"
        for called in (name, *offer.other_names):
            where = f"{key}.source" if called == name else f"{key}.aliases"
            if not _NAME.fullmatch(called):
                yield where, f"'{called[:60]}' is no name of a model: {_NAME_WORDS}."
            elif taken.setdefault(called, name) != name:
                yield where, f"the name {called} is already the model {taken[called]}'s."
        try:
            offer.adapters  # noqa: B018 - for what it raises
        except ValueError as error:
            yield f"{key}.versions", f"{error}."
        if offer.engine and offer.engine not in known:
            yield f"{key}.engine", f"must be one of {', '.join(sorted(known))}."
