"""A real `forebay serve` in a process of its own, for a drill to break."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from forebay.bench.client import Target
from forebay.bench.processes import Usage, descendants, free_port, usage_of
from forebay.drill.findings import DrillFailed

START_S_MAX: Final = 90.0
_STOP_S_MAX: Final = 40.0
_ANSWER_S_MAX: Final = 10.0
_NAP_S: Final = 0.02
_WORKER: Final = b"forebay.engine.worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs: its process, where it answers, where it logs."""

    process: "subprocess.Popen[bytes]"
    target: Target
    log: Path
    key: str = ""
    """An API key for what is asked of it, in closed mode."""

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a GET; (0, "") where nobody answers."""
        return page(self.target, path, self.key)

    def ready(self) -> bool:
        """Return whether it takes traffic."""
        return self.get("/readyz")[0] == HTTPStatus.OK

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels; 0 if there are none."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            float(line.rpartition(" ")[2])
            for line in self.get("/metrics")[1].splitlines()
            if line.startswith((name + "{", name + " ")) and all(part in line for part in wanted)
        )

    def quantile(self, name: str, share: float) -> float | None:
        """Return the bound of the histogram's bucket that holds a quantile; None of nothing."""
        counts: dict[float, float] = {}
        for line in self.get("/metrics")[1].splitlines():
            if found := re.match(rf'{name}_bucket{{.*le="([^"]+)".*}} (\S+)', line):
                counts[float(found[1])] = counts.get(float(found[1]), 0.0) + float(found[2])
        total = max(counts.values(), default=0.0)
        reached = [bound for bound, count in counts.items() if count >= share * total]
        return min(reached) if total else None

    def ledger(self) -> dict[str, Any]:
        """Return what `/admin/ledger` says."""
        status, text = self.get("/admin/ledger")
        if status != HTTPStatus.OK:
            raise DrillFailed(f"/admin/ledger answers {status}")
        found: dict[str, Any] = json.loads(text)
        return found

    def workers(self) -> list[int]:
        """Return the ids of its worker processes."""
        found = []
        for pid in descendants(self.process.pid):
            # A process may end while we look at it.
            with contextlib.suppress(OSError):
                if _WORKER in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.append(pid)
        return found

    def own_usage(self) -> Usage:
        """Return what the gateway process has used."""
        return usage_of([self.process.pid])

    def worker_usage(self) -> Usage:
        """Return what its descendants have used."""
        return usage_of(descendants(self.process.pid))

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the log's lines so far."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def until_ready(self, wait_s_max: float = START_S_MAX) -> float:
        """Wait until it takes traffic; return the seconds that took."""
        began = time.monotonic()
        while (passed_s := time.monotonic() - began) < wait_s_max:
            if self.ready():
                return passed_s
            if self.process.poll() is not None:
                raise DrillFailed(f"the server ended: {self._last_words()}")
            time.sleep(_NAP_S)
        raise DrillFailed(f"not ready within {wait_s_max:.0f} s: {self._last_words()}")

    def until_not_ready(self, wait_s_max: float) -> float | None:
        """Wait until it refuses traffic; return the seconds that took, or None."""
        began = time.monotonic()
        while (passed_s := time.monotonic() - began) < wait_s_max:
            if not self.ready():
                return passed_s
            time.sleep(_NAP_S / 4)
        return None

    def stop(self) -> None:
        """Ask it to stop, and see that it does."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_S_MAX)
        except subprocess.TimeoutExpired:
            for pid in (*descendants(self.process.pid), self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()

    def _last_words(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-1_000:]


def page(target: Target, path: str, key: str = "") -> tuple[int, str]:
    """Return status and body of a GET; (0, "") where nobody answers."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    connection = http.client.HTTPConnection(target.host, target.port, timeout=_ANSWER_S_MAX)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException):
        return 0, ""
    finally:
        connection.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a server is started."""

    engine: str
    folder: Path
    """Its log and its state."""
    settings: Sequence[str] = ()
    """KEY=VALUE each."""
    port: int = 0
    """0 takes a free one."""
    name: str = "server"
    ready: bool = True
    """Wait until it is."""
    key: str = ""
    """An API key that it knows, in closed mode."""
    module: str = "forebay.cli.main"
    """What Python runs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those of this process."""


@contextlib.contextmanager
def serving(wish: Serving) -> Iterator[Server]:
    """Run a server until the body ends."""
    server = started(wish)
    try:
        if wish.ready:
            server.until_ready()
        yield server
    finally:
        server.stop()


def started(wish: Serving) -> Server:
    """Start a server; whoever asked stops it."""
    port = wish.port or free_port()
    log = wish.folder / f"{wish.name}.log"
    command = [sys.executable, "-m", wish.module, "serve", "--port", str(port)]
    command += [] if wish.engine == "auto" else ["--engine", wish.engine]
    for setting in ("log.format=json", *wish.settings):
        command += ["--set", setting]
    environment = {name: value for name, value in os.environ.items() if "FOREBAY_" not in name}
    environment |= {"XDG_STATE_HOME": str(wish.folder / wish.name), **wish.environment}
    with log.open("ab") as sink:
        process = subprocess.Popen(  # noqa: S603 - the words are ours
            command, stdout=sink, stderr=sink, env=environment
        )
    return Server(
        process=process, target=Target(host="127.0.0.1", port=port), log=log, key=wish.key
    )
