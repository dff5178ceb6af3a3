"""An API key with every right, put into the accounts of a server that has yet to start."""

import time
from pathlib import Path
from typing import Final

from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.directory import Directory
from forebay.accounts.people import NewKey
from forebay.core.caller import Right, Role

USER: Final = "drill"


def a_key(folder: Path) -> str:
    """Return a new key in the accounts file of the server whose state is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = AccountsConfig(url=default_url(folder))
    database = Database(config)
    try:
        database.migrate()
        directory = Directory(database, config, now=time.time)
        directory.create_user(USER, role=Role.ADMIN)
        _, text = directory.create_key(NewKey(user=USER, scopes=frozenset(Right)))
    finally:
        database.close()
    return text
