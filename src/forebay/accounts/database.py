"""One database of accounts: a SQLite file, or PostgreSQL that several gateways share.

Whoever asks gets a connection inside one transaction, `reading` or `writing`, and hears of one
thing only that went wrong with the database itself: AccountsAway.  A writer on SQLite takes the
file at once, so that nobody learns at the end that another was first; on PostgreSQL writers hold
the rows that they change, and lock those that they decide by.
"""

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    SQLAlchemyError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from forebay.accounts.config import AccountsAway, AccountsConfig, AnotherSchema, RowRefused
from forebay.accounts.schema import VERSION_TABLE
from forebay.accounts.watch import Watch

__all__ = ["AccountsAway", "Database", "RowRefused"]

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_PATIENCE: Final = 4.0
"""Times `timeout_s` after which a server that holds a connection and says nothing is hung."""
_FRESH_S: Final = 1.0
"""A connection that was used a moment ago is not tried before it is used again."""
_USED: Final = "forebay.used"
_WATCHED: Final = "forebay.watched"
_LOCK: Final = 0x466F7265626179
"""The advisory lock of whoever brings the tables up: `Forebay` in ASCII."""


class Database:
    """Gives out connections, each inside one transaction; safe to use from many threads."""

    def __init__(self, config: AccountsConfig) -> None:
        """Take a configuration with an address that `misfit` finds nothing wrong with.

        Nothing is asked yet, so a database that is away keeps nobody from starting.
        """
        assert config.url, "an empty address stands for default_url()"
        self._config = config
        url = make_url(config.url)
        self.sqlite: Final = url.get_backend_name() == "sqlite"
        """It is a file of this machine."""
        self._path = Path(url.database or "") if self.sqlite else None
        url = url if self.sqlite else url.set(drivername="postgresql+psycopg")
        self._engine = create_engine(
            url,
            connect_args=self._connect_args(url),
            hide_parameters=True,
            max_overflow=0,
            pool_pre_ping=False,  # ours is watched, see below
            pool_size=config.connections_max,
            pool_timeout=config.timeout_s,
        )
        self._reader = self._engine
        self._writer = self._engine.execution_options(writes=True)
        self._watch = Watch(_PATIENCE * config.timeout_s)
        if self.sqlite:
            event.listen(self._engine, "do_connect", self._make_file)
            event.listen(self._engine, "connect", self._prepare)
            event.listen(self._engine, "begin", _begin)
        else:
            # One statement is a transaction of its own: to begin and end another around it would
            # be two more journeys to the server.
            self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
            event.listen(self._engine, "checkout", self._check)
            for ending in ("checkin", "invalidate", "close"):
                event.listen(self._engine, ending, self._leave)

    def __repr__(self) -> str:
        return f"Database({'SQLite' if self.sqlite else 'PostgreSQL'})"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Ask and change nothing; raises AccountsAway.

        On SQLite all statements see one moment, on PostgreSQL each sees its own.
        """
        with _mapped(), self._reader.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, durable at its end; raises AccountsAway, or RowRefused by a row."""
        with _mapped(), self._writer.begin() as connection:
            yield connection

    def migrate(self) -> bool:
        """Bring the tables up to date, one process at a time; return whether there were none.

        Raises AnotherSchema if they are newer than this program, AccountsAway.
        """
        scripts = ScriptDirectory(str(_MIGRATIONS))
        with self.reading() as connection:
            before = _revisions(connection)
            if before == set(scripts.get_heads()):
                return False
        config = replace(self._config, timeout_s=self._config.migrate_s_max, connections_max=1)
        with (
            contextlib.closing(Database(config)) as patient,
            patient.writing() as connection,
        ):
            if not self.sqlite:  # its writers hold each other off already
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            _check_known(_revisions(connection), scripts)
            alembic = Config(attributes={"connection": connection})
            alembic.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            command.upgrade(alembic, "head")
        return not before

    def close(self) -> None:
        """Give back the connections that nobody uses."""
        self._engine.dispose()
        self._watch.close()

    def _connect_args(self, url: URL) -> dict[str, Any]:
        timeout_s = self._config.timeout_s
        if self.sqlite:
            return {"timeout": timeout_s, "check_same_thread": False}
        wait_ms = int(timeout_s * 1_000)
        settings = {
            "statement_timeout": wait_ms,
            "lock_timeout": wait_ms,
            "idle_in_transaction_session_timeout": 10 * wait_ms,
        }
        args = {
            "connect_timeout": math.ceil(timeout_s),
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 2 * wait_ms,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        }
        if "application_name" not in url.query:
            args["application_name"] = "forebay"
        return args

    def _check(self, connection: Any, record: ConnectionPoolEntry, _: object) -> None:  # noqa: ANN401 - the driver's own
        """Watch a connection while it is used; one that was idle must show that it still works."""
        record.info[_WATCHED] = self._watch.enter(connection.fileno())
        if time.monotonic() - record.info.get(_USED, -math.inf) < _FRESH_S:
            return
        try:
            self._engine.dialect.do_ping(connection)
        except (connection.Error, OSError) as error:
            raise DisconnectionError from error

    def _leave(self, _: object, record: ConnectionPoolEntry, *__: object) -> None:
        record.info[_USED] = time.monotonic()
        if (watched := record.info.pop(_WATCHED, None)) is not None:
            self._watch.leave(watched)

    def _make_file(self, *_: object) -> None:
        """Make the file before SQLite does, readable by nobody else; its log gets the same mode.

        The file itself is never opened here: to close it again would drop the locks of every
        connection that this process has to it, and others would take its log for left behind.
        """
        assert self._path is not None
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._path.exists():
            with (
                tempfile.NamedTemporaryFile(dir=self._path.parent) as empty,  # its mode is 0600
                contextlib.suppress(FileExistsError),
            ):
                os.link(empty.name, self._path)
        elif self._path.stat().st_mode & 0o077:
            self._path.chmod(0o600)

    def _prepare(self, connection: Any, _: object) -> None:  # noqa: ANN401 - the driver's own
        connection.isolation_level = None  # transactions begin and end when we say so
        for pragma in (
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            "PRAGMA foreign_keys = ON",
            "PRAGMA trusted_schema = OFF",
        ):
            connection.execute(pragma)


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """Translate what a database and its driver raise."""
    try:
        yield
    except (IntegrityError, DataError, OverflowError, UnicodeEncodeError) as error:
        raise RowRefused from error
    except (DBAPIError, SQLAlchemyError, OSError) as error:
        raise AccountsAway from error


def _revisions(connection: Connection) -> set[str]:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return set(context.get_current_heads())


def _check_known(found: set[str], scripts: ScriptDirectory) -> None:
    known = {script.revision for script in scripts.walk_revisions()}
    if newer := found - known:
        raise AnotherSchema(
            f"The accounts database is of a newer version of this program: its tables are at "
            f"{', '.join(sorted(newer))[:80]}, and this program knows them up to "
            f"{', '.join(scripts.get_heads())}. Install that version, or name another database "
            f"in accounts.url."
        )
