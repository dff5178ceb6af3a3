"""Who there is, in a database of either kind: for the suites that hold for both."""

from collections.abc import Iterator

import pytest

from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from tests.support.accounts import WallClock, a_database, a_directory


@pytest.fixture
def clock() -> WallClock:
    """Return the wall clock of `directory`."""
    return WallClock()


@pytest.fixture
def database(accounts_url: str) -> Iterator[Database]:
    """Open a database with its tables; patient, for others use the machine too."""
    with a_database(accounts_url, timeout_s=20.0) as database:
        yield database


@pytest.fixture
def directory(database: Database, clock: WallClock) -> Directory:
    """Return the directory in it."""
    return a_directory(database, clock=clock)
