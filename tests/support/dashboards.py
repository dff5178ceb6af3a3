"""The dashboards as they are committed: what a Grafana would ask Prometheus."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "deploy/monitoring"
PAGES = ("llm", "resources", "alerting", "tenants")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_WORDS = {"and", "or", "unless", "by", "on", "ignoring", "without", "offset", "bool"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One query of one panel."""

    panel: str
    """`<uid>/<title>`, as alerts name it."""
    letter: str
    expr: str

    def filled(self, window: str) -> str:
        """Return it as Grafana sends it, when everything is chosen."""
        expr = self.expr.replace("$__rate_interval", window)
        return expr.replace("$model", ".*").replace("$instance", ".*")

    @property
    def names(self) -> set[str]:
        """The names of the series that it reads."""
        text = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", self.filled("5m"))
        text = re.sub(r"\b(by|on|ignoring|without)\s*\([^)]*\)", " ", text)
        text = re.sub(r"\b\d[\d.a-z]*", " ", text)
        text = re.sub(r"[a-zA-Z_]\w*\s*\(", " (", text)  # functions
        return {name for name in _NAME.findall(text) if name not in _WORDS}


def page(uid: str) -> dict[str, Any]:
    """Return a committed dashboard."""
    found: dict[str, Any] = json.loads((FOLDER / f"grafana/dashboards/{uid}.json").read_text())
    return found


def panels(uid: str) -> list[dict[str, Any]]:
    """Return the panels of a dashboard, without its rows."""
    return [each for each in page(uid)["panels"] if each["type"] != "row"]


def asked() -> Iterator[Asked]:
    """Yield every query of every dashboard."""
    for uid in PAGES:
        for panel in panels(uid):
            for target in panel.get("targets", ()):
                yield Asked(f"{uid}/{panel['title']}", target["refId"], target["expr"])
