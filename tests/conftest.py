"""What every run of the tests prints at its end: counts and time per folder."""

import gc
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from forebay.accounts.config import default_url
from tests.support.postgres import PostgresServer, missing, running_postgres

DEFAULT_MODEL = "smollm2-135m-instruct"
PULL_S_MAX = 600


@pytest.fixture(scope="session")
def default_model() -> str:
    """Prepare the default model in the cache that `forebay serve` uses; return its name."""
    if find_spec("openvino_genai") is None:
        pytest.skip("openvino-genai is not installed")
    command = [sys.executable, "-m", "forebay.cli.main", "pull", DEFAULT_MODEL]
    subprocess.run(command, check=True, timeout=PULL_S_MAX)
    return DEFAULT_MODEL


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let only what nothing refers to be freed."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Run one PostgreSQL for all tests; each takes a database of its own."""
    if lacking := missing():
        pytest.skip(lacking)
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def accounts_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database, of either kind."""
    if request.param == "sqlite":
        return default_url(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one row per folder of tests; the reasons for skips are pytest's own `-r` lines."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seconds: defaultdict[str, float] = defaultdict(float)
    for kind in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(kind, []):
            counts[folder_of(report.nodeid)][kind] += 1
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[folder_of(report.nodeid)] += report.duration
    terminalreporter.write_sep("=", "tests per folder")
    terminalreporter.write_line(row("folder", "passed", "failed", "skipped", "seconds"))
    for folder in sorted(counts):
        found = counts[folder]
        failed = found["failed"] + found["error"]
        cells = (found["passed"], failed, found["skipped"], f"{seconds[folder]:.1f}")
        terminalreporter.write_line(row(folder, *map(str, cells)))


def folder_of(nodeid: str) -> str:
    """Return the first folder under tests/ of a test's name."""
    parts = nodeid.partition("::")[0].split("/")
    return parts[1] if len(parts) > 2 else parts[0]


def row(folder: str, *cells: str) -> str:
    """Lay out one line of the table."""
    return f"{folder:<14}" + "".join(f"{cell:>10}" for cell in cells)
