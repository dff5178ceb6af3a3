"""From sources to settings: every name known, every value in bounds, or no start."""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from forebay.accounts import config as accounts
from forebay.accounts import prices, token_rules
from forebay.core.knob import knobs
from forebay.engine import registry
from forebay.gateway import terms
from forebay.policy.addresses import is_loopback
from forebay.policy.fair_share import parse_weights
from forebay.serve import limits_config as limits
from forebay.serve import slo_file
from forebay.serve.redis_link import misfit
from forebay.settings.aliases import ALIASES
from forebay.settings.offers import MODELS, NAMED, misfits, misled, named_in, own_names
from forebay.settings.secret_files import from_files
from forebay.settings.sections import FIXED_SECTIONS, Setting, Settings, settings_of
from forebay.settings.sources import Assignment, Problem, Sources, read, variable
from forebay.telemetry import config as metrics
from forebay.telemetry import otlp_config as otlp

BY_DEFAULT: Final = "default"
BY_MODE: Final = "access.mode=closed"
FOUND_CHARS_MAX: Final = 60


class ConfigurationError(Exception):
    """The configuration is wrong: every problem with its place and its fix."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Take all of them, so that a person mends them in one go."""
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """One setting's value, and where it came from."""

    setting: Setting
    value: object
    set_by: str

    @property
    def shown(self) -> str:
        """The value as it may be shown to anybody."""
        return shown(self.setting, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The settings, and how each came about."""

    settings: Settings
    effective: tuple[Effective, ...]
    sources: Sources
    """Where they were read, and may be read again."""


def sections() -> dict[str, type]:
    """Return every section's class: the fixed ones, and one per engine that can be imported."""
    return _sections()[0]


def _sections() -> tuple[dict[str, type], dict[str, ImportError]]:
    found, broken = dict(FIXED_SECTIONS), {}
    for name in registry.names():
        assert name not in found, f"an engine must not be called {name}"
        try:
            found[name] = registry.find(name).config
        except ImportError as error:  # it stops the start only where it is asked for
            broken[name] = error
    return found, broken


def load(sources: Sources) -> Loaded:
    """Read, check and compose; raises ConfigurationError with everything that is wrong."""
    assignments, problems = read(sources)
    classes, broken = _sections()
    named, assignments = named_in(assignments)
    classes |= named
    known = {setting.key: setting for setting in settings_of(classes)}
    values: dict[str, object] = {}
    setters: dict[str, str] = {}
    secrets = {key for key, setting in known.items() if setting.knob.secret}
    for assignment in from_files(assignments, secrets):
        if isinstance(assignment, Problem):
            problems.append(assignment)
            continue
        setting = known.get(assignment.key)
        if setting is None:
            if assignment.set_by in ALIASES:
                continue  # of an engine that is not installed
            problems += _Unknown(known, classes, broken).of(assignment)
            continue
        try:
            values[setting.key] = setting.convert(assignment.value, text=assignment.text)
            setters[setting.key] = assignment.set_by
        except ValueError:
            problems.append(_misfit(setting, assignment))
    _isolate(values, setters, known)
    settings = _composed(values, classes)
    problems += _refusals(settings, setters)
    if problems:
        raise ConfigurationError(problems)
    effective = tuple(
        Effective(
            setting=setting,
            value=values.get(key, setting.default),
            set_by=setters.get(key, BY_DEFAULT),
        )
        for key, setting in known.items()
    )
    return Loaded(settings=settings, effective=effective, sources=sources)


def shown(setting: Setting, value: object) -> str:
    """Return a value as a person would write it; a secret is `***`."""
    if setting.knob.secret and value:
        return "***"
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case str():
            return value or '""'
        case _:
            return str(value)


def _isolate(
    values: dict[str, object], setters: dict[str, str], known: Mapping[str, Setting]
) -> None:
    """Turn prefix caches off in closed mode, where nobody has said otherwise.

    They are one for all tenants: how soon a first token comes tells what others have asked.
    """
    if values.get("access.mode") != "closed":
        return
    for key in known:
        if key.endswith(".prefix_cache") and key not in values:
            values[key], setters[key] = False, BY_MODE


def _misfit(setting: Setting, assignment: Assignment) -> Problem:
    found = "***" if setting.knob.secret else _found(assignment.value)
    text = f"{setting.key} must be {setting.allowed}; found {found}."
    return Problem(set_by=assignment.set_by, text=text)


def _found(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "nothing"
        case str():
            cut = value[:FOUND_CHARS_MAX]
            return f"'{cut}…'" if len(value) > FOUND_CHARS_MAX else f"'{cut}'"
        case int() | float():
            return str(value)[:FOUND_CHARS_MAX]
        case _:
            return "a list" if isinstance(value, list) else "something else"


@dataclass(frozen=True, slots=True)
class _Unknown:
    """What to say of a key that is not a setting."""

    known: Mapping[str, Setting]
    classes: Mapping[str, type]
    broken: Mapping[str, ImportError]

    def of(self, assignment: Assignment) -> Iterator[Problem]:
        key, section = assignment.key, assignment.key.partition(".")[0]
        if section in self.broken:
            found = self.broken[section]
            text = f"The engine {section} cannot be imported: {found}. Install what it needs."
        elif key in NAMED:
            config, _ = NAMED[key]
            first = next(facts.name for facts, _ in knobs(config))
            example = assignment.spell(f"{key}.NAME.{first}")
            text = f"{key} holds a section for each name that you choose, as in {example}."
        elif key not in self.classes:
            text = self._misspelt(assignment)
        elif assignment.value is None:
            return  # an empty section sets nothing
        else:
            example = next(name for name in self.known if name.startswith(f"{key}."))
            text = f"{key} is a section. Set one of its values, as in {assignment.spell(example)}."
        yield Problem(set_by=assignment.set_by, text=text)

    def _misspelt(self, assignment: Assignment) -> str:
        key, nearest = assignment.key, _nearest(assignment.key, self.known)
        advice = f"Did you mean {assignment.spell(nearest)}?" if nearest else _LIST
        subject = "This variable" if assignment.spell(key) == assignment.set_by else key[:80]
        return f"{subject} is not a setting. {advice}"


_LIST: Final = "`forebay config` lists every setting."


def _nearest(key: str, known: Mapping[str, Setting]) -> str | None:
    """Return the known key that was probably meant: without its section, or misspelt."""
    name = key.rpartition(".")[2]
    same_name = [candidate for candidate in known if candidate.rpartition(".")[2] == name]
    if len(same_name) == 1:
        return same_name[0]
    close = difflib.get_close_matches(key, same_name or known, n=1)
    if not close:
        by_name = {candidate.rpartition(".")[2]: candidate for candidate in known}
        close = [by_name[match] for match in difflib.get_close_matches(name, by_name, n=1)]
    return close[0] if close else None


def _composed(values: Mapping[str, object], classes: Mapping[str, type]) -> Settings:
    built: dict[str, Any] = {}
    for section, config in classes.items():
        prefix = f"{section}."
        own = {
            key.removeprefix(prefix): value
            for key, value in values.items()
            if key.startswith(prefix)
        }
        built[section] = config(**own)
    fixed = {section: built.pop(section) for section in FIXED_SECTIONS}
    named: dict[str, Any] = {
        head: {
            section.removeprefix(f"{head}."): built.pop(section)
            for section in tuple(built)
            if section.startswith(f"{head}.")
        }
        for head in NAMED
    }
    return Settings(**fixed, **named, engines=built)


def _refusals(settings: Settings, setters: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong though each value has the right form."""
    server, engines = settings.server, ["auto", *registry.names()]
    if settings.access.mode == "open" and not is_loopback(server.host):
        text = (
            f"Others can reach {server.host[:FOUND_CHARS_MAX]}, and access.mode=open asks nobody "
            "who they are. Listen on 127.0.0.1, or set access.mode=closed "
            f"({variable('access.mode')}): the first start makes an administrator."
        )
        yield Problem(set_by=setters.get("server.host", BY_DEFAULT), text=text)
    yield from _unreadable(settings, setters)
    if settings.store.url and (wrong := misfit(settings.store.url)):
        yield Problem(set_by=setters.get("store.url", BY_DEFAULT), text=wrong)
    try:
        parse_weights(settings.admission.tenant_weights)
    except ValueError as error:
        key = "admission.tenant_weights"
        yield Problem(set_by=setters.get(key, BY_DEFAULT), text=f"admission.{error}")
    wrong_tokens = token_rules.misfits(settings.tokens, settings.oidc)
    wrong_metrics = metrics.misfits(settings.metrics)
    wrong_otlp = otlp.misfits(settings.traces, settings.otlp_metrics)
    wrong_limits = limits.misfits(settings.limits)
    wrong_files = slo_file.misfits(settings.slo)
    for key, wrong in (*wrong_limits, *wrong_tokens, *wrong_metrics, *wrong_otlp, *wrong_files):
        yield Problem(set_by=setters.get(key, BY_DEFAULT), text=wrong)
    # Of a single model only the source is known here, not its name.
    known = own_names(settings.models) or set(settings.prices)
    for key, wrong in prices.mispriced(settings.prices, known):
        yield Problem(set_by=setters.get(key, key), text=f"{key}: {wrong}")
    if settings.accounts.url and (wrong := accounts.misfit(settings.accounts.url)):
        yield Problem(set_by=setters.get("accounts.url", BY_DEFAULT), text=wrong)
    for key, wrong in misfits(settings.models, engines):
        yield Problem(set_by=setters.get(key, key), text=f"{key}: {wrong}")
    yield from _wrong_options(settings, setters)
    for key, wrong in misled(settings.routes, settings.models):
        yield Problem(set_by=setters.get(key, key), text=f"{key}: {wrong}")
    if settings.engine.name not in engines:
        found = _found(settings.engine.name)
        text = f"engine.name must be one of {', '.join(engines)}; found {found}."
        yield Problem(set_by=setters.get("engine.name", BY_DEFAULT), text=text)


def _unreadable(settings: Settings, setters: Mapping[str, str]) -> Iterator[Problem]:
    """Yield which lists of names and networks cannot be read."""
    for key, wrong in terms.misfits(
        hosts=settings.server.hosts,
        trusted_proxies=settings.server.trusted_proxies,
        cors=settings.gateway.cors_origins,
    ):
        yield Problem(set_by=setters.get(key, BY_DEFAULT), text=wrong)


def _wrong_options(settings: Settings, setters: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong with the options that a model gives its engine."""
    for name, offer in settings.models.items():
        engine, key = offer.engine or settings.engine.name, f"{MODELS}.{name}.options"
        try:
            options = offer.engine_options
            if options and engine in settings.engines:
                settings.engine_config(engine, options)
            elif options:
                text = "the engine has to be named for options; set its engine"
                raise ValueError(text)  # noqa: TRY301 - told like the others
        except ValueError as error:
            yield Problem(set_by=setters.get(key, key), text=f"{key}: {error}.")
