"""A server that is watched: closed mode, TLS, Redis, a Prometheus with our rules, an Alertmanager.

One of each, real, on ports of their own; what they are started with is what the documents say.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from forebay.bench.client import Target
from forebay.drill import alertmanager, prometheus, redis_server
from forebay.drill.sinks import Sinks, listening
from forebay.monitoring.alert import Links
from forebay.monitoring.alertmanager import alertmanager as alertmanager_config
from forebay.monitoring.rules import rules
from forebay.serve.slo_file import built_in
from tests.support.certificates import Authority
from tests.support.server import Server, free_port, serving

PROGRAMS: Final = {
    "amtool": "prometheus-alertmanager",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "promtool": "prometheus",
    "redis-server": "redis-server",
}
"""Program -> its Debian package."""
_ABSENT: Final = sorted({package for name, package in PROGRAMS.items() if not shutil.which(name)})
needs_programs = pytest.mark.skipif(bool(_ABSENT), reason=f"not installed: {', '.join(_ABSENT)}")
SPEED: Final = 60.0
"""How much faster than ours Alertmanager groups; the rules' own windows stay as they are."""
Change = Callable[[dict[str, Any]], None]
"""Changes what a file of YAML holds."""
CHAT: Final = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """Where each of them is, and what commands need to reach them."""

    folder: Path
    server: Server
    authority: Path
    """The certificate by which the server's is trusted."""
    key: str
    """An operator's."""
    prometheus: prometheus.Prometheus
    alertmanager: alertmanager.Alertmanager
    sinks: Sinks
    environment: Mapping[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        """Where the server answers."""
        return f"https://127.0.0.1:{self.server.port}"

    @property
    def prometheus_url(self) -> str:
        """Where Prometheus answers."""
        return _address(self.prometheus.daemon.target)

    @property
    def alertmanager_url(self) -> str:
        """Where Alertmanager answers."""
        return _address(self.alertmanager.daemon.target)

    def chat(self) -> None:
        """Have one request answered."""
        body = {"messages": [{"role": "user", "content": "one two three"}], "max_tokens": 3}
        asked = urllib.request.Request(self.url + CHAT, data=json.dumps(body).encode())
        asked.add_header("content-type", "application/json")
        asked.add_header("authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(asked, timeout=10, context=_trust(self.authority)) as answer:
            assert answer.status == 200

    def run(self, command: str, **more: str) -> tuple[int, str]:
        """Run a command line as an operator would; return its status, and all that it printed."""
        done = subprocess.run(
            ["bash", "-uc", command],
            env={**self.environment, **more},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout

    def warm_up(self) -> None:
        """Have requests answered between scrapes, so that there are rates of everything."""
        self.until("process_start_time_seconds")
        for _ in range(3):
            self.chat()
        for query in (
            'sum(rate(llm_requests_total{outcome="ok"}[5m])) > 0',
            'ALERTS{alertname="DeadMansSwitch"}',
            "slo:budget_left:ratio",
            "slo:burn:rate5m",
            "forebay_disk_free_bytes",
            "sum(rate(forebay_telemetry_sent_total[5m])) > 0",
        ):
            self.until(query)
        self.until_told("DeadMansSwitch")

    def until_told(self, alert: str, wait_s_max: float = 20.0) -> None:
        """Wait until Alertmanager has an alert."""
        limit = time.monotonic() + wait_s_max
        while alert not in _text(f"{self.alertmanager_url}/api/v2/alerts"):
            assert time.monotonic() < limit, f"no {alert} in {wait_s_max} s"
            time.sleep(0.1)

    @contextlib.contextmanager
    def prometheus_with(self, change: Change, file: str = "prometheus.yml") -> Iterator[None]:
        """Change a file of Prometheus's for as long as the body lasts."""
        with _changed(self.folder / file, change, self._reload_prometheus):
            yield

    @contextlib.contextmanager
    def alertmanager_with(self, change: Change) -> Iterator[None]:
        """Change Alertmanager's configuration for as long as the body lasts."""
        with _changed(self.alertmanager.config, change, self._reload_alertmanager):
            yield

    def _reload_prometheus(self) -> None:
        self.prometheus.daemon.process.send_signal(signal.SIGHUP)

    def _reload_alertmanager(self) -> None:
        request = urllib.request.Request(f"{self.alertmanager_url}/-/reload", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200

    def until(self, query: str, wait_s_max: float = 20.0) -> None:
        """Wait until Prometheus has an answer to a query."""
        limit = time.monotonic() + wait_s_max
        while self.prometheus.value(query) is None:
            assert time.monotonic() < limit, f"no {query} in {wait_s_max} s"
            time.sleep(0.1)


@contextlib.contextmanager
def watched(folder: Path, log: Path | None = None) -> Iterator[Watched]:
    """Run all of them until the body ends; the log goes to a file of the folder, or to `log`."""
    authority = Authority()
    issued = authority.issue(folder, "server", days=(-1.0, 29.0))
    trusted = folder / "authority.pem"
    trusted.write_bytes(authority.pem)
    with redis_server.running_redis() as redis, _delivering() as sinks:
        settings = {
            "access": {"mode": "closed"},
            "engine": {"name": "scripted"},
            "log": {"format": "json", "destination": str(log or folder / "forebay.log")},
            "metrics": {"sample_s": 0.5},
            "server": {"tls_certificate": str(issued.certificate), "tls_key": str(issued.key)},
            "store": {"url": redis.url, "timeout_s": 1.0},
        }
        file = folder / "forebay.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        own = {"FOREBAY_CONFIG": str(file), "XDG_STATE_HOME": str(folder)}
        with serving(folder, ready=False, environment=own) as server:
            _until_ready(server, trusted)
            yield from _observed(folder, server, trusted, own | {"STORE_URL": redis.url}, sinks)


def _observed(
    folder: Path, server: Server, trusted: Path, own: Mapping[str, str], sinks: Sinks
) -> Iterator[Watched]:
    key = _key(own, "ops", "operator")
    config = alertmanager.at_hand(
        alertmanager_config(built_in()), speed=SPEED, sinks=sinks, folder=folder
    )
    with alertmanager.running_alertmanager(config, folder, port=free_port()) as telling:
        readers = _key(own, "prometheus", "metrics-reader")
        observed = prometheus.Watched(
            folder=folder,
            server=Target(host="127.0.0.1", port=server.port),
            alertmanager=telling.daemon.target,
            speed=SPEED,
            ca_file=trusted,
            key=readers,
        )
        with prometheus.running_prometheus(observed) as watching:
            watching.load(quick(rules(built_in(), links=Links())))
            known = {
                "FOREBAY": f"https://127.0.0.1:{server.port}",
                "FOREBAY_KEY": key,
                "PROMETHEUS": _address(watching.daemon.target),
                "ALERTMANAGER": _address(telling.daemon.target),
                "SERVER_LOG": str(folder / "forebay.log"),
                "SERVER_PID": str(server.process.pid),
                "TLS_CERTIFICATE": str(folder / "server.pem"),
                "CURL_CA_BUNDLE": str(trusted),
                "SSL_CERT_FILE": str(trusted),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "HOME": str(folder),
                "USER": "somebody",
            }
            yield Watched(
                folder=folder,
                server=server,
                authority=trusted,
                key=key,
                prometheus=watching,
                alertmanager=telling,
                sinks=sinks,
                environment={**own, **known},
            )


@contextlib.contextmanager
def _changed(file: Path, change: Change, reload: Callable[[], None]) -> Iterator[None]:
    before = file.read_text(encoding="utf-8")
    found = yaml.safe_load(before)
    change(found)
    try:
        file.write_text(yaml.safe_dump(found), encoding="utf-8")
        reload()
        yield
    finally:
        file.write_text(before, encoding="utf-8")
        reload()


def quick(text: str) -> str:
    """Return rules that are looked at each second; their queries stay as they are."""
    return re.sub(r"^( +interval:) .*$", r"\1 1s", text, flags=re.MULTILINE)


@contextlib.contextmanager
def _delivering() -> Iterator[Sinks]:
    """Keep what is delivered, by an event loop in a thread of its own."""
    started: list[Sinks] = []
    loop, up = asyncio.new_event_loop(), threading.Event()
    over = asyncio.Event()

    async def listen() -> None:
        async with listening() as sinks:
            started.append(sinks)
            up.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(listen(),))
    thread.start()
    try:
        assert up.wait(10)
        yield started[0]
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(10)
        loop.close()


def _key(own: Mapping[str, str], user: str, role: str) -> str:
    """Make a user with a key, by the commands that docs/monitoring.md shows."""
    _forebay(own, *f"users create {user} --role {role}".split())
    made = _forebay(own, *f"keys create --user {user}".split(), "--json")
    return str(json.loads(made)["key"])


def _forebay(own: Mapping[str, str], *words: str) -> str:
    command = [sys.executable, "-m", "forebay", *words]
    done = subprocess.run(
        command, env={**os.environ, **own}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _until_ready(server: Server, trusted: Path) -> None:
    limit, context = time.monotonic() + 60, _trust(trusted)
    while True:
        assert server.process.poll() is None, server.log.read_text()[-2000:]
        assert time.monotonic() < limit, server.log.read_text()[-2000:]
        with contextlib.suppress(urllib.error.URLError, OSError):
            address = f"https://127.0.0.1:{server.port}/readyz"
            with urllib.request.urlopen(address, timeout=5, context=context):
                return
        time.sleep(0.05)


def _trust(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def _text(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def _address(target: Target) -> str:
    return f"http://{target.host}:{target.port}"
