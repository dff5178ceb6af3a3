"""An Alertmanager of our own, with our configuration on a faster clock and sinks for receivers."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml

from forebay.bench.client import Target
from forebay.drill.daemon import Daemon, daemon, present
from forebay.drill.findings import DrillFailed
from forebay.drill.server import page
from forebay.drill.sinks import Channel, Sinks
from forebay.monitoring.alert import duration, seconds

_PACKAGE: Final = "prometheus-alertmanager"
_INTERVALS: Final = frozenset({"group_wait", "group_interval", "repeat_interval"})
_INTERVAL_S_MIN: Final = 0.2
_CHANNELS: Final = {
    "email_configs": Channel.MAIL,
    "slack_configs": Channel.SLACK,
    "pagerduty_configs": Channel.PAGERDUTY,
    "webhook_configs": Channel.WEBHOOK,
}
_TOOL_S_MAX: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alertmanager:
    """One that runs."""

    daemon: Daemon
    config: Path

    def channels(self, labels: Mapping[str, str]) -> frozenset[Channel]:
        """Return how those are told to whom an alert with these labels goes, as amtool says."""
        words = [f"{name}={value}" for name, value in labels.items()]
        command = [present("amtool", _PACKAGE), "config", "routes", "test"]
        done = subprocess.run(  # noqa: S603 - the words are ours
            [*command, f"--config.file={self.config}", *words],
            capture_output=True,
            text=True,
            timeout=_TOOL_S_MAX,
            check=False,
        )
        if done.returncode:
            raise DrillFailed(f"amtool: {done.stderr}")
        names = {line.strip() for line in done.stdout.replace(",", "\n").splitlines()}
        receivers = yaml.safe_load(self.config.read_text(encoding="utf-8"))["receivers"]
        return frozenset(
            _CHANNELS[kind]
            for receiver in receivers
            if receiver["name"] in names
            for kind in receiver
            if kind in _CHANNELS
        )

    def inhibited(self) -> frozenset[str]:
        """Return the names of the alerts of which nobody is told, because of another one."""
        status, text = page(self.daemon.target, "/api/v2/alerts")
        listed = json.loads(text) if status == HTTPStatus.OK else []
        return frozenset(
            each["labels"]["alertname"] for each in listed if each["status"]["inhibitedBy"]
        )


@contextlib.contextmanager
def running_alertmanager(
    config: Mapping[str, Any], folder: Path, *, port: int
) -> Iterator[Alertmanager]:
    """Run an Alertmanager until the body ends; Skipped where there is none."""
    program = present("prometheus-alertmanager", _PACKAGE)
    file = folder / "alertmanager.yml"
    file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    command = [program, f"--config.file={file}", f"--storage.path={folder / 'alertmanager'}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="]
    target = Target(host="127.0.0.1", port=port)
    log = folder / "alertmanager.log.txt"
    with daemon(command, target=target, log=log, ready="/-/ready") as found:
        yield Alertmanager(daemon=found, config=file)


def at_hand(config: str, *, speed: float, sinks: Sinks, folder: Path) -> dict[str, Any]:
    """Return a configuration that delivers to `sinks`, `speed` times as fast.

    Routes, receivers, texts and inhibitions stay as they are; where they deliver and what the
    secrets in files are is what has to change.
    """
    web = f"http://127.0.0.1:{sinks.web_port}"
    found: dict[str, Any] = _changed(yaml.safe_load(config), speed=speed, web=web, folder=folder)
    found["global"] = {
        **found.get("global", {}),
        "smtp_smarthost": f"127.0.0.1:{sinks.mail_port}",
        "smtp_require_tls": False,
        "pagerduty_url": f"{web}/{Channel.PAGERDUTY}",
    }
    return found


def _changed(value: Any, *, speed: float, web: str, folder: Path) -> Any:  # noqa: ANN401 - YAML
    if isinstance(value, list):
        return [_changed(each, speed=speed, web=web, folder=folder) for each in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, each in value.items():
        if key in _INTERVALS:
            found[key] = duration(max(seconds(each) / speed, _INTERVAL_S_MIN))
        elif key.endswith("_file"):
            found[key] = _secret(key, folder, web=web)
        elif key == "webhook_configs":
            found[key] = [{**hook, "url": f"{web}/{Channel.WEBHOOK}"} for hook in each]
        else:
            found[key] = _changed(each, speed=speed, web=web, folder=folder)
    return found


def _secret(key: str, folder: Path, *, web: str) -> str:
    """Write what a secret's file holds here, and return where it lies."""
    file = folder / f"{key}.txt"
    text = f"{web}/{Channel.SLACK}" if "url" in key else "of-this-drill-alone"
    file.write_text(text, encoding="utf-8")
    return str(file)
