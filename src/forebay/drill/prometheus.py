"""A Prometheus of our own, with our configuration and our rules, on a faster clock."""

import contextlib
import enum
import json
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import yaml

from forebay.bench.client import Target
from forebay.bench.processes import free_port
from forebay.drill.daemon import Daemon, daemon, present
from forebay.drill.findings import DrillFailed
from forebay.drill.server import page
from forebay.monitoring.alert import duration
from forebay.monitoring.prometheus import prometheus

SCRAPE_S: Final = 1.0
"""Prometheus's own tests go as fast; below it, a scrape of a busy machine comes late."""
_JOB: Final = "forebay"
_RULES: Final = "rules/forebay.yml"
_LOADED_S_MAX: Final = 10.0
_NAP_S: Final = 0.05
_RESEND_S: Final = 60.0
"""Prometheus's default."""


class State(enum.StrEnum):
    """How far an alert is, in Prometheus's own words; `cleared` is ours: it is listed no more."""

    PENDING = "pending"
    FIRING = "firing"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One alert that Prometheus lists now."""

    name: str
    state: State
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What Prometheus is to watch, and by which rules."""

    folder: Path
    server: Target
    alertmanager: Target
    speed: float
    """How much faster than ours the clock of the rules is."""
    ca_file: Path | None = None
    """Whose certificates to trust; None scrapes without TLS."""
    key: str = ""
    """An API key to show, in closed mode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """One that runs."""

    daemon: Daemon
    folder: Path

    def load(self, rules: str) -> None:
        """Take these rules (YAML); it starts without any.

        Before its first scrape no server is there, and a rule on a fast clock would say so.
        """
        (self.folder / _RULES).write_text(rules, encoding="utf-8")
        self.daemon.process.send_signal(signal.SIGHUP)
        limit = time.monotonic() + _LOADED_S_MAX
        while not (self._ask("/api/v1/rules") or {}).get("groups"):
            if time.monotonic() > limit:
                raise DrillFailed("Prometheus does not take the rules.")
            time.sleep(_NAP_S)

    def listed(self) -> list[Listed] | None:
        """Return the alerts that it lists, or None where it does not answer."""
        found = self._ask("/api/v1/alerts")
        if found is None:
            return None
        return [
            Listed(
                name=each["labels"]["alertname"], state=State(each["state"]), labels=each["labels"]
            )
            for each in found["alerts"]
        ]

    def value(self, query: str) -> float | None:
        """Return a query's first value now, or None where it has none."""
        found = self._ask(f"/api/v1/query?query={quote(query)}")
        results = found["result"] if found else []
        return float(results[0]["value"][1]) if results else None

    def _ask(self, path: str) -> Any:  # noqa: ANN401 - JSON is what it is
        status, text = page(self.daemon.target, path)
        return json.loads(text)["data"] if status == HTTPStatus.OK else None


@contextlib.contextmanager
def running_prometheus(watched: Watched, *, port: int = 0) -> Iterator[Prometheus]:
    """Run a Prometheus until the body ends; Skipped where there is none."""
    program = present("prometheus", "prometheus")
    folder, port = watched.folder, port or free_port()
    (folder / _RULES).parent.mkdir()
    (folder / _RULES).write_text("groups: []", encoding="utf-8")
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(at_hand(watched)), encoding="utf-8")
    command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    # An Alertmanager forgets an alert that was not said again for four times as long.
    command += [f"--rules.alert.resend-delay={duration(_RESEND_S / watched.speed)}"]
    target = Target(host="127.0.0.1", port=port)
    log = folder / "prometheus.log.txt"
    with daemon(command, target=target, log=log, ready="/-/ready") as found:
        yield Prometheus(daemon=found, folder=folder)


def at_hand(watched: Watched) -> dict[str, Any]:
    """Return our configuration, with those in it that are at hand, looked at each second.

    Where the servers are and what is commented out is theirs to set who run it; so it is here.
    """
    found: dict[str, Any] = yaml.safe_load(prometheus())
    found["global"] = dict.fromkeys(found["global"], f"{SCRAPE_S:g}s")
    (scrape,) = (each for each in found["scrape_configs"] if each["job_name"] == _JOB)
    scrape["static_configs"] = [{"targets": [_address(watched.server)]}]
    if watched.ca_file is not None:
        scrape |= {"scheme": "https", "tls_config": {"ca_file": str(watched.ca_file)}}
    if watched.key:
        key = watched.folder / "key"
        key.write_text(watched.key, encoding="utf-8")
        scrape["authorization"] = {"credentials_file": str(key)}
    found["scrape_configs"] = [scrape]
    (manager,) = found["alerting"]["alertmanagers"]
    manager["static_configs"] = [{"targets": [_address(watched.alertmanager)]}]
    return found


def _address(target: Target) -> str:
    return f"{target.host}:{target.port}"
