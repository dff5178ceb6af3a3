"""What the closed mode is made of: accounts, credentials, budgets, logins, the audit log.

Only here are the libraries loaded that this takes; the open mode never does.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from forebay.accounts import api_key
from forebay.accounts.audit import Audit
from forebay.accounts.audit_event import Action, AuditEvent, Detail
from forebay.accounts.bearers import Bearers
from forebay.accounts.budgets import Books
from forebay.accounts.callers import External
from forebay.accounts.config import AccountsAway, AnotherSchema
from forebay.accounts.database import Database
from forebay.accounts.denylist import Denylist
from forebay.accounts.directory import ADMIN, Directory
from forebay.accounts.jwks import Jwks
from forebay.accounts.oidc import Oidc
from forebay.accounts.passwords import Passwords
from forebay.accounts.prices import prices_of
from forebay.accounts.signing_keys import SigningKeys
from forebay.accounts.tokens import InvalidToken, Tokens
from forebay.accounts.usage import UsageLedger
from forebay.core.caller import Caller, Right
from forebay.core.clock import MONOTONIC
from forebay.core.errors import Invalid, Overloaded
from forebay.core.record import EventLog
from forebay.gateway.access import Access
from forebay.gateway.admin_accounts import AccountsAdmin
from forebay.gateway.admin_budgets import BudgetsAdmin
from forebay.gateway.auth import Auth
from forebay.gateway.exchange import Exchange
from forebay.gateway.routing import Endpoint
from forebay.gateway.usage import USAGE_PATH, Usage
from forebay.serve.auditing import Auditor
from forebay.serve.bookkeeping import Bookkeeper
from forebay.serve.clerks import Clerks
from forebay.serve.credentials import Credentials
from forebay.serve.hashing import Hashing
from forebay.serve.ledger import Ledger
from forebay.serve.login import Login, LoginParts
from forebay.settings import Settings

AddressOf = Callable[[Exchange], str]
"""Tells which address a request came from."""

_CLERKS: Final = 2
_PAGES_MAX: Final = 64
"""Most questions about usage, and most of administrators, that wait or are answered at once."""
_USED_S: Final = 10.0
"""How often it is written when keys were last used."""
_CLOSING_S: Final = 5.0


class TenancyRefused(Exception):
    """The accounts cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """Everything that only the closed mode has."""

    database: Database
    directory: Directory
    clerks: Clerks
    """Look credentials up, and nothing that takes long: every caller waits for them."""
    office: Clerks
    """What administrators ask and order."""
    archive: Clerks
    """What callers ask about their usage: a year of it takes seconds to read."""
    credentials: Credentials
    auditor: Auditor
    bookkeeper: Bookkeeper
    bearers: Bearers
    usage: Usage
    login: Login
    hashing: Hashing
    first_password: str | None
    """Of the user `admin`, who was made at this start: to be shown once."""

    def join(self, access: Access, ledger: Ledger) -> Mapping[str, Endpoint]:
        """Join the server: be told who does what, and of what is held; return the routes."""
        access.note = self.auditor.note
        ledger.ask(self.bookkeeper.holdings)
        note = _Notes(self.auditor, access.address)
        admin = AccountsAdmin(
            self.directory,
            Audit(self.database),
            self.office,
            changed=self.credentials.forget,
            note=note,
        )
        budgets = BudgetsAdmin(
            Books(self.database), self.office, changed=self.credentials.forget, note=note
        )
        usage = Endpoint(serve=self.usage.page, methods=("GET",), right=Right.USAGE)
        auth = Auth(self.login, address_of=access.address)
        return {
            **admin.endpoints(),
            **budgets.endpoints(),
            **auth.endpoints(),
            USAGE_PATH: usage,
        }

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work for as long as the scope lasts; at its end write what is left."""
        self.auditor.start()
        self.auditor.note(AuditEvent(action=Action.SERVER_STARTED))
        self.bookkeeper.open()
        noting = asyncio.create_task(self._note_used())
        try:
            yield
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)
            with contextlib.suppress(AccountsAway):
                await asyncio.to_thread(self.directory.touch_keys, self.credentials.take_used())
            await self.bookkeeper.close()
            self.hashing.close()
            self.auditor.note(AuditEvent(action=Action.SERVER_STOPPED))
            await asyncio.to_thread(self.auditor.stop, _CLOSING_S)
            for clerks in (self.clerks, self.office, self.archive):
                clerks.close()
            self.database.close()

    async def _note_used(self) -> None:
        """Write down now and then when keys were used; while the accounts are away, later."""
        while True:
            await asyncio.sleep(_USED_S)
            used = self.credentials.take_used()
            try:
                await self.office.ask(partial(self.directory.touch_keys, used))
            except (AccountsAway, Overloaded):
                self.credentials.used = used | self.credentials.used


def opened(settings: Settings, log: EventLog) -> Tenancy:
    """Bring the accounts up, and make what works by them; raises TenancyRefused."""
    config = settings.accounts_config
    database = Database(config)
    directory = Directory(database, config, now=time.time, dev=settings.access.dev)
    with _told():
        database.migrate()
        password = directory.first_admin(settings.access.admin_password or None)
        if (weak := directory.weak_users()) and not settings.access.dev:
            names = ", ".join(weak[:10])
            raise TenancyRefused(
                f"Everybody knows or guesses the password of {names}, which --dev let in. "
                "Run `forebay users password NAME` for each, or start with --dev."
            )
    denylist = Denylist(database)
    tokens = Tokens(SigningKeys(database, settings.tokens), denylist, settings.tokens)
    clerks = Clerks(threads=_CLERKS, asked_max=settings.access.lookups_max)
    bearers = Bearers(tokens, _external(settings, log))
    credentials = Credentials(
        _Finder(directory, bearers),
        settings.access,
        clerks=clerks,
        now=MONOTONIC,
        wall=time.time,
    )
    auditor = Auditor(Audit(database), settings.audit, now=time.time, log=log)
    if password is not None:
        auditor.note(AuditEvent(action=Action.USER_CREATED, target=ADMIN))
    hashing = Hashing(settings.login, MONOTONIC)
    parts = LoginParts(
        directory=directory,
        passwords=Passwords(config),
        tokens=tokens,
        denylist=denylist,
        hashing=hashing,
        clerks=clerks,
        note=auditor.note,
        changed=credentials.forget,
    )
    books = Books(database)
    archive = Clerks(threads=1, asked_max=_PAGES_MAX)
    return Tenancy(
        database=database,
        directory=directory,
        clerks=clerks,
        office=Clerks(threads=1, asked_max=_PAGES_MAX),
        archive=archive,
        credentials=credentials,
        auditor=auditor,
        bookkeeper=Bookkeeper(
            books, prices_of(settings.prices), config=settings.budgets, now=MONOTONIC, log=log
        ),
        bearers=bearers,
        usage=Usage(UsageLedger(database), books, archive, currency=settings.budgets.currency),
        login=Login(parts, settings.login, now=MONOTONIC, wall=time.time),
        hashing=hashing,
        first_password=None if settings.access.admin_password else password,
    )


def _external(settings: Settings, log: EventLog) -> Oidc | None:
    """Return who verifies tokens of another issuer; its keys are being fetched."""
    if not settings.oidc.issuer:
        return None
    jwks = Jwks(settings.oidc, log=log)
    jwks.fetch()
    return Oidc(jwks, settings.oidc)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say why the accounts cannot be used; never where they are, which is a secret."""
    try:
        yield
    except AccountsAway as error:
        raise TenancyRefused(
            "The accounts database cannot be asked. Check accounts.url, that its server runs, "
            "and that this user may write there."
        ) from error
    except AnotherSchema as error:
        raise TenancyRefused(str(error)) from error
    except Invalid as error:
        raise TenancyRefused(f"access.admin_password: {error.message}") from error


@dataclass(frozen=True, slots=True)
class _Notes:
    """Lines of the audit log on what callers have done."""

    auditor: Auditor
    address_of: AddressOf

    def __call__(
        self, exchange: Exchange, action: Action, target: str, /, **details: Detail
    ) -> None:
        """Note what a caller has done to whom."""
        self.auditor.note(
            AuditEvent(
                action=action,
                actor=exchange.caller.user,
                target=target,
                address=self.address_of(exchange),
                request_id=exchange.id,
                details=details,
            )
        )


@dataclass(frozen=True, slots=True)
class _Finder:
    """Whom a key or a token stands for; asked in threads."""

    directory: Directory
    bearers: Bearers

    def __call__(self, given: str) -> Caller | None:
        """Return the caller, or None for nobody; raises AccountsAway."""
        try:
            if given.startswith(api_key.PREFIX):
                return self.directory.caller_of_key(given, time.time())
            return self._bearer(given)
        except InvalidToken:
            return None

    def _bearer(self, given: str) -> Caller | None:
        claims = self.bearers.verify(given, time.time())
        if claims.role is not None:
            external = External(
                name=claims.user, tenant=claims.tenant, role=claims.role, issued=claims.issued
            )
            found = self.directory.caller_of_external(external)
            return found and replace(found, token_id=claims.token_id, expires=claims.expires)
        caller = self.directory.caller_of_user(claims.user, claims.issued)
        if caller is None:
            return None
        return replace(caller, token_id=claims.token_id, expires=claims.expires)
