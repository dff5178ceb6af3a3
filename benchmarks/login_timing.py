"""Does the time that a failed login takes tell whether there is such a user?  Welch's t.

Of the whole of it: back-off, place, look-up in a database, Argon2, error; with cheap passwords, so
that the rest counts for more than it does, and with limits that nobody reaches.
"""

import asyncio
import random
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks import machine
from benchmarks.timing_leak import Comparison, measured
from forebay.accounts.config import AccountsConfig, default_url
from forebay.accounts.database import Database
from forebay.accounts.denylist import Denylist
from forebay.accounts.directory import Directory
from forebay.accounts.passwords import Passwords
from forebay.accounts.people import UserChange
from forebay.accounts.signing_keys import SigningKeys
from forebay.accounts.token_config import TokensConfig
from forebay.accounts.tokens import Tokens
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Unauthenticated
from forebay.serve.clerks import Clerks
from forebay.serve.hashing import Hashing
from forebay.serve.login import Login, LoginParts, Visit
from forebay.serve.login_config import LoginConfig

SAMPLES: Final = 1_500
_USERS: Final = 50
_SEED: Final = 5
_VISIT: Final = Visit(address="192.0.2.1", request_id="r")


def run(samples: int = SAMPLES) -> dict[str, Any]:
    """Time failed logins of three kinds against each other; return the figures."""
    draw = random.Random(_SEED)  # noqa: S311 - it has to be repeatable
    with tempfile.TemporaryDirectory(prefix="forebay-timing-") as folder:
        config = AccountsConfig(
            url=default_url(Path(folder)),
            password_memory_bytes=8 * 1_024 * 1_024,
            password_passes_min=1,
        )
        database = Database(config)
        database.migrate()
        directory = Directory(database, config, now=time.time)
        names = [f"{draw.getrandbits(48):012x}" for _ in range(3 * _USERS)]
        known, disabled, unknown = names[:_USERS], names[_USERS : 2 * _USERS], names[2 * _USERS :]
        for name in (*known, *disabled):
            directory.create_user(name, password="a long passphrase of theirs")
        for name in disabled:
            directory.change_user(name, UserChange(disabled=True))
        draw.shuffle(names)
        with asyncio.Runner() as runner:
            login = _login(config, database, directory)

            def check(name: str) -> None:
                runner.run(_fail(login, name))

            wanted = [
                Comparison(
                    what="failed login: user known, unknown",
                    check=check,
                    one=known,
                    other=unknown,
                    samples=samples,
                ),
                Comparison(
                    what="failed login: user known, disabled",
                    check=check,
                    one=known,
                    other=disabled,
                    samples=samples,
                ),
            ]
            found = [measured(each, draw) for each in wanted]
        database.close()
    return {"machine": machine.facts(), "comparisons": found}


async def _fail(login: Login, name: str) -> None:
    try:
        await login.login(name, "a wrong passphrase", _VISIT)
    except Unauthenticated:
        return
    raise AssertionError("it did not fail")


def _login(config: AccountsConfig, database: Database, directory: Directory) -> Login:
    """Return logins whose limits are out of reach."""
    free = 1_000
    limits = LoginConfig(
        hashing_share_max=64.0,
        hashing_burst_s=600.0,
        pair_failures_max=free,
        address_failures_max=100_000,
        account_failures_max=100_000,
    )
    denylist, tokens = Denylist(database), TokensConfig()
    parts = LoginParts(
        directory=directory,
        passwords=Passwords(config),
        tokens=Tokens(SigningKeys(database, tokens), denylist, tokens),
        denylist=denylist,
        hashing=Hashing(limits, MONOTONIC, nice=0),
        clerks=Clerks(threads=1, asked_max=64),
        note=lambda _: None,
    )
    return Login(parts, limits, now=MONOTONIC, wall=time.time)
