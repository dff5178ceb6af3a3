"""Where users, keys, budgets and the audit log are kept, and how long one waits for them.

This module loads no database library: the settings name it also where nothing is asked for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from forebay.core.knob import knob

POSTGRES: Final = ("postgresql://", "postgres://", "postgresql+psycopg://")
SQLITE: Final = "sqlite:///"
FILE_NAME: Final = "accounts.sqlite"
_OPTIONS: Final = frozenset(
    {"application_name", "channel_binding", "gssencmode", "host", "port", "target_session_attrs"}
)
_HOW: Final = "sqlite:////folder/accounts.sqlite or postgresql://user:password@host:5432/database"


class AccountsAway(Exception):
    """The accounts cannot be asked, or did not answer in time; what they did is not known."""


class RowRefused(Exception):
    """The database does not take a row: it clashes with another, leans on none, or is no text."""


class AnotherSchema(Exception):
    """The database was brought up by a newer version of this program; its text is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountsConfig:
    """The database of users, keys, budgets and the audit log."""

    url: str = knob(
        "",
        "Database of users and keys, as postgresql://user:password@host:5432/forebay or "
        "sqlite:////folder/accounts.sqlite. Empty: a SQLite file in this server's own folder.",
        secret=True,
    )
    timeout_s: float = knob(
        2.0,
        "Longest wait for the database, in seconds: to connect, for a lock, for one statement.",
        minimum=0.05,
        maximum=60.0,
    )
    migrate_s_max: float = knob(
        120.0,
        "At a start, longest time to bring the database's tables up to date, in seconds.",
        minimum=1.0,
        maximum=3_600.0,
    )
    connections_max: int = knob(
        8, "Most connections to the database at once; more wait.", minimum=1, maximum=256
    )
    users_max: int = knob(100_000, "Most users.", minimum=1, maximum=100_000_000)
    keys_max: int = knob(
        1_000, "Most API keys of one user that are not revoked.", minimum=1, maximum=1_000_000
    )
    password_memory_bytes: int = knob(
        19_456 * 1_024,
        "Memory that Argon2id takes to check one password, in bytes; the default is OWASP's.",
        minimum=8 * 1_024 * 1_024,
        maximum=4 * 1_024 * 1_024 * 1_024,
    )
    password_passes_min: int = knob(
        2, "Passes of Argon2id over that memory.", minimum=1, maximum=100
    )
    password_threads: int = knob(1, "Threads that Argon2id computes with.", minimum=1, maximum=64)


def default_url(folder: Path) -> str:
    """Return the address of the SQLite file in a server's own folder."""
    return SQLITE + quote(str(folder.absolute() / FILE_NAME))


def misfit(url: str) -> str | None:
    """Say what is wrong with a database's address, without showing it; None if nothing is."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - only where accounts are asked for
    from sqlalchemy.exc import ArgumentError  # noqa: PLC0415 - as above

    if not url.startswith((SQLITE, *POSTGRES)):
        return f"accounts.url must be written as {_HOW}; found ***."
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        return f"accounts.url cannot be read; write it as {_HOW}."
    database, options = parts.database or "", tuple(parts.query)
    if url.startswith(SQLITE):
        is_file = database and not database.startswith((":", "file:")) and not options
        return None if is_file else f"accounts.url must name a file, as {SQLITE}/folder/accounts."
    return _misfit_server(database, options)


def _misfit_server(database: str, options: tuple[str, ...]) -> str | None:
    if not database:
        return "accounts.url names no database; add its name at the end, as /forebay."
    if any(not name.startswith("ssl") and name not in _OPTIONS for name in options):
        return "accounts.url may set options that begin with ssl, and few others; see the docs."
    try:
        import psycopg  # noqa: F401, PLC0415 - only to know whether it is there
    except ImportError:
        return "accounts.url needs PostgreSQL's client: pip install 'forebay[postgres]'."
    return None
