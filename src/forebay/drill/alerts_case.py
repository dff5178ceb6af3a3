"""What a case of the drill of alerts is, and what was seen of it."""

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from forebay.drill.alerts_callers import Wish, ordinary

if TYPE_CHECKING:
    from forebay.drill.alerts_scene import Scene

Fault = Callable[["Scene"], AbstractAsyncContextManager[None]]
"""Breaks something of a scene when it is entered, and undoes that when it is left."""


def _nothing(_pid: int) -> None:
    """Leave the server where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the server of a case is started, who calls it, and what is then broken."""

    fault: Fault
    settings: tuple[str, ...] = ()
    """KEY=VALUE each."""
    environment: Mapping[str, str] = field(default_factory=dict)
    module: str = "forebay.cli.main"
    on_start: Callable[[int], None] = _nothing
    """Told the process of the server each time it starts."""
    wish: Wish = ordinary
    pace_s: float = 0.1
    key: str = ""
    """An API key, in closed mode."""
    ca_file: Path | None = None
    """With TLS: whose certificates to trust."""
    before_s: float = 3.0
    """How long all is well before the fault, from the first scrape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault, and the alerts that it is for."""

    name: str
    alerts: tuple[str, ...]
    """Fire, are delivered, and clear."""
    injected: str
    """The fault in words."""
    plan: Callable[[Path], AbstractContextManager[Plan]]
    """Prepares what the case needs below a folder, and puts it away."""
    companions: frozenset[str] = frozenset()
    """Others that may fire: they say the same of the same fault."""
    muted: frozenset[str] = frozenset()
    """Others that fire as well, and of which nobody is told while the first alert fires."""
    speed: float = 60.0
    """How much faster than ours the clock of the rules is."""
    fires_s_max: float = 90.0
    """From the fault to the last of its deliveries."""
    clears_s_max: float = 150.0
    """From its undoing to the last message that it is over."""


@dataclass(slots=True, kw_only=True)
class Row:
    """What was seen of one alert.  Seconds from the fault, or from its undoing."""

    alert: str
    severity: str
    case: str
    injected: str
    speed: float
    pending_s: float | None = None
    fired_s: float | None = None
    told_s: dict[str, float | None] = field(default_factory=dict)
    """By channel: when the first message came; None: it never did."""
    cleared_s: float | None = None
    over_s: dict[str, float | None] = field(default_factory=dict)
    """By channel: when the message came that it is over."""

    @property
    def all_told_s(self) -> float | None:
        """When the last channel had told of it; None if one never did, or if there is none."""
        return _last(self.told_s)

    @property
    def all_over_s(self) -> float | None:
        """When the last channel had told that it is over."""
        return _last(self.over_s)

    def as_data(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one case."""

    case: Case
    rows: tuple[Row, ...]
    before: tuple[str, ...] = ()
    """What fired before anything was broken: false alarms."""
    strangers: Mapping[str, str] = field(default_factory=dict)
    """What fired besides the case's own alerts and companions, with its severity."""
    companions: frozenset[str] = frozenset()
    """Of the case's companions, those that did fire."""
    unmuted: tuple[str, ...] = ()
    """What should have been inhibited, and was not."""
    callers: Mapping[int, int] = field(default_factory=dict)
    """What the callers were answered: status, and how often."""
    failed: str = ""
    """Why it could not be played."""
    skipped: str = ""
    """What this machine lacks."""


def _last(moments: Mapping[str, float | None]) -> float | None:
    known = [moment for moment in moments.values() if moment is not None]
    return max(known) if known and len(known) == len(moments) else None
