"""What an alert is: a question to Prometheus, how long it must hold, and what to do then."""

import enum
import re
from dataclasses import dataclass
from typing import Final

_WINDOW: Final = re.compile(r"\$(\{?)(\d+)([smhd])\}?")
_PART: Final = re.compile(r"(\d+)(ms|[smhdw])")
_UNIT_S: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

PAGES: Final = "https://github.com/forebay/forebay/blob/main/docs"
"""Where messages send people who have no copy of docs/ at hand."""


class Severity(enum.StrEnum):
    """Who is told, and how soon."""

    PAGE = "page"
    """Somebody is woken."""
    TICKET = "ticket"
    """Somebody looks at it on a working day."""
    NONE = "none"
    """Nobody: it is the dead man's switch, whose absence is the alarm."""


class Area(enum.StrEnum):
    """What part of the service an alert speaks of; inhibitions go by it."""

    AVAILABILITY = "availability"
    LATENCY = "latency"
    MODEL = "model"
    MACHINE = "machine"
    ACCOUNTS = "accounts"
    TELEMETRY = "telemetry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; its runbook is `docs/runbooks/<name>.md`."""

    name: str
    expr: str
    """PromQL; a window is written `$5m`, so that a drill can run the rule on a faster clock.

    Its number of seconds is written `${5m}`.
    """
    hold_s: float
    """How long `expr` must hold before it fires (`for`)."""
    keep_s: float = 0.0
    """How long it goes on firing after `expr` no longer holds (`keep_firing_for`)."""
    severity: Severity
    area: Area
    summary: str
    """One line; `{{ $labels.model }}` and its like are filled in by Prometheus."""
    description: str
    """What was measured (`{{ $value }}`), and what it means to users."""
    panel: str
    """The dashboard's panel that shows it: `llm/Time to first token`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """Where alerts send their readers."""

    runbooks: str = f"{PAGES}/runbooks"
    grafana: str = "http://localhost:3000"

    def runbook(self, alert: Alert) -> str:
        """Return the address of an alert's runbook."""
        return f"{self.runbooks.rstrip('/')}/{alert.name}.md"

    def dashboard(self, alert: Alert) -> str:
        """Return the address of the dashboard with an alert's panel."""
        return f"{self.grafana.rstrip('/')}/d/{alert.panel.partition('/')[0]}"


def windowed(expr: str, *, speed: float = 1.0) -> str:
    """Return a query with its windows spelled out, divided by `speed`.

    At any other speed than 1 windows are at least 4 s: a rate needs two scrapes.
    """

    def spell(match: re.Match[str]) -> str:
        number, count, unit = match.groups()
        length_s = int(count) * _UNIT_S[unit]
        if number:
            return f"{length_s / speed:g}"
        return count + unit if speed == 1.0 else duration(max(length_s / speed, 4.0))

    return _WINDOW.sub(spell, expr)


def duration(length_s: float) -> str:
    """Return a duration as Prometheus writes it: `90s` is `1m30s`, a tenth of a second `100ms`."""
    left_ms = round(length_s * 1000)
    parts = []
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        count, left_ms = divmod(left_ms, size_ms)
        if count:
            parts.append(f"{count}{unit}")
    if left_ms:
        parts.append(f"{left_ms}ms")
    return "".join(parts) or "0s"


def seconds(words: str) -> float:
    """Return the seconds of a duration as Prometheus writes it: `1h30m`."""
    return sum(int(count) * _UNIT_S[unit] for count, unit in _PART.findall(words))
