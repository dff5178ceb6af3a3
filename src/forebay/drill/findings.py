"""What a drill found: gates passed or failed, and the figures behind them."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, assert_never


class Bound(enum.StrEnum):
    """On which side of the required figure the measured one has to be."""

    AT_MOST = "≤"
    AT_LEAST = "≥"
    EXACTLY = "="


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One promise as a number."""

    what: str
    required: float
    measured: float | None
    """None where it could not be measured, which is a failure."""
    bound: Bound = Bound.AT_MOST
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the promise was kept."""
        if self.measured is None:
            return False
        match self.bound:
            case Bound.AT_MOST:
                return self.measured <= self.required
            case Bound.AT_LEAST:
                return self.measured >= self.required
            case Bound.EXACTLY:
                return self.measured == self.required
            case _:
                assert_never(self.bound)


def at_most(what: str, measured: float | None, required: float, unit: str = "") -> Gate:  # noqa: PLR0917 - reads as a sentence
    """Return a gate: `measured` is no more than `required`."""
    return Gate(what=what, measured=measured, required=required, unit=unit)


def at_least(what: str, measured: float | None, required: float, unit: str = "") -> Gate:  # noqa: PLR0917 - as above
    """Return a gate: `measured` is no less than `required`."""
    return Gate(what=what, measured=measured, required=required, unit=unit, bound=Bound.AT_LEAST)


def exactly(what: str, measured: float | None, required: float, unit: str = "") -> Gate:  # noqa: PLR0917 - as above
    """Return a gate: `measured` is `required`."""
    return Gate(what=what, measured=measured, required=required, unit=unit, bound=Bound.EXACTLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a drill returns."""

    gates: tuple[Gate, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Raw percentiles and counts, as JSON has them."""
    tables: tuple[str, ...] = ()
    """Markdown tables that stand beside the gates, such as a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A fault that was made, and undone; seconds from the drill's beginning."""

    fault: str
    at_s: float
    undone_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One drill on one engine."""

    drill: str
    engine: str
    took_s: float
    quick: bool
    findings: Findings | None = None
    faults: tuple[Broken, ...] = ()
    skipped: str = ""
    """Why it was not run here."""
    failed: str = ""
    """What kept it from being measured, which is a failure."""
    said: Mapping[str, int] = field(default_factory=dict)
    """What its servers logged as warnings and errors, counted."""

    @property
    def passed(self) -> bool:
        """Whether every gate was passed, or it was not run at all."""
        if self.findings is None:
            return bool(self.skipped)
        return all(gate.passed for gate in self.findings.gates)


class Skipped(Exception):
    """This machine lacks what a drill needs; the text names it."""


class DrillFailed(Exception):
    """A drill could not be measured: the server did not start, or did not come back."""
