"""Who a credential stands for: one query, for it is asked before anything else is done.

A caller is found with all that it is charged to: its key, its user and its tenant, the limits of
each, and whether each has a budget.
"""

import hmac
import math
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    bindparam,
    case,
    exists,
    func,
    select,
    true,
)

from forebay.accounts import api_key
from forebay.accounts.keys import models_of, scopes_of
from forebay.accounts.people import bounds_of
from forebay.accounts.schema import API_KEYS, BUDGETS, TENANTS, USERS
from forebay.core.caller import RIGHTS, Account, Caller, Level, Right, Role
from forebay.core.value import value

_BOUNDS: Final = (
    "requests_amount",
    "requests_period_s",
    "tokens_amount",
    "tokens_period_s",
    "concurrent",
)


def _account(table: Table, level: Level, id: ColumnElement[str]) -> list[ColumnElement[Any]]:
    """Return the columns that say how an account is limited, each under its level's name."""
    budget = exists().where(BUDGETS.c.level == level.value, BUDGETS.c.account == id)
    bounds = [table.c[name].label(f"{level}_{name}") for name in _BOUNDS]
    return [*bounds, budget.label(f"{level}_budgeted")]


_OF_USER: Final = (
    USERS.c.name.label("user"),
    USERS.c.tenant.label("tenant"),
    USERS.c.role.label("role"),
    USERS.c.tokens_from.label("tokens_from"),
    *_account(USERS, Level.USER, USERS.c.name),
    *_account(TENANTS, Level.TENANT, TENANTS.c.name),
)
_ENABLED: Final = (~USERS.c.disabled, ~TENANTS.c.disabled)
# An id that no key has finds the first key all the same, which then does not fit: a row is read,
# and both are looked for, whatever is asked, so that the time does not tell which ids there are.
_ID: Final[BindParameter[str]] = bindparam("id_is", type_=Text)
_OTHERS: Final = API_KEYS.alias("others")
_FIRST: Final = select(func.min(_OTHERS.c.id)).scalar_subquery()
_NAMED: Final = select(_OTHERS.c.id).where(_OTHERS.c.id == _ID).scalar_subquery()
_BY_KEY: Final = (
    select(
        API_KEYS.c.digest,
        API_KEYS.c.old_digest,
        API_KEYS.c.old_ends,
        API_KEYS.c.scopes,
        API_KEYS.c.models,
        API_KEYS.c.expires,
        API_KEYS.c.revoked,
        and_(*_ENABLED).label("enabled"),
        *_account(API_KEYS, Level.KEY, API_KEYS.c.id),
        *_OF_USER,
    )
    .join_from(API_KEYS, USERS, USERS.c.name == API_KEYS.c.user_name)
    .join(TENANTS, TENANTS.c.name == USERS.c.tenant)
    .where(API_KEYS.c.id == case((_FIRST == _ID, _FIRST), else_=func.coalesce(_NAMED, _FIRST)))
)
_BY_NAME: Final = (
    select(*_OF_USER)
    .join_from(USERS, TENANTS, TENANTS.c.name == USERS.c.tenant)
    .where(USERS.c.name == bindparam("name_is"), *_ENABLED)
)
_ASKED: Final = select(
    bindparam("name_is", type_=Text).label("user"),
    bindparam("tenant_is", type_=Text).label("tenant"),
).subquery("asked")
_EXTERNAL: Final = (
    select(
        _ASKED.c.user,
        _ASKED.c.tenant,
        USERS.c.tokens_from,
        *_account(USERS, Level.USER, _ASKED.c.user),
        *_account(TENANTS, Level.TENANT, _ASKED.c.tenant),
    )
    .select_from(_ASKED)
    .outerjoin(USERS, USERS.c.name == _ASKED.c.user)
    .outerjoin(TENANTS, TENANTS.c.name == _ASKED.c.tenant)
    .where(USERS.c.disabled.is_not(true()), TENANTS.c.disabled.is_not(true()))
)
_NO_DIGEST: Final = "0" * 64


def caller_of_key(connection: Connection, secret: str, now: float) -> Caller | None:
    """Return whom an API key's text stands for; None if it opens nothing."""
    id = api_key.parse(secret)
    if id is None:
        return None
    row = connection.execute(_BY_KEY, {"id_is": id}).mappings().first()
    expires = _ends(row or {}, api_key.digest(secret))
    if row is None or expires <= now or row["revoked"] is not None or not row["enabled"]:
        return None
    return Caller(
        tenant=row["tenant"],
        user=row["user"],
        key_id=id,
        rights=scopes_of(row["scopes"]) & _rights(row),
        models=models_of(row["models"]),
        accounts=(_charged(row, Level.KEY, id), *_accounts(row)),
        expires=expires,
    )


def caller_of_user(connection: Connection, name: str, issued: float) -> Caller | None:
    """Return a user who showed a token issued at `issued`; None if it may nothing any more."""
    row = connection.execute(_BY_NAME, {"name_is": name}).mappings().first()
    if row is None or issued < row["tokens_from"]:
        return None
    return Caller(
        tenant=row["tenant"],
        user=row["user"],
        rights=_rights(row),
        accounts=_accounts(row),
    )


@value
class External:
    """A user whom an OpenID issuer vouches for, and whom nobody need have made here."""

    name: str
    tenant: str
    role: Role
    issued: float
    """When its token was, Unix seconds."""


def caller_of_external(connection: Connection, user: External) -> Caller | None:
    """Return a user of an issuer's; rows of that name may disable or bound it, or its tenant."""
    asked = {"name_is": user.name, "tenant_is": user.tenant}
    row = connection.execute(_EXTERNAL, asked).mappings().first()
    if row is None or user.issued < (row["tokens_from"] or 0.0):
        return None
    return Caller(
        tenant=user.tenant, user=user.name, rights=RIGHTS[user.role], accounts=_accounts(row)
    )


def _ends(row: Mapping[Any, Any], digest: str) -> float:
    """Return when a key with this digest ends; in the past if the digest is none of its own.

    Both comparisons are made whatever the first says, and take as long as they take.
    """
    new = hmac.compare_digest(row.get("digest") or _NO_DIGEST, digest)
    old = hmac.compare_digest(row.get("old_digest") or _NO_DIGEST, digest)
    expires = row.get("expires")
    expires = math.inf if expires is None else expires
    if new:
        return float(expires)
    return min(expires, row.get("old_ends") or -math.inf) if old else -math.inf


def _rights(row: Mapping[Any, Any]) -> frozenset[Right]:
    """Return what a role may; one of a newer version of this program may nothing here."""
    return RIGHTS.get(row["role"], frozenset())


def _accounts(row: Mapping[Any, Any]) -> tuple[Account, Account]:
    return _charged(row, Level.USER, row["user"]), _charged(row, Level.TENANT, row["tenant"])


def _charged(row: Mapping[Any, Any], level: Level, id: str) -> Account:
    return Account(
        level=level,
        id=id,
        bounds=bounds_of(row, f"{level}_"),
        budgeted=bool(row[f"{level}_budgeted"]),
    )
