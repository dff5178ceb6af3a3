"""The way of the log behind Forebay: a real rsyslog, and a server that answers as OpenSearch does.

The server is osmem, which keeps all in memory; it is not Elasticsearch.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from tests.support.elastic import DEPLOY
from tests.support.server import free_port

RSYSLOG: Final = shutil.which("rsyslogd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
_PLUGINS: Final = tuple(Path("/usr/lib").glob("*/rsyslog/omelasticsearch.so"))


def missing() -> str:
    """Return what the path needs and this machine lacks; empty: nothing."""
    lacks = []
    if RSYSLOG is None:
        lacks.append("rsyslog")
    if not _PLUGINS:
        lacks.append("rsyslog-elasticsearch")
    if find_spec("osmem_server") is None:
        lacks.append("osmem-server")
    return ", ".join(lacks)


@dataclass(kw_only=True)
class LogPath:
    """Where lines go in, and where they are found."""

    folder: Path
    tcp_port: int
    search_port: int
    rsyslog: subprocess.Popen[bytes]
    osmem: subprocess.Popen[bytes]

    @property
    def file(self) -> Path:
        """The file that rsyslog follows."""
        return self.folder / "log" / "forebay.log"

    @property
    def tcp(self) -> str:
        """The address at which rsyslog takes lines."""
        return f"tcp://127.0.0.1:{self.tcp_port}"

    @property
    def url(self) -> str:
        """Where the index is asked."""
        return f"http://127.0.0.1:{self.search_port}"

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Ask all days."""
        request = urllib.request.Request(
            f"{self.url}/model-api-logs-*/_search",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def found(self, request_id: str) -> list[dict[str, Any]]:
        """Return the documents of a request."""
        hits = self.search({"query": {"term": {"http.request.id": request_id}}})["hits"]["hits"]
        return [hit["_source"] for hit in hits]

    def until_found(self, request_id: str, wait_s_max: float = 15.0) -> dict[str, Any]:
        """Wait for a request's document, of which there is one."""
        end = time.monotonic() + wait_s_max
        while time.monotonic() < end:
            if documents := self.found(request_id):
                (document,) = documents
                return document
            time.sleep(0.05)
        raise AssertionError(f"{request_id} was not found; {self._complaints()}")

    def _complaints(self) -> str:
        names = ("rsyslog.out", "log/refused.json", "log/unparsed.log")
        files = [self.folder / name for name in names]
        return "; ".join(f"{f.name}: {f.read_text()[-500:]}" for f in files if f.exists())


def configuration(folder: Path, *, tcp_port: int, search_port: int) -> Path:
    """Return the file that operators are given, with a test's own places and ports in it."""
    text = (DEPLOY / "rsyslog" / "rsyslog.conf").read_text()
    for ours, theirs in (
        ("/var/spool/rsyslog", folder / "spool"),
        ("/var/log/forebay", folder / "log"),
        ('port="5170"', f'port="{tcp_port}"'),
        ('serverport="9200"', f'serverport="{search_port}"'),
        ('resumeInterval="5"', 'resumeInterval="1"'),
    ):
        assert ours in text, ours
        text = text.replace(ours, str(theirs))
    for name in ("spool", "log"):
        (folder / name).mkdir()
    (folder / "rsyslog.conf").write_text(text)
    return folder / "rsyslog.conf"


def an_index(port: int) -> subprocess.Popen[bytes]:
    """Start the server, and give it the template when it answers."""
    import osmem_server  # noqa: PLC0415 - a machine may lack it

    binary = osmem_server.resolve_binary()
    process = subprocess.Popen(
        [binary, "-addr", f"127.0.0.1:{port}", "-no-stdin-watch", "-no-ja"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    _until_answered(url, process)
    script = str(DEPLOY / "elasticsearch" / "apply.sh")
    subprocess.run(["sh", script, url], check=True, capture_output=True, timeout=30)
    return process


@contextlib.contextmanager
def log_path(folder: Path) -> Iterator[LogPath]:
    """Run the whole of it, with the index template applied."""
    tcp_port, search_port = free_port(), free_port()
    file = configuration(folder, tcp_port=tcp_port, search_port=search_port)
    osmem = an_index(search_port)
    assert RSYSLOG is not None
    with (folder / "rsyslog.out").open("wb") as out:
        command = [RSYSLOG, "-n", "-f", str(file), "-i", str(folder / "pid")]
        rsyslog = subprocess.Popen(command, stdout=out, stderr=out)
    path = LogPath(
        folder=folder, tcp_port=tcp_port, search_port=search_port, rsyslog=rsyslog, osmem=osmem
    )
    try:
        yield path
    finally:
        for process in (path.rsyslog, path.osmem):
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(10)


def _until_answered(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "it ended"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")
