"""Tenants, users and API keys: made, changed, found.  Each method is one transaction.

What is asked wrongly raises `core.errors.Invalid`, with status 404 for what is not there and 409
for what is there already.  A database that cannot be asked raises AccountsAway.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection

from forebay.accounts import api_key, callers, keys, users
from forebay.accounts.api_key import ApiKey
from forebay.accounts.callers import External
from forebay.accounts.config import AccountsConfig, RowRefused
from forebay.accounts.database import Database
from forebay.accounts.passwords import Passwords, generated_password, weakness
from forebay.accounts.people import (
    EXTERNAL,
    Key,
    NewKey,
    Tenant,
    User,
    UserChange,
    bounds_row,
    checked_bounds,
    checked_label,
    checked_models,
    checked_name,
    checked_scopes,
    is_name,
)
from forebay.core.caller import ANONYMOUS, UNBOUNDED, Bounds, Caller, Role
from forebay.core.clock import Clock
from forebay.core.errors import Invalid

ADMIN: Final = "admin"
"""The user that a first start makes."""
FIRST_TENANT: Final = "default"
PAGE_MAX: Final = 1_000


class Directory:
    """Who there is; safe to use from many threads."""

    def __init__(
        self, database: Database, config: AccountsConfig, *, now: Clock, dev: bool = False
    ) -> None:
        """Take the wall clock, in Unix seconds; `dev` lets known passwords in, and marks them."""
        self._database = database
        self._config = config
        self._now = now
        self._dev = dev
        self._passwords = Passwords(config)

    # Credentials.

    def caller_of_key(self, secret: str, now: float) -> Caller | None:
        """Return whom an API key's text stands for; None if it opens nothing at `now`."""
        if api_key.parse(secret) is None:
            return None
        with self._database.reading() as connection:
            return callers.caller_of_key(connection, secret, now)

    def caller_of_user(self, name: str, issued: float = math.inf) -> Caller | None:
        """Return a user who showed a token issued at `issued`; None if it may nothing any more."""
        if not is_name(name):
            return None
        with self._database.reading() as connection:
            return callers.caller_of_user(connection, name, issued)

    def caller_of_external(self, user: External) -> Caller | None:
        """Return a user whom an OpenID issuer vouches for; None if it or its tenant is disabled."""
        if not is_name(user.name) or not is_name(user.tenant) or user.tenant == ANONYMOUS:
            return None
        with self._database.reading() as connection:
            return callers.caller_of_external(connection, user)

    def password_of(self, name: str) -> str | None:
        """Return what is kept of a password; None: no such user, disabled, or without one."""
        if not is_name(name):
            return None
        with self._database.reading() as connection:
            return users.password_of(connection, name)

    def keep_password(
        self, name: str, hashed: str, *, ends_tokens: bool = False, instead_of: str | None = None
    ) -> None:
        """Keep what was hashed elsewhere: the same password anew, or one that `weakness` let in.

        With `ends_tokens` it is another password, and the user's older tokens are void.  With
        `instead_of` nothing is kept if it is not that any more: a password that was changed
        meanwhile must not come back.
        """
        row: dict[str, Any] = {"password": hashed}
        if ends_tokens:
            row |= {"weak": False, "tokens_from": self._now()}
        with self._database.writing() as connection:
            if instead_of is None or users.password_of(connection, name) == instead_of:
                users.change_user(connection, name, row)

    # Tenants.

    def create_tenant(self, name: str, bounds: Bounds = UNBOUNDED) -> Tenant:
        """Make a tenant."""
        checked_name(name, "tenant")
        row = {"name": name, "disabled": False, "created": self._now()}
        row |= bounds_row(checked_bounds(bounds))
        try:
            with self._database.writing() as connection:
                users.put_tenant(connection, row)
                return users.find_tenant(connection, name)
        except RowRefused as error:
            raise _taken("tenant", name) from error

    def change_tenant(
        self, name: str, *, bounds: Bounds | None = None, disabled: bool | None = None
    ) -> Tenant:
        """Change a tenant; None: it stays."""
        checked_name(name, "tenant")
        row: dict[str, Any] = {} if disabled is None else {"disabled": disabled}
        row |= {} if bounds is None else bounds_row(checked_bounds(bounds))
        with self._database.writing() as connection:
            users.find_tenant(connection, name, lock=True)
            if row:
                users.change_tenant(connection, name, row)
            return users.find_tenant(connection, name)

    def tenant(self, name: str) -> Tenant:
        """Return a tenant."""
        checked_name(name, "tenant")
        with self._database.reading() as connection:
            return users.find_tenant(connection, name)

    def tenants(self, after: str = "", count: int = 100) -> list[Tenant]:
        """Return tenants in order of their names, those after a name."""
        with self._database.reading() as connection:
            return users.tenant_page(connection, _after(after), min(count, PAGE_MAX))

    # Users.

    def create_user(
        self,
        name: str,
        *,
        role: Role = Role.USER,
        tenant: str = "",
        password: str | None = None,
        bounds: Bounds = UNBOUNDED,
    ) -> User:
        """Make a user, and its tenant if there is none; without a password, a service account.

        An empty tenant is the one of the user's own name.
        """
        checked_name(name, "user")
        tenant = checked_name(tenant or name, "tenant")
        row: dict[str, Any] = {"name": name, "tenant": tenant, "role": role.value}
        row |= {"disabled": False, "created": self._now(), "tokens_from": 0.0}
        row |= bounds_row(checked_bounds(bounds)) | self._password_row(name, password or "")
        try:
            with self._database.writing() as connection:
                self._check_room(connection)
                self._ensure_tenant(connection, tenant)
                users.put_user(connection, row)
                return users.find_user(connection, name)
        except RowRefused as error:
            raise _taken("user", name) from error

    def change_user(self, name: str, change: UserChange) -> User:
        """Change a user; a new password, role or tenant, and disabling it, end its tokens."""
        checked_name(name, "user")
        row = self._changed(name, change)
        with self._database.writing() as connection:
            users.find_user(connection, name, lock=True)
            if change.tenant is not None:
                self._ensure_tenant(connection, change.tenant)
            if row:
                users.change_user(connection, name, row)
            return users.find_user(connection, name)

    def end_tokens(self, name: str) -> None:
        """Void every token that was issued to a user until now."""
        with self._database.writing() as connection:
            users.find_user(connection, checked_name(name, "user"), lock=True)
            users.change_user(connection, name, {"tokens_from": self._now()})

    def user(self, name: str) -> User:
        """Return a user."""
        checked_name(name, "user")
        with self._database.reading() as connection:
            return users.find_user(connection, name)

    def users(self, after: str = "", count: int = 100) -> list[User]:
        """Return users in order of their names, those after a name."""
        with self._database.reading() as connection:
            return users.user_page(connection, _after(after), min(count, PAGE_MAX))

    def weak_users(self) -> list[str]:
        """Return the users whose known password --dev let in: nobody else may start with them."""
        with self._database.reading() as connection:
            return users.weak_users(connection, PAGE_MAX)

    def first_admin(self, password: str | None = None) -> str | None:
        """Make the user `admin` if no user is an admin; return its password, to be shown once.

        None: there is an admin, another gateway was first, or `admin` is somebody else's name.
        """
        with self._database.reading() as connection:
            if users.has_admin(connection):
                return None
        password = password or generated_password()
        try:
            self.create_user(ADMIN, role=Role.ADMIN, tenant=FIRST_TENANT, password=password)
        except Invalid as error:
            if error.status == _CONFLICT:
                return None
            raise
        return password

    # Keys.

    def create_key(self, wish: NewKey) -> tuple[Key, str]:
        """Make a key; return it and its text, which is kept by nobody here."""
        made = api_key.make()
        row = _new_key_row(wish, made) | {"created": self._now()}
        with self._database.writing() as connection:
            user = users.find_user(connection, wish.user, lock=True)
            scopes = checked_scopes(wish.scopes, user.role)
            if keys.count_keys(connection, wish.user) >= self._config.keys_max:
                raise Invalid(
                    f"The user has {self._config.keys_max} keys, the most there may be; revoke "
                    f"one, or raise accounts.keys_max.",
                    param="user",
                    status=_CONFLICT,
                )
            keys.put_key(connection, row | {"scopes": keys.scopes_text(scopes)})
            return keys.find_key(connection, made.id), made.text

    def key(self, id: str) -> Key:
        """Return a key."""
        with self._database.reading() as connection:
            return keys.find_key(connection, _checked_id(id))

    def keys(self, user: str | None = None, after: str = "", *, count: int = 100) -> list[Key]:
        """Return keys in order of their ids, those after an id; of one user, or of all."""
        if user is not None:
            checked_name(user, "user")
        with self._database.reading() as connection:
            return keys.key_page(connection, user, _after(after), count=min(count, PAGE_MAX))

    def revoke_key(self, id: str) -> Key:
        """End a key at once, for good."""
        with self._database.writing() as connection:
            key = keys.find_key(connection, _checked_id(id), lock=True)
            if key.revoked is None:
                keys.change_key(connection, id, {"revoked": self._now()})
            return keys.find_key(connection, id)

    def rotate_key(self, id: str, overlap_s: float) -> tuple[Key, str]:
        """Give a key a new text; the old one opens the same for `overlap_s` more.

        The id stays, and with it limits, budgets and usage.  One that was replaced before ends.
        """
        if not 0.0 <= overlap_s <= _OVERLAP_S_MAX:
            raise Invalid(
                f"overlap_s must be a number of seconds from 0 to {_OVERLAP_S_MAX}.",
                param="overlap_s",
            )
        made = api_key.make(_checked_id(id))
        with self._database.writing() as connection:
            row = keys.key_row(connection, id, lock=True)
            now = self._now()
            if not keys.find_key(connection, id).active(now):
                raise Invalid("The key has ended; make a new one.", param="id", status=_CONFLICT)
            assert row is not None
            old = {"old_digest": row["digest"], "old_last4": row["last4"]}
            new = {"digest": made.digest, "last4": made.last4, "old_ends": now + overlap_s}
            keys.change_key(connection, id, old | new)
            return keys.find_key(connection, id), made.text

    def touch_keys(self, used: Mapping[str, float]) -> None:
        """Note when keys were used last, in Unix seconds; an earlier moment changes nothing."""
        if used:
            with self._database.writing() as connection:
                keys.touch_keys(connection, used)

    def _password_row(self, name: str, password: str) -> dict[str, Any]:
        """Return a password as columns, or raise Invalid; slow on purpose."""
        if not password:
            return {"password": "", "weak": False}
        if name.startswith(EXTERNAL):
            raise Invalid(
                f"A user whose name begins with {EXTERNAL} logs in at its issuer and has no "
                f"password here.",
                param="password",
            )
        weak = weakness(password, name)
        if weak and not self._dev:
            raise Invalid(weak, param="password")
        return {"password": self._passwords.hashed(password), "weak": weak is not None}

    def _changed(self, name: str, change: UserChange) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if change.tenant is not None:
            row["tenant"] = checked_name(change.tenant, "tenant")
        if change.role is not None:
            row["role"] = change.role.value
        if change.disabled is not None:
            row["disabled"] = change.disabled
        if change.password is not None:
            row |= self._password_row(name, change.password)
        if row:
            row["tokens_from"] = self._now()
        if change.bounds is not None:
            row |= bounds_row(checked_bounds(change.bounds))
        return row

    def _check_room(self, connection: Connection) -> None:
        if users.count_users(connection) >= self._config.users_max:
            raise Invalid(
                f"There are {self._config.users_max} users, the most there may be; raise "
                f"accounts.users_max.",
                param="user",
            )

    def _ensure_tenant(self, connection: Connection, name: str) -> None:
        row = {"name": name, "disabled": False, "created": self._now()}
        users.ensure_tenant(connection, row | bounds_row(UNBOUNDED))


_CONFLICT: Final = 409
_OVERLAP_S_MAX: Final = 90 * 86_400


def _new_key_row(wish: NewKey, made: ApiKey) -> dict[str, Any]:
    """Return a new key as columns, all but its scopes; raises Invalid."""
    checked_name(wish.user, "user")
    row: dict[str, Any] = {"id": made.id, "digest": made.digest, "last4": made.last4}
    row |= {"user_name": wish.user, "label": checked_label(wish.name)}
    row |= {"models": keys.models_text(checked_models(wish.models))}
    row |= {"expires": None if math.isinf(wish.expires) else wish.expires}
    return row | bounds_row(checked_bounds(wish.bounds))


def _checked_id(id: str) -> str:
    if not api_key.is_id(id):
        raise Invalid("No API key has this id.", param="id", status=404)
    return id


def _after(name: str) -> str:
    """Return where a page begins; what is no name begins it at the start."""
    return name if is_name(name) else ""


def _taken(kind: str, name: str) -> Invalid:
    return Invalid(
        f"There is a {kind} {name} already, or one that differs in capitals only; choose another "
        f"name.",
        param=kind,
        status=_CONFLICT,
    )
