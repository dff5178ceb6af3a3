"""PostgreSQL for tests: a real server in a folder of its own, to be killed and hung on purpose."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from forebay.bench.processes import free_port

_START_S_MAX = 30.0
# Debian keeps the server's programs out of PATH.
_FOLDERS = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
_PATH = os.pathsep.join([os.environ.get("PATH", ""), *_FOLDERS])
_POSTGRES = shutil.which("postgres", path=_PATH)
_INITDB = shutil.which("initdb", path=_PATH)


def missing() -> str | None:
    """Say what PostgreSQL's tests lack here; None if nothing."""
    if not (_POSTGRES and _INITDB):
        return "PostgreSQL's server is not installed"
    return None if find_spec("psycopg") else "psycopg is not installed"


def _unprivileged() -> dict[str, Any]:
    """Return how a process is started as somebody whom PostgreSQL accepts: not as root."""
    if os.geteuid() != 0:
        return {}
    return {"user": "postgres", "group": "postgres", "extra_groups": []}


class PostgresServer:
    """One server on one port of this machine; whoever connects from there is trusted."""

    def __init__(self, folder: Path) -> None:
        """Make its files; `folder` is its own."""
        assert _POSTGRES is not None
        assert _INITDB is not None
        self.port = free_port()
        self._folder = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        make = [_INITDB, "-D", str(self._folder), "-U", "forebay", "-A", "trust", "-E", "UTF8"]
        make += ["--locale=C", "--no-sync"]
        done = subprocess.run(make, capture_output=True, check=False, cwd=folder, **_unprivileged())
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it and wait until it answers; TimeoutError if it does not."""
        assert self._process is None, "it runs already"
        settings = {
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
            "max_connections": "200",
            "port": str(self.port),
            "unix_socket_directories": "",
        }
        command = [str(_POSTGRES), "-D", str(self._folder)]
        command += [f"--{name}={value}" for name, value in settings.items()]
        self._process = subprocess.Popen(
            command,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **_unprivileged(),
        )
        limit = time.monotonic() + _START_S_MAX
        while not self._answers():
            if time.monotonic() > limit:
                raise TimeoutError(f"PostgreSQL did not start in {_START_S_MAX:.0f} s.")
            time.sleep(0.02)

    def url(self, database: str = "postgres") -> str:
        """Return where a database is, as `accounts.url` wants it."""
        return f"postgresql://forebay@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; return where it is."""
        import psycopg  # noqa: PLC0415 - it is optional
        from psycopg import sql  # noqa: PLC0415 - as above

        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url(), autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self.url(name)

    def hang(self) -> None:
        """Let every one of its processes stand still, connections held: SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on: SIGCONT."""
        self._signal(signal.SIGCONT)

    def crash(self) -> None:
        """End it at once, as a loss of power would: SIGQUIT, PostgreSQL's immediate shutdown."""
        assert self._process is not None, "it does not run"
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it, if it runs, whatever was done to it."""
        if self._process is not None:
            self.wake()
            self.crash()

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415 - it is optional

        assert self._process is not None
        assert self._process.poll() is None, "it ended at once"
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url(), connect_timeout=2).close()
            return True
        return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "it does not run"
        pid = self._process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, workers)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, number)


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a server while the body runs."""
    with tempfile.TemporaryDirectory(prefix="forebay-postgres-") as folder:
        server = PostgresServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()
