"""Models on offer and routes to them, one section each: `models.NAME.source`, `routes.NAME.split`.

In a file, aliases may be a list and versions a section:

    models:
      chat:
        source: smollm2-135m-instruct
        aliases: [gpt-4o-mini]
        versions:
          polite: file:/adapters/polite
    routes:
      assistant:
        split: {chat: 90, "chat:polite": 10}
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, get_type_hints

import msgspec

from forebay.accounts.prices import PRICES, PriceConfig
from forebay.core.knob import knob
from forebay.policy.rollout import RouteConfig, parse_steps
from forebay.policy.split import parse_split
from forebay.settings.sources import Assignment

MODELS: Final = "models"
ROUTES: Final = "routes"
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
    precision: str = knob("", "What its matrices are kept in; empty: model.precision.")
    workers: int = knob(
        0, "Worker processes that hold it; 0: engine.workers.", minimum=0, maximum=64
    )
    aliases: str = knob("", "Other names that it is asked for by, separated by commas.")
    versions: str = knob(
        "", "LoRA adapters over it, each a model NAME:VERSION: VERSION=SOURCE, separated by commas."
    )
    options: str = knob(
        "",
        "Settings of its engine for this model alone, a JSON object; in a file, a section.",
        secret=True,
    )
    description: str = knob("", "What GET /models says of it.")
    preload: bool = knob(default=True, help="Load it when the server starts.")
    pinned: bool = knob(default=False, help="Never unload it to make room for another.")

    @property
    def other_names(self) -> tuple[str, ...]:
        """Its aliases."""
        return tuple(each.strip() for each in self.aliases.split(",") if each.strip())

    @property
    def engine_options(self) -> Mapping[str, object]:
        """Settings of its engine by name; raises ValueError with the fix."""
        try:
            return msgspec.json.decode(self.options or "{}", type=dict[str, object])
        except msgspec.DecodeError:
            raise ValueError('it is no JSON object, as {"threads": 1}') from None

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


NAMED: Final[Mapping[str, tuple[type, tuple[str, ...]]]] = {
    MODELS: (OfferConfig, ("versions", "options")),
    ROUTES: (RouteConfig, ("split",)),
    PRICES: (PriceConfig, ()),
}
"""Sections whose names a person chooses: their class, and the knobs that may be sections too."""


def named_in(assignments: Iterable[Assignment]) -> tuple[dict[str, type], list[Assignment]]:
    """Return a section for each model and route named, and assignments as their knobs take them."""
    classes: dict[str, type] = {}
    kept: list[Assignment] = []
    folded: dict[str, dict[str, Assignment]] = {}
    for each in assignments:
        head, _, rest = each.key.partition(".")
        if head not in NAMED or not rest:
            if head not in NAMED or each.value is not None:
                kept.append(each)
            continue
        config, folds = NAMED[head]
        if fold := next((fold for fold in folds if f".{fold}." in rest), ""):
            name, _, entry = rest.partition(f".{fold}.")
            key = f"{head}.{name}.{fold}"
            folded.setdefault(key, {})[entry] = each
            kept.append(_joined(key, folded[key]))  # the last of them counts
        else:
            name, _, last = rest.rpartition(".")
            if not name or (each.value is None and last not in get_type_hints(config)):
                name = rest  # `chat:` alone is the model of that name
            if name != rest or each.value is not None:
                folded.pop(each.key, None)  # said anew as a whole
                kept.append(_listed(each))
        classes[f"{head}.{name}"] = config
    return classes, kept


def _listed(each: Assignment) -> Assignment:
    value = each.value
    # A number may stand where percentages and prices do; elsewhere YAML has misread a name.
    number = each.key.endswith(".steps") or each.key.startswith(f"{PRICES}.")
    numbers = (str, int, float) if number else (str,)
    if isinstance(value, list) and all(type(part) in numbers for part in value):
        return replace(each, value=", ".join(map(str, value)))
    return replace(each, value=str(value)) if type(value) in numbers else each


def _joined(key: str, found: Mapping[str, Assignment]) -> Assignment:
    *_, last = found.values()
    if key.endswith(".options"):
        values = {entry: each.value for entry, each in found.items()}
        return replace(last, key=key, value=msgspec.json.encode(values).decode())
    text = ", ".join(f"{entry}={each.value}" for entry, each in found.items())
    return replace(last, key=key, value=text)


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


def own_names(offers: Mapping[str, OfferConfig]) -> set[str]:
    """Return the own names of models and of their versions."""
    known = set[str]()
    for name, offer in offers.items():
        try:
            known |= {name, *(f"{name}:{version}" for version in offer.adapters)}
        except ValueError:
            known.add(name)  # told by `misfits`
    return known


def misled(
    routes: Mapping[str, RouteConfig], offers: Mapping[str, OfferConfig]
) -> Iterator[tuple[str, str]]:
    """Yield the key of each wrong setting of a route and what is wrong with it."""
    known = own_names(offers)
    aliases = {alias for offer in offers.values() for alias in offer.other_names}
    for name, route in routes.items():
        key = f"{ROUTES}.{name}"
        if not _NAME.fullmatch(name) or name in known | aliases:
            yield f"{key}.split", f"'{name[:60]}' is a model's name, or none: {_NAME_WORDS}."
        try:
            parse_steps(route.steps)
        except ValueError as error:
            yield f"{key}.steps", f"{error}."
        try:
            split = [part.model for part in parse_split(route.split)]
        except ValueError as error:
            yield f"{key}.split", f"{error}."
            split = []
        if route.candidate in split:
            yield f"{key}.candidate", "it is compared with the split, and cannot be in it too."
        fields = [("candidate", route.candidate), ("shadow", route.shadow)]
        fields += [("split", model) for model in split]
        for field, model in [each for each in fields if each[1] not in known | {""}]:
            shown = ", ".join(sorted(known)[:20]) or "none; add one under models"
            yield f"{key}.{field}", f"there is no model {model[:60]!r}. There is {shown}."
