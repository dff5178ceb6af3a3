"""Settings of a running server: read again, and applied where that needs no restart."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Final

from forebay.gateway.admin import InvalidSettings, Reloaded
from forebay.settings.loading import ConfigurationError, Effective, Loaded, load
from forebay.settings.sections import FIXED_SECTIONS, Settings

RESTART: Final = "needs a restart"

Apply = Callable[[Settings], None]
"""Hands new settings to whatever works by them; must not fail."""


class LiveSettings:
    """The settings in force."""

    def __init__(self, settings: Settings, loaded: Loaded | None = None) -> None:
        """Begin with `settings`; `loaded` says where they came from, if they may be read again."""
        # The whole mutable state: what is in force, and the values last taken of each key.
        self._current = settings
        self._loaded = loaded
        self._effective = _by_key(loaded)

    @property
    def current(self) -> Settings:
        """What is in force now."""
        return self._current

    def begin(self, settings: Settings) -> None:
        """Put in force what the start made of the settings: a port that was free, an engine."""
        self._current = settings

    def read(self) -> Loaded | None:
        """Read all sources again, which may take a while; raises InvalidSettings."""
        if self._loaded is None:
            return None
        try:
            return load(self._loaded.sources)
        except ConfigurationError as error:
            count = len(error.problems)
            head = "A setting is wrong" if count == 1 else f"{count} settings are wrong"
            found = " ".join(f"{_place(each.set_by)}: {each.text}" for each in error.problems)
            raise InvalidSettings(f"{head}; nothing was changed. {found}") from error

    def take(self, found: Loaded | None, apply: Apply) -> Reloaded:
        """Take over what changed and is live, and name the rest."""
        if found is None:
            return Reloaded()
        changed = {
            key: new
            for key, new in _by_key(found).items()
            if key not in self._effective or self._effective[key].value != new.value
        }
        applied = {key: new for key, new in changed.items() if _is_live(new)}
        refused = {key: RESTART for key in changed if key not in applied}
        # A model or a route that is not named any more takes all its settings with it.
        refused |= dict.fromkeys(self._effective.keys() - _by_key(found).keys(), RESTART)
        if applied:
            self._current = _with(self._current, applied)
            self._effective |= applied
            apply(self._current)
        shown = {key: new.shown for key, new in applied.items()}
        return Reloaded(applied=shown, refused=refused)


def _is_live(effective: Effective) -> bool:
    return effective.setting.knob.live


def _with(settings: Settings, applied: Mapping[str, Effective]) -> Settings:
    for key, new in applied.items():
        section, _, name = key.partition(".")
        assert section in FIXED_SECTIONS, f"{key} is not a setting that the gateway works by"
        config = dataclasses.replace(getattr(settings, section), **{name: new.value})
        settings = dataclasses.replace(settings, **{section: config})
    return settings


def _by_key(loaded: Loaded | None) -> dict[str, Effective]:
    return {} if loaded is None else {each.setting.key: each for each in loaded.effective}


def _place(set_by: str) -> str:
    """Name where a value was set, without the folder: a client may read this."""
    return PurePath(set_by).name
