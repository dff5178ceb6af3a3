"""Rows of API keys: what is asked and changed inside somebody's transaction."""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, bindparam, func, insert, or_, select, update

from forebay.accounts.people import Key, bounds_of
from forebay.accounts.schema import API_KEYS
from forebay.core.caller import Right
from forebay.core.errors import Invalid

_ID: Final[BindParameter[str]] = bindparam("id_is")
_KEY: Final = select(API_KEYS).where(API_KEYS.c.id == _ID)
_USER_NAME: Final[BindParameter[str]] = bindparam("user_is")
_PAGE: Final = (
    select(API_KEYS)
    .where(API_KEYS.c.id > bindparam("after"))
    .order_by(API_KEYS.c.id)
    .limit(bindparam("count"))
)
_USERS_PAGE: Final = _PAGE.where(API_KEYS.c.user_name == _USER_NAME)
_USED: Final = (
    update(API_KEYS)
    .where(API_KEYS.c.id == _ID)
    .where(or_(API_KEYS.c.last_used.is_(None), API_KEYS.c.last_used < bindparam("at")))
    .values(last_used=bindparam("at"))
)
_KNOWN: Final = frozenset(Right)


def find_key(connection: Connection, id: str, *, lock: bool = False) -> Key:
    """Return a key, or raise Invalid with 404; `lock`: nobody changes it meanwhile."""
    row = key_row(connection, id, lock=lock)
    if row is None:
        raise Invalid("No API key has this id.", param="id", status=404)
    return key_of(row)


def key_row(connection: Connection, id: str, *, lock: bool = False) -> Mapping[Any, Any] | None:
    """Return the columns of a key."""
    statement = _KEY.with_for_update() if lock else _KEY
    return connection.execute(statement, {"id_is": id}).mappings().first()


def key_page(connection: Connection, user: str | None, after: str, *, count: int) -> list[Key]:
    """Return keys whose ids come after one, in order; of one user, or of all."""
    page = {"after": after, "count": count}
    if user is None:
        rows = connection.execute(_PAGE, page)
    else:
        rows = connection.execute(_USERS_PAGE, {**page, "user_is": user})
    return [key_of(row) for row in rows.mappings()]


def count_keys(connection: Connection, user: str) -> int:
    """Return how many keys of a user's are not revoked."""
    statement = (
        select(func.count())
        .select_from(API_KEYS)
        .where(API_KEYS.c.user_name == _USER_NAME, API_KEYS.c.revoked.is_(None))
    )
    return int(connection.execute(statement, {"user_is": user}).scalar_one())


def put_key(connection: Connection, row: Mapping[str, Any]) -> None:
    """Add a key."""
    connection.execute(insert(API_KEYS), row)


def change_key(connection: Connection, id: str, row: Mapping[str, Any]) -> None:
    """Change columns of a key."""
    connection.execute(update(API_KEYS).where(API_KEYS.c.id == _ID), {**row, "id_is": id})


def touch_keys(connection: Connection, used: Mapping[str, float]) -> None:
    """Note when keys were used last; in one order, so that two who do it never wait in a ring."""
    connection.execute(_USED, [{"id_is": id, "at": used[id]} for id in sorted(used)])


def key_of(row: Mapping[Any, Any]) -> Key:
    """Return a row as a key."""
    return Key(
        id=row["id"],
        user=row["user_name"],
        name=row["label"],
        last4=row["last4"],
        scopes=scopes_of(row["scopes"]),
        models=models_of(row["models"]),
        bounds=bounds_of(row),
        created=row["created"],
        expires=math.inf if row["expires"] is None else row["expires"],
        revoked=row["revoked"],
        last_used=row["last_used"],
        old_last4=row["old_last4"],
        old_ends=row["old_ends"],
    )


def scopes_text(scopes: frozenset[Right]) -> str:
    """Return scopes as a column."""
    return " ".join(sorted(scopes))


def scopes_of(column: str) -> frozenset[Right]:
    """Return scopes in a column; those of a newer version of this program mean nothing here."""
    return frozenset(Right(name) for name in column.split() if name in _KNOWN)


def models_text(models: frozenset[str] | None) -> str | None:
    """Return names of models as a column."""
    return None if models is None else json.dumps(sorted(models))


def models_of(column: str | None) -> frozenset[str] | None:
    """Return names of models in a column."""
    return None if column is None else frozenset(json.loads(column))
