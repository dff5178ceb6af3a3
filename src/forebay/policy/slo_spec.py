"""Reads a specification of objectives from plain data: everything named, in bounds, and possible.

What is wrong is said with the key and the fix.  Nothing is guessed: a misspelt key would be an
objective that nobody watches.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from forebay.core.request import Priority
from forebay.policy.slo import TIMED, Burn, Goal, Measure, Spec

ALERTS: Final = ("ErrorBudgetBurnFast", "ErrorBudgetBurn", "ErrorBudgetBurnSlow")
"""The alerts on burn rates; each has its runbook."""
GOALS_MAX: Final = 20
"""Each has a dozen recorded series."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SERVICE: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,3})([mhd])")
_UNIT_S: Final = {"m": 60, "h": 3_600, "d": 86_400}
_WINDOW_S_MAX: Final = 90 * 86_400
_AT_MOST_S_MAX: Final = 3_600.0
_RATE_MAX: Final = 1_000.0
_TEXT_MAX: Final = 200
_CLASSES: Final = {priority.name.lower(): priority for priority in Priority}
_SEVERITIES: Final = ("page", "ticket")


class SpecError(ValueError):
    """The specification is wrong: at `key`, with what to do."""

    def __init__(self, key: str, text: str) -> None:
        """Take the path of the key, as in `objectives.ttft.goal`, and the fix."""
        super().__init__(f"{key}: {text}")
        self.key = key
        self.text = text


def spec_of(data: object) -> Spec:
    """Return the specification, or raise SpecError."""
    whole = _Section("", data)
    whole.only(("service", "window", "objectives", "alerts"))
    window_s = whole.duration("window")
    goals, alerts = whole.section("objectives"), whole.section("alerts")
    if not goals.names or len(goals.names) > GOALS_MAX:
        goals.wrong("", f"Name 1 to {GOALS_MAX} objectives.")
    alerts.only(ALERTS)
    spec = Spec(
        service=whole.text("service", _SERVICE, "lower-case letters, digits and dashes"),
        window_s=window_s,
        goals=tuple(_goal(name, goals) for name in goals.names),
        burns=tuple(_burn(name, alerts, window_s) for name in ALERTS),
    )
    _check_reach(spec)
    return spec


class _Section:
    """A mapping of the document, and the way to it."""

    def __init__(self, path: str, data: object) -> None:
        self._path = path
        if not isinstance(data, Mapping) or not all(isinstance(key, str) for key in data):
            raise SpecError(path or "the file", "This must be keys with values.")
        self._data: Mapping[str, Any] = data

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._data)

    def key(self, name: str) -> str:
        return ".".join(part for part in (self._path, name) if part)

    def wrong(self, name: str, text: str) -> NoReturn:
        raise SpecError(self.key(name), text)

    def only(self, known: Iterable[str]) -> None:
        known = tuple(known)
        for name in self._data:
            if name not in known:
                self.wrong(name[:_TEXT_MAX], f"No such key. There are: {', '.join(known)}.")

    def section(self, name: str) -> "_Section":
        return _Section(self.key(name), self._need(name))

    def text(self, name: str, form: re.Pattern[str], allowed: str) -> str:
        value = self._need(name)
        if not isinstance(value, str) or not form.fullmatch(value):
            self.wrong(name, f"Write {allowed}.")
        return value

    def choice(self, name: str, choices: Iterable[str]) -> str:
        value, choices = self._need(name), tuple(choices)
        if value not in choices:
            self.wrong(name, f"Write one of {', '.join(choices)}.")
        return str(value)

    def duration(self, name: str) -> int:
        value = self._need(name)
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0
        if not 0 < seconds <= _WINDOW_S_MAX:
            self.wrong(name, "Write a duration of up to 90d, as in 30m, 6h, 3d.")
        return seconds

    def number(self, name: str, low: float, high: float) -> float:
        """Return a number above `low`, below or at `high`."""
        value = self._need(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
            self.wrong(name, f"Write a number above {low:g}, up to {high:g}.")
        return float(value)

    def has(self, name: str) -> bool:
        return name in self._data

    def _need(self, name: str) -> Any:  # noqa: ANN401 - a document holds what it holds
        if name not in self._data:
            self.wrong(name, "It is missing; slo.yaml of the package shows one.")
        return self._data[name]


def _goal(name: str, goals: _Section) -> Goal:
    if not _NAME.fullmatch(name):
        goals.wrong(name[:_TEXT_MAX], "Write lower-case letters, digits and _, 40 at most.")
    own = goals.section(name)
    own.only(("measure", "class", "at_most_s", "goal", "description"))
    measure = Measure(own.choice("measure", list(Measure)))
    if measure not in TIMED and own.has("at_most_s"):
        own.wrong("at_most_s", f"Remove it: {measure} has no threshold.")
    share = own.number("goal", 0.0, 1.0)
    if share >= 1.0:
        own.wrong("goal", "Write less than 1: with no budget every failure is an alert.")
    return Goal(
        name=name,
        measure=measure,
        goal=share,
        priority=_CLASSES[own.choice("class", _CLASSES)] if own.has("class") else None,
        at_most_s=own.number("at_most_s", 0.0, _AT_MOST_S_MAX) if measure in TIMED else None,
        description=own.text("description", _LINE, _ONE_LINE) if own.has("description") else "",
    )


_LINE: Final = re.compile(rf"[^\r\n{{}}`|]{{1,{_TEXT_MAX}}}")
"""No braces: Prometheus would take them for a template."""
_ONE_LINE: Final = f"one line of up to {_TEXT_MAX} characters, without braces, bars and backticks"


def _burn(name: str, alerts: _Section, window_s: int) -> Burn:
    own = alerts.section(name)
    own.only(("severity", "rate", "long", "short"))
    burn = Burn(
        alert=name,
        severity=own.choice("severity", _SEVERITIES),
        rate=own.number("rate", 0.0, _RATE_MAX),
        long_s=own.duration("long"),
        short_s=own.duration("short"),
    )
    if not burn.short_s < burn.long_s <= window_s:
        own.wrong("long", "Write a duration longer than short, and no longer than window.")
    return burn


def _check_reach(spec: Spec) -> None:
    """Refuse a goal so low that an alert on it could never fire."""
    for goal in spec.goals:
        for burn in spec.burns:
            if burn.rate * goal.budget >= 1.0:
                least = 1.0 - 1.0 / burn.rate
                raise SpecError(
                    f"objectives.{goal.name}.goal",
                    f"At {goal.goal:g} {burn.alert} could never fire, though all failed. Write"
                    f" more than {least:.3f}, or a lower alerts.{burn.alert}.rate.",
                )
