"""The accounts, as commands use them: opened, brought up to date, and closed again.

The server need not run.  One that does sees a change at the latest after `access.cached_s`.
"""

import contextlib
import getpass
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from forebay.cli.loading import USAGE, Assignments, ConfigFile, fail, loaded
from forebay.core.errors import Invalid

if TYPE_CHECKING:
    from forebay.accounts.audit_event import Action, Detail
    from forebay.accounts.database import Database
    from forebay.accounts.directory import Directory
    from forebay.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The accounts of one configuration."""

    settings: "Settings"
    database: "Database"
    directory: "Directory"

    def note(self, action: "Action", target: str, /, **details: "Detail") -> None:
        """Write a line of the audit log; the actor is whoever runs the command."""
        from forebay.accounts.audit import Audit  # noqa: PLC0415 - see main
        from forebay.accounts.audit_event import AuditEvent  # noqa: PLC0415 - see main

        event = AuditEvent(action=action, actor=f"cli:{_whoami()}", target=target, details=details)
        Audit(self.database).add([(time.time(), event)])


@contextlib.contextmanager
def opened(config: ConfigFile, assignments: Assignments) -> Iterator[Book]:
    """Open the accounts, making their tables if need be; end, saying what went wrong."""
    settings = loaded(config, assignments).settings
    from forebay.accounts.config import AccountsAway, AnotherSchema  # noqa: PLC0415 - see main
    from forebay.accounts.database import Database  # noqa: PLC0415 - see main
    from forebay.accounts.directory import Directory  # noqa: PLC0415 - see main

    accounts = settings.accounts_config
    database = Database(accounts)
    directory = Directory(database, accounts, now=time.time, dev=settings.access.dev)
    try:
        made = database.migrate()
        if made:
            # Whoever has a server elsewhere learns that it is not this one's accounts.
            typer.echo(f"Made new accounts: {_place(accounts.url)}.", err=True)
        yield Book(settings=settings, database=database, directory=directory)
    except AccountsAway:
        fail("The accounts database cannot be asked. Check accounts.url, and that its server runs.")
    except AnotherSchema as error:
        fail(str(error))
    except Invalid as error:
        fail(error.message, status=USAGE)
    finally:
        database.close()


def _place(url: str) -> str:
    """Return where accounts are, without what opens them."""
    from sqlalchemy.engine import make_url  # noqa: PLC0415 - see main

    parts = make_url(url)
    return f"{parts.database}" if url.startswith("sqlite") else f"{parts.database} on {parts.host}"


def _whoami() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return str(os.getuid())
