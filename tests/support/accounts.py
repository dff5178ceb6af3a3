"""A database of accounts for a test, with its tables; `accounts_url` says of which kind."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from forebay.accounts.config import AccountsConfig
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.people import NewKey
from forebay.core.caller import Bounds, Rate
from forebay.core.errors import Invalid

GOOD = "violet-harbour-91-kettle"
"""A password that nobody tries."""
SLOW = Bounds(requests=Rate(amount=5, period_s=60.0), concurrent=2)
WIDE = Bounds(tokens=Rate(amount=10**12, period_s=86_400.0))


class WallClock:
    """Unix seconds that pass when a test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def quick(url: str, **knobs: Any) -> AccountsConfig:
    """Return a configuration whose passwords cost little."""
    return AccountsConfig(
        url=url, password_memory_bytes=8 * 1_024 * 1_024, password_passes_min=1, **knobs
    )


@contextlib.contextmanager
def a_database(url: str, **knobs: Any) -> Iterator[Database]:
    """Open a database with its tables while the body runs."""
    database = Database(quick(url, **knobs))
    try:
        database.migrate()
        yield database
    finally:
        database.close()


def a_directory(
    database: Database, *, clock: WallClock | None = None, dev: bool = False, **knobs: Any
) -> Directory:
    """Return a directory; without a clock of the test's its time stands still."""
    return Directory(database, quick("-", **knobs), now=clock or WallClock(), dev=dev)


def refusal(ask: Callable[[], object]) -> Invalid:
    """Return how something was refused."""
    with pytest.raises(Invalid) as caught:
        ask()
    return caught.value


def key_of(directory: Directory, user: str = "alice", **facts: Any) -> tuple[str, str]:
    """Make a key; return its id and its text."""
    key, text = directory.create_key(NewKey(user=user, **facts))
    return key.id, text
