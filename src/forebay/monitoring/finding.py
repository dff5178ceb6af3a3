"""What a check of the monitoring found: one line each, with the fix where something is missing."""

import enum
from dataclasses import dataclass


class Link(enum.StrEnum):
    """A link of the chain from a request to the person who is told."""

    SERVER = "server"
    METRICS = "metrics"
    REQUEST = "request"
    PROMETHEUS = "prometheus"
    RULES = "rules"
    ALERTMANAGER = "alertmanager"
    GRAFANA = "grafana"
    SEARCH = "search"
    TRACES = "traces"


class State(enum.StrEnum):
    """How a link is."""

    OK = "ok"
    MISSING = "missing"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line."""

    link: Link
    state: State
    what: str
    fix: str = ""
    """What to do, exactly; empty where nothing is missing."""


@dataclass(frozen=True, slots=True)
class Report:
    """Makes the lines of one link."""

    link: Link

    def ok(self, what: str) -> Finding:
        """Say what is there."""
        return Finding(link=self.link, state=State.OK, what=what)

    def missing(self, what: str, fix: str) -> Finding:
        """Say what is not there, and how it comes."""
        return Finding(link=self.link, state=State.MISSING, what=what, fix=fix)

    def not_asked(self, what: str, fix: str) -> Finding:
        """Say what nobody looked at, and how it would be."""
        return Finding(link=self.link, state=State.NOT_ASKED, what=what, fix=fix)
